import { AshlarError } from './errors.ts';

const UNITS: Readonly<Record<string, number>> = { '': 1, B: 1, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 };
const DURATIONS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `4GiB`, `512KiB`, `4096` → bytes. */
export function parseSizeBytes(text: string): number {
  const match = /^([0-9]+(?:\.[0-9]+)?)([KMGT]iB|B|)$/.exec(text.trim());
  const bytes = match ? Number(match[1]) * (UNITS[match[2] ?? ''] ?? NaN) : NaN;
  if (!Number.isSafeInteger(bytes)) throw new AshlarError('invalid-argument', `"${text}" is not a size such as 512MiB or 4GiB`);
  return bytes;
}

/** `60s`, `250ms`, `5m`, `0` → milliseconds. */
export function parseDurationMs(text: string): number {
  if (text.trim() === '0') return 0;
  const match = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)$/.exec(text.trim());
  if (!match) throw new AshlarError('invalid-argument', `"${text}" is not a duration such as 250ms, 60s or 5m`);
  return Number(match[1]) * (DURATIONS[match[2] as string] as number);
}

export function formatBytes(bytes: number): string {
  for (const unit of ['TiB', 'GiB', 'MiB', 'KiB']) {
    const size = UNITS[unit] as number;
    if (bytes >= size) return `${(bytes / size).toFixed(bytes % size === 0 ? 0 : 1)} ${unit}`;
  }
  return `${bytes} B`;
}
