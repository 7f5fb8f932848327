import { randomInt } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Trace } from './engine/trace.ts';
import { runSpec, type RunSpec } from './plan.ts';
import { replay } from './replay.ts';
import { simulate, type RunOutcome } from './run.ts';
import { SCENARIOS } from './scenarios.ts';
import { shrink } from './shrink.ts';
import { Summary } from './summary.ts';

const USAGE = `pnpm sim --seconds N [--scenario X] [--base B]   many runs with fresh seeds
pnpm sim --runs N [--scenario X] [--base B]      so many runs
pnpm sim --seed S --scenario X                   one run again
pnpm sim replay LOG [--until MS] [--grep TEXT]   a failed run's log, step by step
scenarios: ${Object.keys(SCENARIOS).join(', ')}`;

/** Every so many runs, one is made twice: the same seed must give the same trace. */
const TWICE_EVERY = 100;

let shrinks = true;

function main(): number {
  const { values, positionals } = parseArgs({
    allowPositionals: true, allowNegative: true,
    options: {
      seconds: { type: 'string' }, runs: { type: 'string' }, seed: { type: 'string' }, scenario: { type: 'string' }, base: { type: 'string' },
      until: { type: 'string' }, grep: { type: 'string' }, help: { type: 'boolean' }, verbose: { type: 'boolean' }, 'keep-going': { type: 'boolean' }, shrink: { type: 'boolean', default: true },
    },
  });
  shrinks = values.shrink;
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (positionals[0] === 'replay') return replay(positionals[1], values.until === undefined ? Infinity : Number(values.until), values.grep ?? '');
  const scenarios = values.scenario === undefined ? Object.keys(SCENARIOS) : values.scenario.split(',');
  for (const name of scenarios) if (!(name in SCENARIOS)) {
    process.stderr.write(`no scenario "${name}"\n${USAGE}\n`);
    return 2;
  }
  if (values.seed !== undefined) return one(runSpec(Number(values.seed), scenarios[0]), values.verbose ?? false);
  const base = values.base === undefined ? randomInt(2 ** 31) : Number(values.base);
  return many(base, scenarios, Number(values.seconds ?? '20'), values.runs === undefined ? Infinity : Number(values.runs), values['keep-going'] ?? false);
}

function one(spec: RunSpec, verbose: boolean): number {
  const outcome = simulate(spec, new Trace(true, verbose ? (line) => process.stdout.write(`${line}\n`) : null));
  process.stdout.write(`${spec.scenario} ${spec.seed}: ${outcome.events} events, ${Math.round(outcome.endedMs)} ms, trace ${outcome.hash}\n`);
  if (outcome.violation === null) return 0;
  failed(spec, outcome);
  return 1;
}

function many(base: number, scenarios: readonly string[], seconds: number, runsMax: number, keepGoing: boolean): number {
  process.stdout.write(`seed base ${base}\n`);
  const summary = new Summary();
  const endsMs = performance.now() + seconds * 1000;
  let failures = 0;
  for (let run = 0; run < runsMax && (runsMax !== Infinity || performance.now() < endsMs); run++) {
    const spec = runSpec(base + run, scenarios[run % scenarios.length]);
    const outcome = simulate(spec);
    summary.add(outcome);
    const again = run % TWICE_EVERY === TWICE_EVERY - 1 ? simulate(spec).hash : outcome.hash;
    if (again !== outcome.hash) {
      process.stdout.write(`deterministic: seed ${spec.seed} of ${spec.scenario} gave trace ${outcome.hash}, then ${again}\n`);
      failures++;
    }
    if (outcome.violation === null) continue;
    failures++;
    if (keepGoing) process.stdout.write(`pnpm sim --seed ${spec.seed} --scenario ${spec.scenario}   # ${outcome.violation.message.slice(0, 400)}\n`);
    else {
      failed(spec, outcome);
      break;
    }
  }
  process.stdout.write(summary.text());
  return failures === 0 ? 0 : 1;
}

function failed(spec: RunSpec, outcome: RunOutcome): void {
  process.stdout.write(`\nVIOLATION of ${outcome.violation?.message}\n`);
  process.stdout.write(`\nreproduce:  pnpm sim --seed ${spec.seed} --scenario ${spec.scenario}\n`);
  if (shrinks) process.stdout.write(`${shrink(spec, outcome)}\n`);
}

process.exitCode = main();
