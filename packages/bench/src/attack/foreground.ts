import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Load, runLoad, type LoadTarget } from '@ashlar/load';

/** 70/30, 4 KiB, as the goals of what runs beside other work are stated. */
const READ_PERCENT = 70;
const DEPTH = 32;
const MOST_MS = 10_000;
const RECONNECT_MS = 300_000;

/** What programs noticed in one stretch of a run. */
export interface Part {
  readonly what: string;
  readonly seconds: number;
  readonly readP99Ms: number;
  readonly writeP99Ms: number;
  readonly longestStallMs: number;
  readonly errors: number;
}

/** A verified load at half of what is possible, that goes on for the whole run and is looked at part by part. */
export class Foreground {
  readonly load: Load;
  readonly requestsPerSecond: number;
  readonly parts: Part[] = [];

  private constructor(load: Load, requestsPerSecond: number) {
    this.load = load;
    this.requestsPerSecond = requestsPerSecond;
  }

  /**
   * Fills the volumes, measures what is possible for ten seconds, and begins at half of that, when the disk has all of it: what was filled is written
   * back for a minute on a slow one, and the calm part would be measured in that.
   */
  static async begin(targets: readonly LoadTarget[], regionBytes: number, seed: number): Promise<Foreground> {
    const shape = { targets, readPercent: READ_PERCENT, depth: Math.max(1, Math.ceil(DEPTH / targets.length)), regionBytes, reconnectTimeoutMs: RECONNECT_MS };
    const most = await runLoad({ ...shape, durationMs: MOST_MS, fill: true, seed });
    const rate = Math.max(1, Math.floor(most.requestsPerSecond / 2));
    await promisify(execFile)('sync');
    const load = await Load.open({ ...shape, durationMs: 0, rate, seed: seed + 1 });
    load.start();
    return new Foreground(load, rate);
  }

  /** Carries it out, and keeps what the load met meanwhile. */
  async part(what: string, run: () => Promise<void>): Promise<Part> {
    const before = this.load.latencies();
    const { errorCount } = this.load;
    const fromMs = performance.now();
    await run();
    const toMs = performance.now();
    const after = this.load.latencies();
    const part = {
      what, seconds: (toMs - fromMs) / 1000, readP99Ms: after.read.since(before.read).percentileMs(99), writeP99Ms: after.write.since(before.write).percentileMs(99),
      longestStallMs: this.load.longestStallMsBetween(fromMs, toMs), errors: this.load.errorCount - errorCount,
    };
    this.parts.push(part);
    process.stderr.write(`${what}: ${part.seconds.toFixed(1)} s, p99 ${part.readP99Ms.toFixed(1)} and ${part.writeP99Ms.toFixed(1)} ms, longest stall ${part.longestStallMs.toFixed(0)} ms, ${part.errors} errors\n`);
    return part;
  }
}

/** How many times the p99 of the calm part, of reads or writes, whichever is worse. */
export function timesCalm(part: Part, calm: Part): number {
  return Math.max(part.readP99Ms / calm.readP99Ms, part.writeP99Ms / calm.writeP99Ms);
}

export function partsTable(parts: readonly Part[]): readonly string[] {
  const calm = parts[0] as Part;
  return [
    '| part | seconds | p99 of reads | p99 of writes | times calm | longest stall | requests that failed |', '|---|---|---|---|---|---|---|',
    ...parts.map((part) => `| ${part.what} | ${part.seconds.toFixed(1)} | ${part.readP99Ms.toFixed(2)} ms | ${part.writeP99Ms.toFixed(2)} ms | ${timesCalm(part, calm).toFixed(1)} | ${part.longestStallMs.toFixed(0)} ms | ${part.errors} |`),
  ];
}

/** One line of what was to be shown. */
export interface Shown {
  readonly what: string;
  readonly found: string;
  readonly goal: string;
  readonly met: boolean;
}

export function shownTable(lines: readonly Shown[]): readonly string[] {
  return ['| what | found | goal | |', '|---|---|---|---|', ...lines.map(({ what, found, goal, met }) => `| ${what} | ${found} | ${goal} | ${met ? 'met' : '**missed**'} |`)];
}
