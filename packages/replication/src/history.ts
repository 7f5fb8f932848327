import type { EpochStart } from '@ashlar/protocol';

export interface History {
  readonly epochStarts: readonly EpochStart[];
  readonly lastSeq: number;
}

/**
 * The last sequence number up to which two logs hold the same records, or -1 if their epoch tables do not tell.
 * Within one epoch a single primary wrote a single history, so the logs agree in the latest epoch that both hold as
 * far as both reach. Comparing sequence numbers alone would take records of different epochs for the same.
 */
export function commonSeq(a: History, b: History): number {
  if (a.lastSeq === 0 || b.lastSeq === 0) return 0;
  let i = a.epochStarts.length - 1;
  let j = b.epochStarts.length - 1;
  while (i >= 0 && j >= 0) {
    const x = a.epochStarts[i] as EpochStart;
    const y = b.epochStarts[j] as EpochStart;
    if (x.epoch === y.epoch) {
      // A table whose older entries were dropped begins in the middle of an epoch; nothing can be said below it.
      if (x.firstSeq !== y.firstSeq) return -1;
      return Math.min(endOf(a, i), endOf(b, j));
    }
    if (x.epoch > y.epoch) i--; else j--;
  }
  return startsAtOne(a) && startsAtOne(b) ? 0 : -1;
}

function startsAtOne(history: History): boolean {
  return history.epochStarts[0]?.firstSeq === 1;
}

function endOf(history: History, i: number): number {
  const next = history.epochStarts[i + 1];
  return next ? next.firstSeq - 1 : history.lastSeq;
}
