import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** A stretch of CLOCK_MONOTONIC time, in microseconds: what V8 stamps its samples with. */
export interface Window {
  readonly name: string;
  readonly fromUs: number;
  readonly toUs: number;
}

interface CpuProfile {
  readonly nodes: readonly { readonly id: number; readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number } }[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

const LINES = 25;
/** V8's names for time in which nothing of ours ran. */
const NOT_WORK = new Set(['(idle)', '(program)', '(root)']);

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

/** For each window and thread: the functions with the most time of their own, from the .cpuprofile files that Node left in a folder. */
export function profileReport(folder: string, windows: readonly Window[]): string {
  const files = readdirSync(folder).filter((name) => name.endsWith('.cpuprofile')).sort();
  const profiles = files.map((name) => ({ name, profile: JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile }));
  return windows.flatMap((window) => [`## ${window.name}`, '', ...profiles.flatMap(({ name, profile }) => threadReport(name, profile, window))]).join('\n');
}

function threadReport(name: string, profile: CpuProfile, window: Window): readonly string[] {
  const times = selfTimes(profile, window);
  const busyUs = [...times].filter(([what]) => !NOT_WORK.has(what)).reduce((sum, [, us]) => sum + us, 0);
  const lengthUs = window.toUs - window.fromUs;
  // Threads that do nothing (the manager's, a server without a copy) would only hide the others.
  if (busyUs < lengthUs / 50) return [];
  const lines = [...times].sort((a, b) => b[1] - a[1]).slice(0, LINES).map(([what, us]) => `${((100 * us) / lengthUs).toFixed(1).padStart(6)} %  ${what}`);
  return [`${name}: busy ${((100 * busyUs) / lengthUs).toFixed(0)} % of the time`, '', '```', ...lines, '```', ''];
}

function selfTimes(profile: CpuProfile, window: Window): ReadonlyMap<string, number> {
  const names = new Map(profile.nodes.map(({ id, callFrame }) => [id, nameOf(callFrame)]));
  const times = new Map<string, number>();
  let at = profile.startTime;
  profile.samples.forEach((id, i) => {
    const lasted = profile.timeDeltas[i + 1] ?? 0;
    at += profile.timeDeltas[i] ?? 0;
    if (at < window.fromUs || at >= window.toUs) return;
    const name = names.get(id) ?? '(unknown)';
    times.set(name, (times.get(name) ?? 0) + lasted);
  });
  return times;
}

function nameOf({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const file = url.replace(/^.*\/((?:packages|apps|node_modules)\/)/, '$1');
  return file === '' ? functionName || '(anonymous)' : `${functionName || '(anonymous)'} ${file}:${lineNumber + 1}`;
}
