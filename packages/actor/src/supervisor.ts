import { assert, unreachable } from '@ashlar/words';
import type { Restart, Strategy } from './child-spec.ts';
import { addRestart } from './restart-history.ts';

/** What a supervisor must know of a child; how it is started is the kernel's affair. */
export interface ChildPlan {
  readonly id: string;
  readonly restart: Restart;
}

export interface SupervisorPlan {
  readonly strategy: Strategy;
  readonly intensity: number;
  readonly periodMs: number;
  readonly pastIntensity: 'escalate' | 'fault';
  readonly children: readonly ChildPlan[];
}

/** `normal`: it was done. `shutdown`: it was told to. `crashed`: anything else. */
export type ExitReason = 'normal' | 'shutdown' | 'crashed';

export type SupervisorEvent =
  | { readonly kind: 'start' }
  | { readonly kind: 'child-started'; readonly id: string }
  | { readonly kind: 'child-start-failed'; readonly id: string; readonly error: unknown }
  /** Also the answer to `stop-child`, and to one that was given up because it did not end in time. */
  | { readonly kind: 'child-exited'; readonly id: string; readonly reason: ExitReason; readonly error: unknown }
  | { readonly kind: 'add'; readonly child: ChildPlan }
  | { readonly kind: 'remove'; readonly id: string }
  | { readonly kind: 'shutdown' };

export type SupervisorAction =
  | { readonly kind: 'start-child'; readonly id: string }
  | { readonly kind: 'stop-child'; readonly id: string }
  /** Every child of the plan is up for the first time. */
  | { readonly kind: 'started' }
  /** A child of the plan could not be started; those before it have been stopped again. */
  | { readonly kind: 'start-failed'; readonly id: string; readonly error: unknown }
  | { readonly kind: 'added'; readonly id: string }
  | { readonly kind: 'add-refused'; readonly id: string; readonly reason: 'already-started' | 'failed' | 'not-running' }
  | { readonly kind: 'removed'; readonly id: string }
  /** Too many restarts and every child is down: to be treated as its crash (`escalate`), or it stays like this (`fault`). */
  | { readonly kind: 'gave-up'; readonly mode: 'escalate' | 'fault'; readonly id: string; readonly error: unknown }
  | { readonly kind: 'ended' };

type Phase = 'new' | 'running' | 'faulted' | 'ended';
type ChildState = 'down' | 'starting' | 'up' | 'stopping';

interface Child extends ChildPlan {
  state: ChildState;
}

/** What the job in hand is for, and so what follows when its last step is done. */
type Purpose =
  | { readonly kind: 'first-start' }
  | { readonly kind: 'undo-start'; readonly id: string; readonly error: unknown }
  | { readonly kind: 'restart' }
  | { readonly kind: 'add'; readonly id: string }
  | { readonly kind: 'remove'; readonly id: string }
  | { readonly kind: 'give-up'; readonly id: string; readonly error: unknown }
  | { readonly kind: 'shutdown' };

/** First stop these, one after the other; then start those, one after the other. */
interface Job {
  readonly purpose: Purpose;
  readonly stop: string[];
  readonly start: string[];
}

type Waiting = Extract<SupervisorEvent, { kind: 'child-exited' | 'add' | 'remove' }>;

/**
 * A supervisor in OTP's terms as a state machine without I/O: events in, actions out. One job at a time; what arrives meanwhile
 * waits, as it would in the mailbox of an Erlang supervisor, except `shutdown`, which replaces the job.
 */
export class Supervisor {
  readonly #plan: SupervisorPlan;
  #phase: Phase = 'new';
  /** In the order of starting. */
  #children: Child[];
  #restartsMs: readonly number[] = [];
  #job: Job | null = null;
  #waiting: Waiting[] = [];
  #actions: SupervisorAction[] = [];
  #restarts = 0;

  constructor(plan: SupervisorPlan) {
    assert(new Set(plan.children.map((child) => child.id)).size === plan.children.length, 'ids of siblings are unique');
    this.#plan = plan;
    this.#children = plan.children.map((child) => ({ id: child.id, restart: child.restart, state: 'down' }));
  }

