import type { RunOutcome } from './run.ts';
import { SCENARIOS } from './scenarios.ts';

const SHOWN = [
  'promotions', 'truncations', 'joins', 'journalCatchUps', 'comparisons', 'rebuilds', 'filledExtents', 'deduplicatedRetries', 'refusedSessions', 'quarantines', 'givenUp', 'storesRefused', 'storesRecovered', 'fencedFrames',
  'removals', 'losses', 'answered', 'failed',
] as const;

/** What must have happened at least once somewhere: a run that never saw it says nothing about it. */
const MUST_HAPPEN = ['promotions', 'truncations', 'joins', 'journalCatchUps', 'comparisons', 'rebuilds', 'deduplicatedRetries', 'refusedSessions', 'quarantines', 'givenUp'] as const;
/** Shorter runs than this may well have missed some of it. */
const MUST_HAPPEN_AFTER_S = 60;

interface Line {
  runs: number;
  events: number;
  frames: number;
  faults: number;
  virtualMs: number;
  violations: number;
  counts: Record<string, number>;
}

/** As it is kept in a file between slices of one long run. */
export interface SavedSummary {
  readonly lines: Readonly<Record<string, Line>>;
  readonly kinds: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** What happened in many runs, by scenario. */
export class Summary {
  readonly #lines = new Map<string, Line>();
  readonly #kinds = new Map<string, number>();
  readonly #total = newLine();
  readonly #startedMs = performance.now();
  readonly #cpu = process.cpuUsage();
  #earlierSeconds = 0;
  #earlierCpuSeconds = 0;

  get events(): number { return this.#total.events; }
  get runs(): number { return this.#total.runs; }

  add(outcome: RunOutcome): void {
    const { scenario } = outcome.plan.spec;
    const line: Line = {
      runs: 1, events: outcome.events, frames: outcome.blockFrames, virtualMs: outcome.endedMs, violations: outcome.violation === null ? 0 : 1,
      faults: outcome.networkFaults + [...outcome.faults.values()].reduce((sum, n) => sum + n, 0),
      counts: Object.fromEntries(SHOWN.map((name) => [name, outcome.counts[name] ?? 0])),
    };
    this.#addLine(scenario, line);
    for (const [kind, n] of outcome.faults) this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + n);
  }

  /** An earlier slice of the same long run. */
  addSaved(saved: SavedSummary): void {
    for (const [scenario, line] of Object.entries(saved.lines)) this.#addLine(scenario, line);
    for (const [kind, n] of Object.entries(saved.kinds)) this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + n);
    this.#earlierSeconds += saved.seconds;
    this.#earlierCpuSeconds += saved.cpuSeconds;
  }

  #addLine(scenario: string, line: Line): void {
    const into = this.#lines.get(scenario) ?? newLine();
    this.#lines.set(scenario, into);
    for (const sum of [into, this.#total]) {
      for (const name of ['runs', 'events', 'frames', 'faults', 'virtualMs', 'violations'] as const) sum[name] += line[name];
      for (const [name, n] of Object.entries(line.counts)) sum.counts[name] = (sum.counts[name] ?? 0) + n;
    }
  }

  saved(): SavedSummary {
    return { lines: Object.fromEntries(this.#lines), kinds: Object.fromEntries(this.#kinds), seconds: this.#seconds(), cpuSeconds: this.#cpuSeconds() };
  }

  #seconds(): number { return this.#earlierSeconds + (performance.now() - this.#startedMs) / 1000; }

  #cpuSeconds(): number {
    const cpu = process.cpuUsage(this.#cpu);
    return this.#earlierCpuSeconds + (cpu.user + cpu.system) / 1e6;
  }

  /** What a long run of all scenarios should have seen and has not. */
  missing(): string[] {
    const all = Object.keys(SCENARIOS).every((name) => (this.#lines.get(name)?.runs ?? 0) > 0);
    if (!all || this.#cpuSeconds() < MUST_HAPPEN_AFTER_S) return [];
    return MUST_HAPPEN.filter((name) => (this.#total.counts[name] ?? 0) === 0);
  }

  text(): string {
    const seconds = this.#seconds();
    const cpuSeconds = this.#cpuSeconds();
    const rows = [['scenario', 'runs', 'events', 'faults', ...SHOWN], ...[...this.#lines, ['total', this.#total] as const].map(([name, line]) => row(name, line))];
    const widths = rows[0].map((_, column) => Math.max(...rows.map((cells) => cells[column].length)));
    const table = rows.map((cells) => cells.map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column]))).join(' ')).join('\n');
    const { runs, events, frames, faults, virtualMs, violations } = this.#total;
    const kinds = [...this.#kinds].sort((a, b) => b[1] - a[1]).map(([kind, n]) => `${kind} ${n}`).join(', ');
    return `${table}\n${runs} runs, ${events} events (${percent(frames, events)} block frames), ${faults} faults, ${(virtualMs / 3_600_000).toFixed(2)} h of virtual time, ${violations} violations\n`
      + `${seconds.toFixed(1)} s, ${cpuSeconds.toFixed(1)} s of CPU, ${Math.round(events / cpuSeconds)} events/s of a core\nfaults: ${kinds}\n`;
  }
}

function newLine(): Line {
  return { runs: 0, events: 0, frames: 0, faults: 0, virtualMs: 0, violations: 0, counts: {} };
}

function row(name: string, line: Line): string[] {
  return [name, String(line.runs), String(line.events), String(line.faults), ...SHOWN.map((count) => String(line.counts[count] ?? 0))];
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '0 %' : `${((100 * part) / whole).toFixed(0)} %`;
}
