/** Each is a promise of docs/GUARANTEES.md that the simulator watches; the number is the invariant's. */
export const INVARIANTS = {
  'one-primary': '1 one primary per (volume, epoch), and no role resumed by a later life',
  'decided-once': '1 no two configurations of one epoch are ever told to anybody, also by managers over different stores',
  'recovered': 'a volume that was not deleted is known to every manager that acts',
  'promised-epoch': '2 a mirror never applies a frame below its promised epoch',
  'promise-kept': '2 an epoch that was promised is remembered after a power cut',
  'answered-everywhere': '3 every answered write is in the journal of all current in-sync members',
  'committed-prefix': '4 committed prefixes agree; a new primary settles its prepared tail',
  'read-linearizable': '5 a read shows the newest answered value, and none that later vanishes',
  'write-linearizable': '4 answered writes take effect between call and answer',
  'wrong-bytes': '6 never wrong bytes: what is read was once written there',
  'applied-once': '6 retries apply once, never after a later overlapping answered write',
  'sectors-kept': '6 two writes into one block never lose each other',
  'joined-verified': '7 a copy becomes in-sync only after full verification',
  'quiet-identical': '8 quiet copies are byte-identical',
  'writable-again': '12 once faults stop the volume is writable within a bound',
  'whole-again': '12 once faults stop all copies wanted are in sync again within a bound',
  'old-session': '13 no request of an older session generation is applied after a newer one was answered',
  'backing-hidden': '14 a block never shows its backing after it was written or trimmed',
  'flushed-survives': '6 what was flushed survives the loss of power of all',
  'sole-synced': '6 with one copy in sync every answer waits for fdatasync',
  'minimum': '8 nothing is answered below the minimum of copies',
  'copies-kept': '12 a copy leaves on order only when as many others as are wanted are in sync',
  'never-a-lie': 'every request is answered once, with its own outcome',
  'store-survives': 'what a store called durable is there when it is opened again',
  'defect': 'no core breaks an assertion of its own except by a poison request',
  'deterministic': 'the same seed and commit give the same trace',
} as const;

export type Invariant = keyof typeof INVARIANTS;

/** A promise was broken. Ends the run. */
export class Violation extends Error {
  override readonly name = 'Violation';
  readonly invariant: Invariant;

  constructor(invariant: Invariant, detail: string) {
    super(`${invariant}: ${detail}`);
    this.invariant = invariant;
  }
}

export function check(condition: boolean, invariant: Invariant, detail: () => string): asserts condition {
  if (!condition) throw new Violation(invariant, detail());
}
