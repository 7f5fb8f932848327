import { spawn } from 'node:child_process';

/** What one run of a load found. */
export interface LoadFigures {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  readonly bytesPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  /** Processor time of the load itself. */
  readonly cpuSeconds: number;
}

interface FioDirection {
  readonly io_bytes: number;
  readonly total_ios: number;
  readonly runtime: number;
  readonly clat_ns: { readonly max: number; readonly percentile?: Readonly<Record<string, number>> };
}

interface FioJob {
  readonly error: number;
  readonly job_runtime: number;
  readonly usr_cpu: number;
  readonly sys_cpu: number;
  readonly read: FioDirection;
  readonly write: FioDirection;
}

/** Time fio gets to connect and to end after its last request. */
const FIO_GRACE_SECONDS = 60;

/** Runs one fio job with its nbd engine. Throws if fio or any request failed. */
export async function runFio(uri: string, sizeBytes: number, args: readonly string[], seconds: number | null): Promise<LoadFigures> {
  const all = ['--name=bench', '--ioengine=nbd', `--uri=${uri}`, `--size=${sizeBytes}`, '--output-format=json', '--percentile_list=50:99', ...args,
    ...(seconds === null ? [] : ['--time_based', `--runtime=${seconds}`])];
  const output = await collect('fio', all, seconds === null ? 1800 : seconds + FIO_GRACE_SECONDS);
  return parseFio(output);
}

export function parseFio(output: string): LoadFigures {
  // fio prints notes before its JSON.
  const report = JSON.parse(output.slice(output.indexOf('{'))) as { readonly jobs: readonly FioJob[] };
  const job = report.jobs[0];
  if (!job) throw new Error('fio reported no job');
  if (job.error !== 0) throw new Error(`fio met error ${job.error}`);
  const sides = [job.read, job.write].filter((side) => side.total_ios > 0);
  const requests = sum(sides.map((side) => side.total_ios));
  const seconds = Math.max(...sides.map((side) => side.runtime)) / 1000;
  if (requests === 0 || !(seconds > 0)) throw new Error('fio made no requests');
  const weighted = (pick: (side: FioDirection) => number): number => sum(sides.map((side) => pick(side) * side.total_ios)) / requests / 1000;
  return {
    requests, seconds,
    requestsPerSecond: requests / seconds,
    bytesPerSecond: sum(sides.map((side) => side.io_bytes)) / seconds,
    p50Us: weighted((side) => side.clat_ns.percentile?.['50.000000'] ?? NaN),
    p99Us: Math.max(...sides.map((side) => side.clat_ns.percentile?.['99.000000'] ?? NaN)) / 1000,
    maxUs: Math.max(...sides.map((side) => side.clat_ns.max)) / 1000,
    cpuSeconds: ((job.usr_cpu + job.sys_cpu) / 100) * (job.job_runtime / 1000),
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

async function collect(command: string, args: readonly string[], timeoutSeconds: number): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: timeoutSeconds * 1000, killSignal: 'SIGKILL' });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { errors += text; });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code ?? 'a signal'}: ${errors.trim() || output.slice(0, 2000)}`);
  return output;
}
