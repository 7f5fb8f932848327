import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Trace } from './engine/trace.ts';
import { runSpec, type RunSpec } from './plan.ts';
import { loadProgress, saveProgress } from './progress.ts';
import { replay } from './replay.ts';
import { simulate, type RunOutcome } from './run.ts';
import { SCENARIOS } from './scenarios.ts';
import { shrink } from './shrink.ts';
import { Summary } from './summary.ts';

const USAGE = `pnpm sim --seconds N [--scenario X] [--base B]   many runs with fresh seeds
pnpm sim --runs N [--scenario X] [--base B]      so many runs
pnpm sim --events N --total FILE [--seconds S]   a long run in slices: each goes on where FILE says, and ends after S seconds or at N events in all
pnpm sim --seed S --scenario X                   one run again
pnpm sim replay LOG [--until MS] [--grep TEXT] [--state]   a failed run's log, step by step: each event and what it changed in whom; where stdin is
                                                 no terminal, all of it, or what --grep finds; --state: how everybody stood at the end
scenarios: ${Object.keys(SCENARIOS).join(', ')}`;

/** Every so many runs, one is made twice: the same seed must give the same trace. */
const TWICE_EVERY = 100;

let shrinks = true;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true, allowNegative: true,
    options: {
      seconds: { type: 'string' }, runs: { type: 'string' }, seed: { type: 'string' }, scenario: { type: 'string' }, base: { type: 'string' }, events: { type: 'string' }, total: { type: 'string' }, state: { type: 'boolean' },
      until: { type: 'string' }, grep: { type: 'string' }, help: { type: 'boolean' }, verbose: { type: 'boolean' }, 'keep-going': { type: 'boolean' }, shrink: { type: 'boolean', default: true },
    },
  });
  shrinks = values.shrink;
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (positionals[0] === 'replay') return replay(positionals[1], { untilMs: Number(values.until ?? Infinity), grep: values.grep ?? '', state: values.state ?? false });
  const scenarios = values.scenario === undefined ? Object.keys(SCENARIOS) : values.scenario.split(',');
  for (const name of scenarios) if (!(name in SCENARIOS)) {
    process.stderr.write(`no scenario "${name}"\n${USAGE}\n`);
    return 2;
  }
  if (values.seed !== undefined) return one(runSpec(Number(values.seed), scenarios[0]), values.verbose ?? false);
  const endless = values.runs !== undefined || values.events !== undefined;
  return many({
    base: values.base === undefined ? randomInt(2 ** 31) : Number(values.base), scenarios, seconds: Number(values.seconds ?? (endless ? Infinity : 20)),
    runsMax: Number(values.runs ?? Infinity), eventsMax: Number(values.events ?? Infinity), keepGoing: values['keep-going'] ?? false, total: values.total ?? null,
  });
}

function one(spec: RunSpec, verbose: boolean): number {
  const outcome = simulate(spec, new Trace(true, verbose ? (line) => process.stdout.write(`${line}\n`) : null));
  process.stdout.write(`${spec.scenario} ${spec.seed}: ${outcome.events} events, ${Math.round(outcome.endedMs)} ms, trace ${outcome.hash}\n`);
  if (outcome.violation === null) return 0;
  failed(spec, outcome);
  return 1;
}

interface Many {
  readonly base: number;
  readonly scenarios: readonly string[];
  readonly seconds: number;
  readonly runsMax: number;
  readonly eventsMax: number;
  readonly keepGoing: boolean;
  /** A file in which slices of one long run add up. */
  readonly total: string | null;
}

function many(options: Many): number {
  const before = options.total === null ? null : loadProgress(options.total);
  const base = before?.base ?? options.base;
  process.stdout.write(`seed base ${base}${before === null ? '' : `, ${before.runs} runs made before`}\n`);
  const summary = new Summary();
  if (before !== null) summary.addSaved(before.summary);
  const { failures, first } = runMany(options, base, before?.runs ?? 0, summary);
  if (options.total !== null) saveProgress(options.total, base, before, summary, failures);
  process.stdout.write(summary.text());
  const missing = summary.missing();
  // What failed is said last, where the end of a log shows it.
  if (first !== null) failed(first.spec, first.outcome);
  for (const failure of failures) process.stdout.write(`${failure}\n`);
  if (missing.length > 0) process.stdout.write(`never happened in ${summary.runs} runs of all scenarios: ${missing.join(', ')}\n`);
  return failures.length === 0 && missing.length === 0 ? 0 : 1;
}

function runMany(options: Many, base: number, from: number, summary: Summary): { readonly failures: string[]; readonly first: { readonly spec: RunSpec; readonly outcome: RunOutcome } | null } {
  const { scenarios, keepGoing, eventsMax } = options;
  const endsMs = performance.now() + options.seconds * 1000;
  const failures: string[] = [];
  for (let run = from; run - from < options.runsMax && performance.now() < endsMs && summary.events < eventsMax; run++) {
    const spec = runSpec(base + run, scenarios[run % scenarios.length]);
    const outcome = simulate(spec);
    summary.add(outcome);
    const again = run % TWICE_EVERY === TWICE_EVERY - 1 ? simulate(spec).hash : outcome.hash;
    if (again !== outcome.hash) failures.push(`${line(spec)}   # deterministic: it gave trace ${outcome.hash}, then ${again}`);
    if (outcome.violation === null) continue;
    failures.push(`${line(spec)}   # ${outcome.violation.message.slice(0, 400)}`);
    if (!keepGoing) return { failures, first: { spec, outcome } };
    process.stdout.write(`${failures.at(-1)}\n`);
  }
  return { failures, first: null };
}

function line(spec: RunSpec): string {
  return `pnpm sim --seed ${spec.seed} --scenario ${spec.scenario}`;
}

function failed(spec: RunSpec, outcome: RunOutcome): void {
  if (shrinks) process.stdout.write(`${shrink(spec, outcome)}\n`);
  process.stdout.write(`\nVIOLATION of ${outcome.violation?.message}\n`);
  process.stdout.write(`reproduce:  ${line(spec)}\n`);
}

process.exitCode = main();
