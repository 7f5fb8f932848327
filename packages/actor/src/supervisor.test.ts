import { describe, expect, test } from 'vitest';
import { Supervisor, type SupervisorAction, type SupervisorPlan } from './supervisor.ts';
import type { Restart, Strategy } from './child-spec.ts';

function plan(strategy: Strategy, restarts: Readonly<Record<string, Restart>>, more: Partial<SupervisorPlan> = {}): SupervisorPlan {
  return { strategy, intensity: 3, periodMs: 1000, pastIntensity: 'escalate', children: Object.entries(restarts).map(([id, restart]) => ({ id, restart })), ...more };
}

/** Carries actions out at once, and writes down what was done: `+a` started, `-a` stopped, `!a` could not be started. */
class Kernel {
  readonly supervisor: Supervisor;
  readonly done: string[] = [];
  /** How often the start of a child fails from now on. */
  readonly failing = new Map<string, number>();
  /** Stops that were asked for and are answered by `letStop`. */
  readonly slow = new Set<string>();
  readonly stopping: string[] = [];
  nowMs = 0;

  constructor(of: SupervisorPlan) {
    this.supervisor = new Supervisor(of);
    this.step({ kind: 'start' });
  }

  step(event: Parameters<Supervisor['step']>[0]): void {
    for (const action of this.supervisor.step(event, this.nowMs)) this.#carryOut(action);
  }

  #carryOut(action: SupervisorAction): void {
    switch (action.kind) {
      case 'start-child': {
        const failures = this.failing.get(action.id) ?? 0;
        this.failing.set(action.id, Math.max(0, failures - 1));
        this.done.push(`${failures > 0 ? '!' : '+'}${action.id}`);
        return this.step(failures > 0 ? { kind: 'child-start-failed', id: action.id, error: 'on purpose' } : { kind: 'child-started', id: action.id });
      }
      case 'stop-child':
        if (this.slow.has(action.id)) {
          this.stopping.push(action.id);
          return;
        }
        this.done.push(`-${action.id}`);
        return this.step({ kind: 'child-exited', id: action.id, reason: 'shutdown', error: null });
      case 'add-refused':
        this.done.push(`refused ${action.id} ${action.reason}`);
        return;
      case 'gave-up':
        this.done.push(`gave-up ${action.mode} ${action.id}`);
        return;
      case 'start-failed':
        this.done.push(`start-failed ${action.id}`);
        return;
      case 'added': case 'removed':
        this.done.push(`${action.kind} ${action.id}`);
        return;
      case 'started': case 'ended':
        this.done.push(action.kind);
    }
  }

  letStop(): void {
    const id = this.stopping.shift();
    if (id === undefined) return;
    this.done.push(`-${id}`);
    this.step({ kind: 'child-exited', id, reason: 'shutdown', error: null });
  }

  crash(id: string): void { this.step({ kind: 'child-exited', id, reason: 'crashed', error: `${id} crashed` }); }
  taken(): string[] { return this.done.splice(0); }
}

