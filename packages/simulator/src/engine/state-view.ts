import { Frame } from '@ashlar/protocol';
import { describe } from './describe.ts';

/** Longer lists are shown by their length and last element. */
const LIST_MAX = 6;
const DEPTH_MAX = 6;
/** What is not an actor's own state, or changes with every event and says nothing. */
const SKIPPED = new Set(['fx', 'log', 'leases', 'prng', 'nowMs', 'chains', 'wallOffsetMs', 'attentiveMs', 'options', 'tickDueMs', 'toldStatus']);

/** State as paths and values: `leader.peers.server-2.ackSeq` → `17`. */
export type StateView = ReadonlyMap<string, string>;

export function viewOf(state: Readonly<Record<string, unknown>>): StateView {
  const view = new Map<string, string>();
  for (const [name, value] of Object.entries(state)) put(view, name, value, 0);
  return view;
}

function put(view: Map<string, string>, path: string, value: unknown, depth: number): void {
  if (value === undefined || typeof value === 'function') return;
  if (value === null || typeof value !== 'object' || value instanceof Frame || value instanceof Uint8Array || depth >= DEPTH_MAX) {
    view.set(path, describe(value));
    return;
  }
  const entries = value instanceof Map ? [...value] : Array.isArray(value) || value instanceof Set ? named([...value as Iterable<unknown>]) : Object.entries(value);
  if (entries.length === 0) view.set(path, 'none');
  else if (entries.length > LIST_MAX && !(value instanceof Map) && (Array.isArray(value) || value instanceof Set)) {
    view.set(path, `${entries.length}, the last ${describe(entries.at(-1)?.[1])}`);
  } else for (const [name, inner] of entries) if (!SKIPPED.has(String(name)) && !String(name).endsWith('Ms')) put(view, `${path}.${String(name)}`, inner, depth + 1);
}

/** Elements that name a server are known by it, so that one that leaves does not look like a change of all behind it. */
function named(elements: readonly unknown[]): [string, unknown][] {
  return elements.map((element, index) => {
    const id = typeof element === 'object' && element !== null && 'serverId' in element ? String(element.serverId) : String(index);
    return [id, element];
  });
}

/** One line for each path that is new, gone, or has another value. */
export function difference(before: StateView, after: StateView): string[] {
  const lines: string[] = [];
  for (const [path, value] of after) {
    const old = before.get(path);
    if (old === undefined) lines.push(`${path} = ${value}`);
    else if (old !== value) lines.push(`${path}: ${old} → ${value}`);
  }
  for (const path of before.keys()) if (!after.has(path)) lines.push(`${path} gone`);
  return lines;
}
