import { DISK_KINDS, type DiskKind } from '@ashlar/protocol';
import { AshlarError } from '@ashlar/words';

const UNITS: Readonly<Record<string, number>> = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const TIMES: Readonly<Record<string, number>> = { '': 1000, ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `4GiB`, `512MiB`, `4096`: bytes. */
export function parseSize(text: string): number {
  const match = /^(\d{1,16}(?:\.\d{1,6})?)(B|KiB|MiB|GiB|TiB)?$/.exec(text);
  const bytes = match ? Number(match[1]) * (UNITS[match[2] ?? ''] as number) : Number.NaN;
  if (!Number.isSafeInteger(bytes)) throw new AshlarError('invalid-argument', `"${text}" is not a size (for example 4GiB, 512MiB, 65536)`);
  return bytes;
}

/** `60s`, `500ms`, `2m`, `0`: milliseconds. A bare number is seconds. */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)?$/.exec(text);
  if (!match) throw new AshlarError('invalid-argument', `"${text}" is not a duration (for example 60s, 500ms, 2m)`);
  return Math.round(Number(match[1]) * (TIMES[match[2] ?? ''] as number));
}

export function parseDiskKind(text: string): DiskKind {
  const kind = DISK_KINDS.find((known) => known === text);
  if (kind === undefined) throw new AshlarError('invalid-argument', `a disk is one of ${DISK_KINDS.join(', ')}; got "${text}"`);
  return kind;
}

export function parseCount(text: string, what: string, min: number, max: number): number {
  const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= min && value <= max)) throw new AshlarError('invalid-argument', `${what} is a whole number between ${min} and ${max}; got "${text}"`);
  return value;
}

export function showSize(bytes: number): string {
  for (const unit of ['TiB', 'GiB', 'MiB', 'KiB'] as const) {
    const of = UNITS[unit] as number;
    if (bytes >= of) return `${Number((bytes / of).toFixed(2))} ${unit}`;
  }
  return `${bytes} B`;
}
