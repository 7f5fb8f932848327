import { runFio } from './fio.ts';
import { cpuSeconds, cpuTimes, othersPercent, stealPercent } from '../site/machine.ts';
import type { Running } from './targets/target.ts';
import type { Workload } from './workloads.ts';

export interface Measurement {
  readonly round: number;
  readonly target: string;
  readonly workload: string;
  readonly commit: string;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  /** Processor time of the server's processes for each request, in microseconds. */
  readonly cpuUsPerRequest: number;
  readonly stealPercent: number;
  /** Share of all processor time that neither the servers nor fio used: other programs, and the kernel's own threads. */
  readonly othersPercent: number;
  /** Disturbed runs that were thrown away before this one. */
  readonly repeats: number;
}

/** Above this share of stolen processor time a run says more about the neighbours than about us. */
const STEAL_PERCENT_MAX = 10;
const REPEATS_MAX = 4;

interface Occasion {
  readonly round: number;
  readonly target: string;
  readonly commit: string;
  readonly sizeBytes: number;
  readonly seconds: number;
}

/** Runs one workload against one running target; a disturbed run is repeated, and after REPEATS_MAX tries the least disturbed one is kept, its steal shown. */
export async function measure(running: Running, workload: Workload, occasion: Occasion): Promise<Measurement> {
  let best: Measurement | null = null;
  for (let repeats = 0; repeats <= REPEATS_MAX; repeats++) {
    const one = await measureOnce(running, workload, occasion, repeats);
    if (best === null || one.stealPercent < best.stealPercent) best = one;
    if (one.stealPercent <= STEAL_PERCENT_MAX) return one;
  }
  return best as Measurement;
}

async function measureOnce(running: Running, workload: Workload, occasion: Occasion, repeats: number): Promise<Measurement> {
  const pids = running.pids();
  const cpuBefore = cpuSeconds(pids);
  const timesBefore = cpuTimes();
  const fio = running.load === undefined ? await runFio(running.uri, occasion.sizeBytes, workload.fio, occasion.seconds) : await running.load.run(workload, occasion.seconds);
  const cpuUsed = cpuSeconds(pids) - cpuBefore;
  const times = cpuTimes();
  return {
    round: occasion.round, target: occasion.target, workload: workload.name, commit: occasion.commit,
    requestsPerSecond: fio.requestsPerSecond, bytesPerSecond: fio.bytesPerSecond, p50Us: fio.p50Us, p99Us: fio.p99Us, maxUs: fio.maxUs,
    cpuUsPerRequest: (1e6 * cpuUsed) / fio.requests,
    stealPercent: stealPercent(timesBefore, times), othersPercent: othersPercent(timesBefore, times, cpuUsed + fio.cpuSeconds), repeats,
  };
}

/** Overwrites the whole device `times` times, so that nothing measured later is the first write to its place. */
export async function overwrite(running: Running, sizeBytes: number, times: number): Promise<void> {
  if (running.load !== undefined) return running.load.overwrite(times);
  for (let i = 0; i < times; i++) await runFio(running.uri, sizeBytes, ['--rw=write', '--bs=128k', '--iodepth=8', '--end_fsync=1'], null);
}
