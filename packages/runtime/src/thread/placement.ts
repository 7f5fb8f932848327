import type { PlacedActors, PlacementPolicy, ThreadView } from '../api.ts';

/**
 * Where its affinity is, else the emptiest thread. A hop between threads costs 20–140 µs at depth 1, so that what talks on the
 * block path must share a thread; what does not is spread.
 */
export function placeByAffinity(affinityOf: (groupId: string) => string | undefined): PlacementPolicy {
  return (group: PlacedActors, threads: readonly ThreadView[]): number => {
    const together = threads.findIndex((thread) => thread.groups.some((id) => affinityOf(id) === group.affinity));
    if (together >= 0) return together;
    let emptiest = 0;
    threads.forEach((thread, index) => { if (thread.groups.length < (threads[emptiest] as ThreadView).groups.length) emptiest = index; });
    return emptiest;
  };
}
