import { machineReport, treeState } from '../site/machine.ts';
import { ROOT } from '../site/site.ts';

/** Commit, machine, command and seed of a run, as the first lines of its report. */
export function runDescription(name: string, seed: number): readonly string[] {
  const machine = machineReport();
  const tree = treeState(ROOT);
  return [
    `- Command: \`pnpm ${name} ${process.argv.slice(2).join(' ')}\` (seed ${seed})`,
    `- Commit: ${tree.commit} (code ${tree.code})`,
    `- Machine: ${machine.processors} × ${machine.processor}, ${machine.memoryGiB} GiB, Linux ${machine.kernel}; node ${machine.versions['node'] ?? ''}`,
  ];
}

/** `p` from 0 to 1; of an empty list NaN. The smallest value that at least that share does not exceed. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? NaN;
}

export function inMs(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(0)} ms` : 'for ever';
}
