import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { MachineReport } from '../site/machine.ts';
import type { Measurement } from './measure.ts';

export interface Results {
  readonly arrangement: string;
  /** Identifies the code that the measurements are of; others are not mixed with them. */
  readonly code: string;
  readonly machine: MachineReport;
  readonly command: string;
  readonly sizeBytes: number;
  readonly seconds: number;
  readonly processorsHeldAwake: boolean;
  readonly titles: Readonly<Record<string, string>>;
  /** In the order in which they are reported; the first of the peers is what ratios are taken to. */
  readonly targets: readonly string[];
  readonly notes: readonly string[];
  readonly measurements: readonly Measurement[];
}

export function loadResults(path: string): Results | null {
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as Results) : null;
}

/** Written whole and renamed, so that a run that is broken off leaves the measurements before it. */
export function saveResults(path: string, results: Results): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(`${path}.new`, `${JSON.stringify(results, null, 1)}\n`);
  renameSync(`${path}.new`, path);
}

export function median(values: readonly number[]): number {
  if (values.length === 0) return NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** Half the distance between the extremes, in percent of the median. */
export function spreadPercent(values: readonly number[]): number {
  return values.length === 0 ? NaN : (50 * (Math.max(...values) - Math.min(...values))) / median(values);
}

export function measured(results: Results, target: string, workload: string): readonly Measurement[] {
  return results.measurements.filter((one) => one.target === target && one.workload === workload);
}
