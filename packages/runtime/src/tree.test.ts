import type { Actor, ActorContext, ActorSpec, Address, ChildSpec, Message, Signal, SupervisorSpec } from '@ashlar/actor';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Runtime } from './api.ts';
import { createLog } from './log.ts';
import { createRuntime } from './runtime.ts';

/** What happened, in order: `+a` started, `-a` stopped, `xa` cleaned up after a crash. */
const done: string[] = [];
const contexts = new Map<string, ActorContext>();
let runtime: Runtime;

class Child implements Actor {
  readonly #id: string;
  readonly #context: ActorContext;
  constructor(id: string, context: ActorContext) {
    this.#id = id;
    this.#context = context;
    contexts.set(id, context);
    done.push(`+${id}`);
  }
  receive(message: Message | Signal): void {
    if (message.kind === 'crash') throw new Error(`${this.#id} on purpose`);
    if (message.kind === 'hook') this.#context.atTurnEnd('work', () => { throw new Error('in a hook'); });
    if (message.kind === 'again') this.#context.send(this.#context.self, message);
    if (message.kind === 'timer') done.push(`timer ${this.#id}`);
  }
  stop(reason: 'shutdown' | 'crashed'): void { done.push(`${reason === 'crashed' ? 'x' : '-'}${this.#id}`); }
  inspect(): unknown {
    if (this.#id === 'blind') throw new Error('cannot be seen');
    return { id: this.#id };
  }
}

function child(id: string, more: Partial<ActorSpec> = {}): ActorSpec {
  return { kind: 'actor', id, address: `one/${id}`, restart: 'permanent', shutdownMs: 1000, start: (context) => new Child(id, context), ...more };
}

function supervisor(id: string, children: readonly ChildSpec[], more: Partial<SupervisorSpec> = {}): SupervisorSpec {
  return { kind: 'supervisor', id, strategy: 'one_for_one', intensity: 1, periodMs: 60_000, pastIntensity: 'escalate', children, ...more };
}

function tell(id: string, kind: string): void { runtime.turn(() => runtime.send(`one/${id}` as Address, { kind })); }
function taken(): string[] { return done.splice(0); }
function stateOf(id: string): string | undefined { return runtime.inspect().actors.find((actor) => actor.address === `one/${id}`)?.state; }

beforeEach(() => {
  done.length = 0;
  runtime = createRuntime({ name: 'one', log: createLog({ name: 'test', level: 'silent' }), token: 't', parties: ['one'] });
});
afterEach(() => runtime.shutdown());

test('a tree starts in order, and stops in reverse order', async () => {
  runtime.start(supervisor('top', [child('a'), supervisor('inner', [child('b'), child('c')]), child('d')]));
  expect(taken()).toEqual(['+a', '+b', '+c', '+d']);
  expect(runtime.inspect().actors.map((actor) => actor.path)).toEqual(['root/top/a', 'root/top/inner/b', 'root/top/inner/c', 'root/top/d']);
  await Promise.all([runtime.stop('top'), runtime.stop('top')]);
  expect(taken()).toEqual(['-d', '-c', '-b', '-a']);
  expect(runtime.inspect().actors).toEqual([]);
});

test('rest_for_one and one_for_all reach into inner supervisors', () => {
  runtime.start(supervisor('top', [child('a'), child('b'), supervisor('inner', [child('c')])], { strategy: 'rest_for_one' }));
  taken();
  tell('b', 'crash');
  expect(taken()).toEqual(['xb', '-c', '+b', '+c']);
});

test('too many crashes inside escalate to the supervisor above, which starts the whole again', () => {
  runtime.start(supervisor('top', [child('a'), supervisor('inner', [child('b'), child('c')])], { strategy: 'one_for_all' }));
  taken();
  tell('b', 'crash');
  expect(taken()).toEqual(['xb', '+b']);
  tell('b', 'crash');
  expect(taken()).toEqual(['xb', '-c', '-a', '+a', '+b', '+c']);
});

test('past its intensity a volume faults: its actors stay down and are shown so; its siblings go on; it can be stopped and started anew', async () => {
  const crashes: unknown[] = [];
  const spec = supervisor('volume', [child('copy'), child('helper')], { pastIntensity: 'fault', onCrash: (crash) => crashes.push(crash.childId), onFault: () => { throw new Error('a defect in a callback'); } });
  runtime.start(supervisor('volumes', [spec, child('other')], { intensity: 0 }));
  tell('copy', 'crash');
  tell('copy', 'crash');
  expect(crashes).toEqual(['copy', 'copy']);
  expect(['copy', 'helper', 'other'].map(stateOf)).toEqual(['faulted', 'faulted', 'running']);
  expect(runtime.send('one/copy', { kind: 'm' })).toBe('unreachable');
  taken();
  contexts.get('other')?.stopChild('volume');
  expect(contexts.get('other')?.spawn(spec)).toBe('started');
  expect(taken()).toEqual(['+copy', '+helper']);
  expect(stateOf('copy')).toBe('running');
  await runtime.stop('volumes');
});

test('an actor starts and stops siblings', () => {
  runtime.start(supervisor('top', [child('a')]));
  const context = contexts.get('a') as ActorContext;
  taken();
  expect(context.spawn(child('b'))).toBe('started');
  expect(context.spawn(child('b'))).toBe('already-started');
  expect(context.spawn(child('c', { start: () => { throw new Error('no'); } }))).toBe('failed');
  expect(context.spawn(child('d', { address: 'one/a' }))).toBe('failed');
  context.stopChild('b');
  expect(taken()).toEqual(['+b', '-b']);
  expect(context.spawn(child('b'))).toBe('started');
});

test('a crash while it starts is a start that failed, and what it opened is released', () => {
  const crashing = child('a', { start: (context) => {
    const made = new Child('a', context);
    context.crash(new Error('found broken'));
    return made;
  } });
  expect(runtime.start(crashing)).toBe('failed');
  expect(taken()).toEqual(['+a', 'xa']);
  expect(runtime.start(child('a'))).toBe('started');
});

test('what a hook at the end of a turn throws is its actor\'s crash', () => {
  runtime.start(supervisor('top', [child('a'), child('b')]));
  taken();
  tell('a', 'hook');
  expect(taken()).toEqual(['xa', '+a']);
});

test('an actor that does not stop in time is given up', async () => {
  const spec = child('a', { shutdownMs: 1, start: (context) => ({ receive: () => {}, inspect: () => null, stop: () => { contexts.set('slow', context); return 'stopping'; } }) });
  runtime.start(supervisor('top', [spec]));
  const stopped = runtime.stop('top');
  expect(stateOf('a')).toBe('stopping');
  await stopped;
  expect(stateOf('a')).toBeUndefined();
  // Too late: nothing happens.
  contexts.get('slow')?.stopped();
});

test('one that crashes while it stops has stopped', async () => {
  const spec = child('a', { start: (context) => ({ receive: () => {}, inspect: () => null, stop: (reason) => { if (reason === 'crashed') return; context.crash(new Error('while stopping')); return 'stopping'; } }) });
  runtime.start(supervisor('top', [spec, child('b', { start: () => ({ receive: () => {}, inspect: () => null, stop: () => { throw new Error('in stop'); } }) })]));
  await runtime.stop('top');
  expect(runtime.inspect().actors).toEqual([]);
});

test('actors that never fall silent do not keep timers from firing', async () => {
  runtime.start(supervisor('top', [child('busy'), child('b')]));
  tell('busy', 'again');
  contexts.get('b')?.setTimer('t', runtime.nowMs() + 1);
  while (!done.includes('timer b')) await new Promise((resolve) => { setImmediate(resolve); });
  await runtime.stop('top');
});

test('an inspect that throws hides only itself', () => {
  runtime.start(supervisor('top', [child('blind'), child('a')]));
  expect(runtime.inspect().actors.map((actor) => actor.detail)).toEqual([{ inspectFailed: 'Error: cannot be seen' }, { id: 'a' }]);
});
