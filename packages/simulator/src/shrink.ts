import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Trace } from './engine/trace.ts';
import type { RunSpec } from './plan.ts';
import type { FaultKind } from './scenarios.ts';
import { simulate, type RunOutcome } from './run.ts';

/** Reruns at most this long to make a failure smaller. */
const SHRINK_MS = 20_000;
const LOG_DIRECTORY = '.sim';

/** Leaves out kinds of faults, then single faults, then the end, as long as the same invariant still fails. Writes the log of what is left. */
export function shrink(spec: RunSpec, outcome: RunOutcome): string {
  const invariant = outcome.violation?.invariant;
  const endsMs = performance.now() + SHRINK_MS;
  let best = spec;
  const fails = (candidate: RunSpec): boolean => performance.now() < endsMs && simulate(candidate).violation?.invariant === invariant;
  const keep = (candidate: RunSpec): void => { if (fails(candidate)) best = candidate; };
  for (const kind of outcome.plan.kinds) keep({ ...best, without: [...best.without, kind as FaultKind] });
  for (const fault of outcome.plan.faults) if (!best.without.includes(fault.kind)) keep({ ...best, skip: [...best.skip, fault.index] });
  const lines: string[] = [];
  const last = simulate(best, new Trace(false, (line) => { lines.push(line); }));
  mkdirSync(LOG_DIRECTORY, { recursive: true });
  const path = join(LOG_DIRECTORY, `${spec.scenario}-${spec.seed}.log`);
  writeFileSync(path, `${JSON.stringify({ spec: best, invariant, message: last.violation?.message })}\n${lines.join('\n')}\n`);
  const faults = last.plan.faults.map((fault) => `  ${fault.atMs.toFixed(0).padStart(7)} ms  #${fault.index} ${fault.kind}`).join('\n');
  return `shrunk to ${last.plan.faults.length} faults and ${[...last.plan.kinds].join(', ') || 'no kinds'}:\n${faults}\nlog:        pnpm sim replay ${path}`;
}
