import type { RunOutcome } from './run.ts';

const SHOWN = [
  'promotions', 'truncations', 'joins', 'journalCatchUps', 'comparisons', 'filledExtents', 'deduplicatedRetries', 'refusedSessions', 'quarantines', 'fencedFrames', 'removals', 'losses', 'answered', 'failed',
] as const;

interface Line {
  runs: number;
  events: number;
  frames: number;
  faults: number;
  virtualMs: number;
  violations: number;
  readonly counts: Record<string, number>;
}

/** What happened in many runs, by scenario. */
export class Summary {
  readonly #lines = new Map<string, Line>();
  readonly #kinds = new Map<string, number>();
  readonly #startedMs = performance.now();
  readonly #cpu = process.cpuUsage();

  add(outcome: RunOutcome): void {
    const { scenario } = outcome.plan.spec;
    let line = this.#lines.get(scenario);
    if (line === undefined) {
      line = newLine();
      this.#lines.set(scenario, line);
    }
    for (const into of [line, this.#total]) {
      into.runs++;
      into.events += outcome.events;
      into.frames += outcome.blockFrames;
      into.virtualMs += outcome.endedMs;
      into.faults += outcome.networkFaults + [...outcome.faults.values()].reduce((sum, n) => sum + n, 0);
      if (outcome.violation !== null) into.violations++;
      for (const name of SHOWN) into.counts[name] = (into.counts[name] ?? 0) + (outcome.counts[name] ?? 0);
    }
    for (const [kind, n] of outcome.faults) this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + n);
  }

  readonly #total = newLine();

  text(): string {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    const cpu = process.cpuUsage(this.#cpu);
    const cpuSeconds = (cpu.user + cpu.system) / 1e6;
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
