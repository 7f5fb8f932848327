import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Restart, Strategy } from './child-spec.ts';
import { Supervisor, type ChildPlan, type SupervisorAction, type SupervisorEvent, type SupervisorPlan } from './supervisor.ts';

type Step =
  | { readonly do: 'crash' | 'done' | 'remove'; readonly who: number }
  | { readonly do: 'fail-starts'; readonly who: number; readonly times: number }
  | { readonly do: 'add'; readonly restart: Restart }
  | { readonly do: 'wait'; readonly ms: number }
  | { readonly do: 'shutdown' }
  /** Only when stops are slow: one that is under way ends. */
  | { readonly do: 'let-stop' };

const anyRestart = fc.constantFrom<Restart>('permanent', 'permanent', 'transient', 'temporary');
const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('crash' as const), who: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom('done' as const, 'remove' as const), who: fc.nat(7) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('fail-starts' as const), who: fc.nat(7), times: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('add' as const), restart: anyRestart }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat(1500) }) },
  { weight: 6, arbitrary: fc.constant({ do: 'let-stop' as const }) },
  { weight: 1, arbitrary: fc.constant({ do: 'shutdown' as const }) },
);
const anyPlan: fc.Arbitrary<SupervisorPlan> = fc.record({
  strategy: fc.constantFrom<Strategy>('one_for_one', 'one_for_all', 'rest_for_one'),
  intensity: fc.integer({ min: 0, max: 4 }),
  periodMs: fc.constantFrom(1000, 5000),
  pastIntensity: fc.constantFrom('escalate' as const, 'fault' as const),
  children: fc.array(anyRestart, { maxLength: 5 }).map((restarts) => restarts.map((restart, index): ChildPlan => ({ id: `c${index}`, restart }))),
});

/** OTP's rules written down a second time, recursively and with every start and stop taking no time. */
class Model {
  children: { id: string; restart: Restart; up: boolean }[];
  restartsMs: number[] = [];
  alive = true;
  readonly log: string[] = [];
  readonly plan: SupervisorPlan;
  readonly failing: Map<string, number>;

  constructor(plan: SupervisorPlan, failing: Map<string, number>) {
    this.plan = plan;
    this.failing = failing;
    this.children = plan.children.map(({ id, restart }) => ({ id, restart, up: false }));
    for (const child of this.children) this.#start(child);
  }

  #start(child: { id: string; up: boolean }): boolean {
    const failures = this.failing.get(child.id) ?? 0;
    this.failing.set(child.id, Math.max(0, failures - 1));
    this.log.push(`${failures > 0 ? '!' : '+'}${child.id}`);
    child.up = failures === 0;
    return child.up;
  }

  #stop(child: { id: string; restart: Restart; up: boolean }): void {
    if (child.up) this.log.push(`-${child.id}`);
    child.up = false;
  }

  stopAll(): void {
    for (const child of [...this.children].reverse()) this.#stop(child);
    this.children = this.children.filter((child) => child.restart !== 'temporary');
    this.alive = false;
  }

  exited(id: string, how: 'crash' | 'done', nowMs: number): void {
    const child = this.children.find((other) => other.id === id);
    if (!child?.up || !this.alive) return;
    child.up = false;
    if (child.restart === 'temporary') this.children = this.children.filter((other) => other !== child);
    if (child.restart === 'permanent' || (child.restart === 'transient' && how === 'crash')) this.#restart(child, nowMs, new Set([id]));
  }

  /** `due`: children that are down and must come up again with this restart. */
  #restart(cause: Model['children'][number], nowMs: number, due: ReadonlySet<string>): void {
    this.restartsMs = [...this.restartsMs, nowMs].filter((atMs) => nowMs - atMs <= this.plan.periodMs);
    if (this.restartsMs.length > this.plan.intensity) {
      this.stopAll();
      this.log.push('gave-up');
      return;
    }
    const from = this.plan.strategy === 'one_for_all' ? 0 : this.children.indexOf(cause);
    const to = this.plan.strategy === 'one_for_one' ? from + 1 : this.children.length;
    const affected = this.children.slice(from, to).filter((child) => child.up || due.has(child.id));
    for (const child of [...affected].reverse()) this.#stop(child);
    const gone = new Set(affected.filter((child) => child.restart === 'temporary' && child !== cause));
    this.children = this.children.filter((child) => !gone.has(child));
    const coming = this.children.filter((child) => !child.up && (affected.includes(child) || due.has(child.id)));
    for (const child of coming) {
      if (!this.#start(child)) return this.#restart(child, nowMs, new Set(coming.map(({ id }) => id)));
    }
  }

  add(id: string, restart: Restart): void {
    if (!this.alive) return;
    const child = { id, restart, up: false };
    if (this.#start(child)) this.children.push(child);
  }

  remove(id: string): void {
    const child = this.children.find((other) => other.id === id);
    if (child) this.#stop(child);
    this.children = this.children.filter((other) => other !== child);
  }
}

/** Drives the real one. With `slow`, a stop ends only at the step `let-stop`. */
class Driver {
  readonly supervisor: Supervisor;
  readonly log: string[] = [];
  readonly failing = new Map<string, number>();
  readonly stopping: string[] = [];
  readonly slow: boolean;
  nowMs = 0;
  ended = 0;

  constructor(plan: SupervisorPlan, slow: boolean) {
    this.supervisor = new Supervisor(plan);
    this.slow = slow;
    this.step({ kind: 'start' });
  }

