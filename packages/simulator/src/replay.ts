import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CHANGE_MARK } from './world/world.ts';

/** One event of a log, with what it brought about: what was noted while it was handled, and what it changed in which actor. */
interface Step {
  readonly line: string;
  readonly atMs: number;
  readonly changes: string[];
}

/** A fault, a life's beginning or end, something that an actor tells the operator. */
const NOTE = /^[\d.]+ ## /;

export interface ReplayOptions {
  /** Stops before what comes later. */
  readonly untilMs: number;
  /** Stops at the first event (or change) with this text; where nothing is stepped, shows only those. */
  readonly grep: string;
  /** At the end, the state of every actor as it was then. */
  readonly state: boolean;
}

const HELP = 'enter: next event · a number: so many · text: on to the next event with it · = NAME: state of that actor · = : of all · q: end';

/** Steps through the log of a failed run. Where nobody can be asked it shows all that was wanted, and ends. */
export function replay(path: string | undefined, options: ReplayOptions): number {
  if (path === undefined) {
    process.stderr.write('pnpm sim replay needs the log that a failed run wrote\n');
    return 2;
  }
  const [head, ...lines] = readFileSync(path, 'utf8').trimEnd().split('\n');
  process.stdout.write(`${head}\n`);
  const replayed = new Replay(stepsOf(lines).filter((step) => !(step.atMs > options.untilMs)));
  if (process.stdin.isTTY) stepThrough(replayed, options);
  else {
    while (!replayed.done) {
      const step = replayed.next();
      if (options.grep === '' || has(step, options.grep)) show(step);
    }
    if (options.state) process.stdout.write(replayed.state(''));
  }
  return 0;
}

function stepsOf(lines: readonly string[]): Step[] {
  const steps: Step[] = [];
  for (const line of lines) {
    const before = steps.at(-1);
    if (before && (line.startsWith(CHANGE_MARK) || NOTE.test(line))) before.changes.push(line);
    else steps.push({ line, atMs: parseFloat(line), changes: [] });
  }
  return steps;
}

function has({ line, changes }: Step, text: string): boolean {
  return line.includes(text) || changes.some((change) => change.includes(text));
}

function show({ line, changes }: Step): void {
  process.stdout.write(`${[line, ...changes].join('\n')}\n`);
}

/** Where one is in a log, and how the actors stand there. */
class Replay {
  readonly #steps: readonly Step[];
  #at = 0;
  readonly #states = new Map<string, Map<string, string>>();

  constructor(steps: readonly Step[]) {
    this.#steps = steps;
  }

  get done(): boolean { return this.#at >= this.#steps.length; }

  next(): Step {
    const step = this.#steps[this.#at++];
    for (const change of step.changes) if (change.startsWith(CHANGE_MARK)) this.#apply(change.slice(CHANGE_MARK.length));
    return step;
  }

  #apply(change: string): void {
    const space = change.indexOf(' ');
    const actor = change.slice(0, space);
    const rest = change.slice(space + 1);
    const state = this.#states.get(actor) ?? new Map<string, string>();
    this.#states.set(actor, state);
    if (rest.endsWith(' gone')) state.delete(rest.slice(0, -' gone'.length));
    else if (rest.includes(' → ')) state.set(rest.slice(0, rest.indexOf(': ')), rest.slice(rest.indexOf(' → ') + 3));
    else state.set(rest.slice(0, rest.indexOf(' = ')), rest.slice(rest.indexOf(' = ') + 3));
  }

  /** Of the actors with this in their name. */
  state(name: string): string {
    const lines: string[] = [];
    for (const [actor, state] of this.#states) if (actor.includes(name)) lines.push(actor, ...[...state].map(([path, value]) => `${CHANGE_MARK}${path} = ${value}`));
    return lines.length === 0 ? `no actor "${name}" so far\n` : `${lines.join('\n')}\n`;
  }
}

function stepThrough(replayed: Replay, { grep }: ReplayOptions): void {
  const input = createInterface({ input: process.stdin, output: process.stdout, prompt: '> ' });
  const goOn = (count: number, text: string): void => {
    for (let n = 0; n < count && !replayed.done; n++) {
      const step = replayed.next();
      // On the way to a text nothing is shown.
      if (text === '' || has(step, text)) show(step);
      if (text !== '' && has(step, text)) break;
    }
    if (replayed.done) process.stdout.write('the end of the log\n');
  };
  process.stdout.write(`${HELP}\n`);
  goOn(grep === '' ? 1 : Infinity, grep);
  input.prompt();
  input.on('line', (answer) => {
    const count = answer === '' ? 1 : Number(answer);
    if (answer === 'q') return input.close();
    if (answer.startsWith('=')) process.stdout.write(replayed.state(answer.slice(1).trim()));
    else if (Number.isFinite(count)) goOn(count, '');
    else goOn(Infinity, answer);
    input.prompt();
  });
}
