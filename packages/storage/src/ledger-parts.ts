import type { DeletedVolume, HeldCopy, KeptRecord } from '@ashlar/protocol';

/** Entries and letters of one part: a message of at most 4 MiB and 262,144 fields takes many times this. */
const PART_ENTRIES = 500;
const PART_LETTERS = 2 ** 19;

export interface LedgerPart {
  readonly part: number;
  readonly last: boolean;
  readonly records: readonly KeptRecord[];
  readonly deleted: readonly DeletedVolume[];
  readonly copies: readonly HeldCopy[];
}

/** What a server keeps, in messages of a bounded size. */
export function ledgerParts(records: readonly KeptRecord[], deleted: readonly DeletedVolume[], copies: readonly HeldCopy[]): LedgerPart[] {
  const lots = [...lotsOf(records).map((lot) => ({ records: lot, deleted: [], copies: [] })), ...plainLots(deleted).map((lot) => ({ records: [], deleted: lot, copies: [] })),
    ...plainLots(copies).map((lot) => ({ records: [], deleted: [], copies: lot }))];
  if (lots.length === 0) lots.push({ records: [], deleted: [], copies: [] });
  return lots.map((lot, part) => ({ ...lot, part, last: part === lots.length - 1 }));
}

function lotsOf(records: readonly KeptRecord[]): KeptRecord[][] {
  const lots: KeptRecord[][] = [];
  let letters = Infinity;
  for (const record of records) {
    if (letters + record.text.length > PART_LETTERS || (lots.at(-1)?.length ?? 0) >= PART_ENTRIES) {
      lots.push([]);
      letters = 0;
    }
    (lots.at(-1) as KeptRecord[]).push(record);
    letters += record.text.length;
  }
  return lots;
}

function plainLots<T>(entries: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(entries.length / PART_ENTRIES) }, (_, i) => entries.slice(i * PART_ENTRIES, (i + 1) * PART_ENTRIES));
}