  step(event: SupervisorEvent): void {
    for (const action of this.supervisor.step(event, this.nowMs)) this.#carryOut(action);
  }

  #carryOut(action: SupervisorAction): void {
    if (action.kind === 'start-child') {
      expect(this.stopping, 'nothing is started while a sibling is being stopped').toEqual([]);
      const failures = this.failing.get(action.id) ?? 0;
      this.failing.set(action.id, Math.max(0, failures - 1));
      this.log.push(`${failures > 0 ? '!' : '+'}${action.id}`);
      this.step(failures > 0 ? { kind: 'child-start-failed', id: action.id, error: null } : { kind: 'child-started', id: action.id });
    } else if (action.kind === 'stop-child') {
      expect(this.stopping, 'one is stopped at a time').toEqual([]);
      this.stopping.push(action.id);
      if (!this.slow) this.letStop();
    } else if (action.kind === 'gave-up') this.log.push('gave-up');
    else if (action.kind === 'ended') this.ended++;
  }

  letStop(): void {
    const id = this.stopping.shift();
    if (id === undefined) return;
    this.log.push(`-${id}`);
    this.step({ kind: 'child-exited', id, reason: 'shutdown', error: null });
  }

  states(): string[] { return this.supervisor.children.map((child) => `${child.id} ${child.state}`); }
}

describe('a supervisor against OTP\'s rules', () => {
  test('does what the model does, start for start and stop for stop', () => {
    fc.assert(fc.property(anyPlan, fc.array(anyStep, { maxLength: 30 }), (plan, steps) => {
      const driver = new Driver(plan, false);
      const model = new Model(plan, new Map());
      let added = plan.children.length;
      for (const step of steps) {
        if (step.do === 'crash' || step.do === 'done') {
          const id = `c${step.who}`;
          model.exited(id, step.do, driver.nowMs);
          driver.step({ kind: 'child-exited', id, reason: step.do === 'crash' ? 'crashed' : 'normal', error: null });
        } else if (step.do === 'fail-starts') {
          driver.failing.set(`c${step.who}`, step.times);
          model.failing.set(`c${step.who}`, step.times);
        } else if (step.do === 'add') {
          const id = `c${added++}`;
          model.add(id, step.restart);
          driver.step({ kind: 'add', child: { id, restart: step.restart } });
        } else if (step.do === 'remove') {
          model.remove(`c${step.who}`);
          driver.step({ kind: 'remove', id: `c${step.who}` });
        } else if (step.do === 'wait') driver.nowMs += step.ms;
        else if (step.do === 'shutdown') {
          model.stopAll();
          driver.step({ kind: 'shutdown' });
        }
        expect(driver.log).toEqual(model.log);
        expect(driver.states()).toEqual(model.children.map((child) => `${child.id} ${child.up ? 'up' : 'down'}`));
        expect(driver.supervisor.idle).toBe(true);
      }
    }), { numRuns: 2000 });
  });

  test('slow stops and crashes in the middle of anything: order is kept, it settles, and a shutdown ends it', () => {
    fc.assert(fc.property(anyPlan, fc.array(anyStep, { maxLength: 40 }), (plan, steps) => {
      const driver = new Driver(plan, true);
      let added = plan.children.length;
      const isUp = (id: string): boolean => driver.supervisor.children.some((child) => child.id === id && child.state === 'up');
      for (const step of steps) {
        if (step.do === 'crash' || step.do === 'done') {
          const id = `c${step.who}`;
          const crashedWhileStopping = driver.stopping[0] === id;
          if (crashedWhileStopping) driver.stopping.shift();
          if (crashedWhileStopping || isUp(id)) driver.step({ kind: 'child-exited', id, reason: step.do === 'crash' ? 'crashed' : 'normal', error: null });
        } else if (step.do === 'fail-starts') driver.failing.set(`c${step.who}`, step.times);
        else if (step.do === 'add') driver.step({ kind: 'add', child: { id: `c${added++}`, restart: step.restart } });
        else if (step.do === 'remove') driver.step({ kind: 'remove', id: `c${step.who}` });
        else if (step.do === 'wait') driver.nowMs += step.ms;
        else if (step.do === 'let-stop') driver.letStop();
        else driver.step({ kind: 'shutdown' });
        // Work is left exactly as long as a stop is awaited.
        expect(driver.supervisor.idle).toBe(driver.stopping.length === 0);
      }
      for (let i = 0; i < 1000 && driver.stopping.length > 0; i++) driver.letStop();
      expect(driver.supervisor.idle).toBe(true);
      // Whoever is down has a reason to be: it was done, or the supervisor ended or gave up.
      if (driver.supervisor.phase === 'running') {
        for (const child of driver.supervisor.children) if (child.restart === 'permanent' && !wasDone(steps, child.id)) expect(child.state).toBe('up');
      }
      const endedBefore = driver.ended;
      driver.step({ kind: 'shutdown' });
      for (let i = 0; i < 1000 && driver.stopping.length > 0; i++) driver.letStop();
      expect(driver.ended).toBe(endedBefore + 1);
      expect(driver.supervisor.children.filter((child) => child.state !== 'down')).toEqual([]);
    }), { numRuns: 2000 });
  });
});

function wasDone(steps: readonly Step[], id: string): boolean {
  return steps.some((step) => step.do === 'done' && `c${step.who}` === id);
}
