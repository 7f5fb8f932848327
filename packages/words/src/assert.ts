/** A broken assumption of our own. Kills the actor it happens in; never caught to be ignored. */
export class Defect extends Error {
  override readonly name = 'Defect';
}

export function assert(condition: unknown, message = 'assertion failed'): asserts condition {
  if (!condition) throw new Defect(message);
}

export function unreachable(value: never): never {
  throw new Defect(`unreachable: ${String(value)}`);
}