describe('supervisor', () => {
  test('starts in order and stops in reverse order', () => {
    const kernel = new Kernel(plan('one_for_one', { a: 'permanent', b: 'permanent' }));
    expect(kernel.taken()).toEqual(['+a', '+b', 'started']);
    kernel.step({ kind: 'shutdown' });
    expect(kernel.taken()).toEqual(['-b', '-a', 'ended']);
    kernel.step({ kind: 'shutdown' });
    expect(kernel.taken()).toEqual(['ended']);
  });

  test.each([
    ['one_for_one', ['+b']],
    ['one_for_all', ['-c', '-a', '+a', '+b', '+c']],
    ['rest_for_one', ['-c', '+b', '+c']],
  ] as const)('%s restarts the right ones, in order', (strategy, expected) => {
    const kernel = new Kernel(plan(strategy, { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.crash('b');
    expect(kernel.taken()).toEqual(expected);
    expect(kernel.supervisor.restarts).toBe(1);
    expect(kernel.supervisor.idle).toBe(true);
  });

  test('transient children that were done stay down, temporary ones are forgotten', () => {
    const kernel = new Kernel(plan('one_for_all', { a: 'transient', b: 'permanent', c: 'temporary' }));
    kernel.taken();
    kernel.step({ kind: 'child-exited', id: 'a', reason: 'normal', error: null });
    kernel.step({ kind: 'child-exited', id: 'nobody', reason: 'crashed', error: null });
    expect(kernel.taken()).toEqual([]);
    kernel.crash('b');
    expect(kernel.taken()).toEqual(['-c', '+b']);
    expect(kernel.supervisor.children).toEqual([{ id: 'a', restart: 'transient', state: 'down' }, { id: 'b', restart: 'permanent', state: 'up' }]);
  });

  test('a temporary child that crashed is forgotten', () => {
    const kernel = new Kernel(plan('one_for_one', { a: 'temporary' }));
    kernel.crash('a');
    expect(kernel.supervisor.children).toEqual([]);
  });

  test.each(['escalate', 'fault'] as const)('past the intensity everything is stopped: %s', (pastIntensity) => {
    const kernel = new Kernel(plan('one_for_one', { a: 'permanent', b: 'permanent' }, { intensity: 1, pastIntensity }));
    kernel.taken();
    kernel.crash('a');
    kernel.crash('a');
    expect(kernel.taken()).toEqual(['+a', '-b', `gave-up ${pastIntensity} a`]);
    expect(kernel.supervisor.phase).toBe(pastIntensity === 'fault' ? 'faulted' : 'ended');
    kernel.step({ kind: 'add', child: { id: 'c', restart: 'permanent' } });
    kernel.step({ kind: 'remove', id: 'a' });
    kernel.step({ kind: 'shutdown' });
    expect(kernel.taken()).toEqual(['refused c not-running', 'removed a', 'ended']);
  });

  test('restarts older than the period are forgiven', () => {
    const kernel = new Kernel(plan('one_for_one', { a: 'permanent' }, { intensity: 1 }));
    kernel.taken();
    for (let i = 0; i < 5; i++) {
      kernel.nowMs += 1001;
      kernel.crash('a');
    }
    expect(kernel.taken()).toEqual(['+a', '+a', '+a', '+a', '+a']);
  });

  test('a child that cannot be started undoes the first start', () => {
    const supervisor = new Supervisor(plan('one_for_one', { a: 'permanent', b: 'permanent' }));
    expect(supervisor.step({ kind: 'start' }, 0)).toEqual([{ kind: 'start-child', id: 'a' }]);
    expect(supervisor.step({ kind: 'child-started', id: 'a' }, 0)).toEqual([{ kind: 'start-child', id: 'b' }]);
    expect(supervisor.step({ kind: 'child-start-failed', id: 'b', error: 'no' }, 0)).toEqual([{ kind: 'stop-child', id: 'a' }]);
    expect(supervisor.step({ kind: 'child-exited', id: 'a', reason: 'shutdown', error: null }, 0)).toEqual([{ kind: 'start-failed', id: 'b', error: 'no' }]);
    expect(supervisor.phase).toBe('ended');
  });

  test('a restart that fails is tried again, each counts, and the siblings follow', () => {
    const kernel = new Kernel(plan('one_for_all', { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.failing.set('b', 2);
    kernel.crash('b');
    expect(kernel.taken()).toEqual(['-c', '-a', '+a', '!b', '-a', '+a', '!b', '-a', '+a', '+b', '+c']);
    expect(kernel.supervisor.restarts).toBe(3);
  });

  test('a restart that keeps failing gives up', () => {
    const kernel = new Kernel(plan('rest_for_one', { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.failing.set('b', 99);
    kernel.crash('b');
    expect(kernel.taken()).toEqual(['-c', '!b', '!b', '!b', '-a', 'gave-up escalate b']);
  });

  test('adding and removing', () => {
    const kernel = new Kernel(plan('one_for_one', { a: 'permanent' }));
    kernel.taken();
    kernel.step({ kind: 'add', child: { id: 'b', restart: 'permanent' } });
    kernel.step({ kind: 'add', child: { id: 'b', restart: 'permanent' } });
    kernel.failing.set('c', 1);
    kernel.step({ kind: 'add', child: { id: 'c', restart: 'permanent' } });
    kernel.step({ kind: 'remove', id: 'a' });
    kernel.step({ kind: 'remove', id: 'nobody' });
    expect(kernel.taken()).toEqual(['+b', 'added b', 'refused b already-started', '!c', 'refused c failed', '-a', 'removed a', 'removed nobody']);
  });

  test('what happens while children are being stopped waits; a shutdown does not', () => {
    const kernel = new Kernel(plan('one_for_all', { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.slow.add('a');
    kernel.crash('b');
    expect(kernel.taken()).toEqual(['-c']);
    kernel.step({ kind: 'add', child: { id: 'd', restart: 'permanent' } });
    kernel.step({ kind: 'shutdown' });
    kernel.step({ kind: 'remove', id: 'a' });
    expect(kernel.taken()).toEqual([]);
    kernel.letStop();
    expect(kernel.taken()).toEqual(['-a', 'refused d not-running', 'ended', 'removed a']);
  });

  test('a sibling that crashed during a restart is started by it, once', () => {
    const kernel = new Kernel(plan('one_for_all', { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.slow.add('c');
    kernel.crash('b');
    kernel.crash('a');
    kernel.slow.clear();
    kernel.letStop();
    expect(kernel.taken()).toEqual(['-c', '+a', '+b', '+c']);
    expect(kernel.supervisor.restarts).toBe(1);
  });

  test('siblings that crashed while another was being removed come back with one restart', () => {
    const kernel = new Kernel(plan('one_for_all', { a: 'permanent', b: 'permanent', c: 'permanent' }));
    kernel.taken();
    kernel.slow.add('c');
    kernel.step({ kind: 'remove', id: 'c' });
    kernel.crash('a');
    kernel.crash('b');
    kernel.letStop();
    expect(kernel.taken()).toEqual(['-c', 'removed c', '+a', '+b']);
    expect(kernel.supervisor.restarts).toBe(1);
  });

  test('a shutdown while a child is being started waits for the outcome', () => {
    for (const outcome of ['child-started', 'child-start-failed'] as const) {
      const supervisor = new Supervisor(plan('one_for_one', { a: 'permanent' }));
      supervisor.step({ kind: 'start' }, 0);
      expect(supervisor.step({ kind: 'shutdown' }, 0)).toEqual([]);
      const next = supervisor.step({ kind: outcome, id: 'a', error: 'x' }, 0);
      expect(next).toEqual([outcome === 'child-started' ? { kind: 'stop-child', id: 'a' } : { kind: 'ended' }]);
    }
  });

  test('assumptions are asserted', () => {
    expect(() => new Supervisor({ ...plan('one_for_one', {}), children: [{ id: 'a', restart: 'permanent' }, { id: 'a', restart: 'permanent' }] })).toThrow('unique');
    const supervisor = new Supervisor(plan('one_for_one', { a: 'permanent' }));
    expect(() => supervisor.step({ kind: 'child-started', id: 'a' }, 0)).toThrow('being started');
    expect(() => supervisor.step({ kind: 'child-start-failed', id: 'a', error: null }, 0)).toThrow('being started');
    supervisor.step({ kind: 'start' }, 0);
    expect(() => supervisor.step({ kind: 'start' }, 0)).toThrow('starts once');
    const strange = new Kernel(plan('two_for_one' as never, { a: 'permanent' }));
    expect(() => strange.crash('a')).toThrow('unreachable');
    expect(() => supervisor.step({ kind: 'else' } as never, 0)).toThrow('unreachable');
  });
});