  get phase(): Phase { return this.#phase; }
  get idle(): boolean { return this.#job === null; }
  /** Restarts since the beginning. */
  get restarts(): number { return this.#restarts; }
  get children(): readonly (ChildPlan & { readonly state: ChildState })[] { return this.#children; }

  step(event: SupervisorEvent, nowMs: number): readonly SupervisorAction[] {
    this.#actions = [];
    this.#take(event, nowMs);
    this.#advance(nowMs);
    return this.#actions;
  }

  #take(event: SupervisorEvent, nowMs: number): void {
    switch (event.kind) {
      case 'start':
        assert(this.#phase === 'new' && this.#job === null, 'a supervisor starts once');
        this.#job = { purpose: { kind: 'first-start' }, stop: [], start: this.#children.map((child) => child.id) };
        return;
      case 'child-started': {
        const child = this.#find(event.id);
        assert(child?.state === 'starting', 'only what is being started can have started');
        child.state = 'up';
        return;
      }
      case 'child-start-failed': return this.#startFailed(event.id, event.error, nowMs);
      case 'child-exited': return this.#exited(event);
      case 'add':
      case 'remove':
        this.#waiting.push(event);
        return;
      case 'shutdown': return this.#shutdown();
      default: unreachable(event);
    }
  }

  /** Does the next step of the job; with no job left, takes what has waited. */
  #advance(nowMs: number): void {
    for (;;) {
      if (this.#job !== null) {
        if (!this.#stepJob(this.#job)) return;
        const { purpose } = this.#job;
        this.#job = null;
        this.#finish(purpose);
        continue;
      }
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#begin(next, nowMs);
    }
  }

  /** True when nothing of the job is left. */
  #stepJob(job: Job): boolean {
    if (this.#children.some((child) => child.state === 'stopping' || child.state === 'starting')) return false;
    for (let id = job.stop.shift(); id !== undefined; id = job.stop.shift()) {
      const child = this.#find(id);
      if (child?.state !== 'up') continue;
      child.state = 'stopping';
      this.#actions.push({ kind: 'stop-child', id });
      return false;
    }
    for (let id = job.start.shift(); id !== undefined; id = job.start.shift()) {
      const child = this.#find(id);
      // A child that crashed again while its siblings were being restarted has its own entry in #waiting.
      if (child?.state !== 'down') continue;
      child.state = 'starting';
      this.#actions.push({ kind: 'start-child', id });
      return false;
    }
    return true;
  }

  #finish(purpose: Purpose): void {
    switch (purpose.kind) {
      case 'first-start':
        this.#phase = 'running';
        this.#actions.push({ kind: 'started' });
        return;
      case 'undo-start':
        this.#end();
        this.#actions.push({ kind: 'start-failed', id: purpose.id, error: purpose.error });
        return;
      case 'restart': return;
      case 'add':
        this.#actions.push({ kind: 'added', id: purpose.id });
        return;
      case 'remove':
        this.#forget(purpose.id);
        this.#actions.push({ kind: 'removed', id: purpose.id });
        return;
      case 'give-up':
        this.#end();
        if (this.#plan.pastIntensity === 'fault') this.#phase = 'faulted';
        this.#actions.push({ kind: 'gave-up', mode: this.#plan.pastIntensity, id: purpose.id, error: purpose.error });
        return;
      case 'shutdown':
        this.#end();
        this.#actions.push({ kind: 'ended' });
        return;
      default: unreachable(purpose);
    }
  }

  #begin(event: Waiting, nowMs: number): void {
    switch (event.kind) {
      case 'child-exited': return this.#beginRestart(event, nowMs);
      case 'add': return this.#beginAdd(event.child);
      case 'remove':
        this.#job = { purpose: { kind: 'remove', id: event.id }, stop: [event.id], start: [] };
        return;
      default: unreachable(event);
    }
  }

  #beginAdd(plan: ChildPlan): void {
    if (this.#phase !== 'running') {
      this.#actions.push({ kind: 'add-refused', id: plan.id, reason: 'not-running' });
      return;
    }
    if (this.#find(plan.id)) {
      this.#actions.push({ kind: 'add-refused', id: plan.id, reason: 'already-started' });
      return;
    }
    this.#children.push({ id: plan.id, restart: plan.restart, state: 'down' });
    this.#job = { purpose: { kind: 'add', id: plan.id }, stop: [], start: [plan.id] };
  }

  #exited(event: Extract<SupervisorEvent, { kind: 'child-exited' }>): void {
    const child = this.#find(event.id);
    if (child === undefined || child.state === 'down') return;
    const asked = child.state === 'stopping';
    child.state = 'down';
    // A sibling that is restarted along must not come back if it is temporary (supervisor.erl, del_child).
    if (asked) this.#forgetTemporary(child);
    else this.#waiting.push(event);
  }

  #beginRestart(event: Extract<SupervisorEvent, { kind: 'child-exited' }>, nowMs: number): void {
    const child = this.#find(event.id);
    // Already up again, or already gone: a restart of its siblings took it along, or it was removed.
    if (child?.state !== 'down' || this.#phase !== 'running') return;
    const wanted = child.restart === 'permanent' || (child.restart === 'transient' && event.reason === 'crashed');
    if (!wanted) {
      if (child.restart === 'temporary') this.#forget(child.id);
      return;
    }
    this.#restart(child.id, event.error, nowMs);
  }

  #restart(id: string, error: unknown, nowMs: number): void {
    const { restartsMs, tooMany } = addRestart(this.#restartsMs, nowMs, this.#plan.intensity, this.#plan.periodMs);
    this.#restartsMs = restartsMs;
    if (tooMany) {
      this.#job = { purpose: { kind: 'give-up', id, error }, stop: this.#stopOrder(), start: [] };
      return;
    }
    this.#restarts++;
    const affected = this.#affectedBy(id);
    this.#job = { purpose: { kind: 'restart' }, stop: affected.filter((other) => other !== id).reverse(), start: affected };
  }

  /** In the order of starting. */
  #affectedBy(id: string): string[] {
    switch (this.#plan.strategy) {
      case 'one_for_one': return [id];
      case 'one_for_all': return this.#restartable(0, id);
      case 'rest_for_one': return this.#restartable(this.#children.findIndex((child) => child.id === id), id);
      default: return unreachable(this.#plan.strategy);
    }
  }

  /** A transient child that ended normally stays down when its siblings are restarted around it. */
  #restartable(from: number, cause: string): string[] {
    const held = new Set(this.#waiting.filter((event) => event.kind === 'child-exited').map((event) => event.id));
    return this.#children.slice(from)
      .filter((child) => child.id === cause || child.state !== 'down' || held.has(child.id))
      .map((child) => child.id);
  }

  #startFailed(id: string, error: unknown, nowMs: number): void {
    const child = this.#find(id);
    assert(child?.state === 'starting' && this.#job !== null, 'only what is being started can fail to start');
    child.state = 'down';
    const { purpose } = this.#job;
    switch (purpose.kind) {
      case 'first-start':
        this.#job = { purpose: { kind: 'undo-start', id, error }, stop: this.#stopOrder(), start: [] };
        return;
      case 'add':
        this.#job = null;
        this.#forget(id);
        this.#actions.push({ kind: 'add-refused', id, reason: 'failed' });
        return;
      case 'restart':
        // As OTP's try_again_restart: a failed restart counts as another one, so that it ends at the intensity.
        this.#retry(id, error, nowMs, this.#job.start);
        return;
      case 'shutdown': case 'give-up': case 'undo-start': case 'remove': return;
      default: unreachable(purpose);
    }
  }

  #retry(id: string, error: unknown, nowMs: number, notYetStarted: readonly string[]): void {
    this.#restart(id, error, nowMs);
    if (this.#job?.purpose.kind !== 'restart') return;
    const { start } = this.#job;
    // The siblings behind the failed one were stopped for this restart, and are still to be started.
    for (const other of notYetStarted) if (!start.includes(other)) start.push(other);
    start.sort((a, b) => this.#indexOf(a) - this.#indexOf(b));
  }

  #shutdown(): void {
    // Nobody is restarted any more; those who wait for an `add` or a `remove` still get their answer.
    this.#waiting = this.#waiting.filter((event) => event.kind !== 'child-exited');
    if (this.#phase === 'ended') {
      this.#actions.push({ kind: 'ended' });
      return;
    }
    this.#job = { purpose: { kind: 'shutdown' }, stop: this.#stopOrder(), start: [] };
  }

  #end(): void {
    this.#phase = 'ended';
    for (const event of this.#waiting) {
      if (event.kind === 'add') this.#actions.push({ kind: 'add-refused', id: event.child.id, reason: 'not-running' });
    }
    this.#waiting = this.#waiting.filter((event) => event.kind === 'remove');
  }

  #stopOrder(): string[] { return this.#children.map((child) => child.id).reverse(); }
  #find(id: string): Child | undefined { return this.#children.find((child) => child.id === id); }
  #indexOf(id: string): number { return this.#children.findIndex((child) => child.id === id); }
  #forget(id: string): void { this.#children = this.#children.filter((child) => child.id !== id); }
  #forgetTemporary(child: Child): void { if (child.restart === 'temporary') this.#forget(child.id); }
}
