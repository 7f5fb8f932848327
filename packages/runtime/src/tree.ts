import { Supervisor, type ActorSpec, type ChildSpec, type ExitReason, type SpawnOutcome, type SupervisorAction, type SupervisorEvent, type SupervisorSpec } from '@ashlar/actor';
import { unreachable } from '@ashlar/words';
import type { Cell } from './cell.ts';

/** How the tree starts and stops actors. */
export interface TreeHost {
  nowMs(): number;
  /** Starts a life; throws what its `start` throws. */
  startActor(spec: ActorSpec, path: string, branch: Branch): Cell;
  /** Ends a life in order; `ended` is called once, perhaps at once. */
  stopActor(cell: Cell, ended: () => void): void;
  setTimer(atMs: number, fire: () => void): { dead: boolean };
  reportDefect(error: unknown): void;
}

interface Member {
  readonly spec: ChildSpec;
  cell: Cell | null;
  branch: Branch | null;
}

/** A supervisor at work: carries out what its state machine decides. */
export class Branch {
  readonly spec: SupervisorSpec;
  readonly path: string;
  readonly #host: TreeHost;
  readonly #machine: Supervisor;
  readonly #members = new Map<string, Member>();
  readonly #events: SupervisorEvent[] = [];
  readonly #notify: (outcome: BranchOutcome) => void;
  readonly #adds = new Map<string, SpawnOutcome>();
  #stepping = false;
  faulted = false;

  constructor(spec: SupervisorSpec, path: string, host: TreeHost, notify: (outcome: BranchOutcome) => void) {
    this.spec = spec;
    this.path = path;
    this.#host = host;
    this.#notify = notify;
    this.#machine = new Supervisor({ ...spec, children: spec.children.map((child) => ({ id: child.id, restart: child.restart ?? 'permanent' })) });
    for (const child of spec.children) this.#members.set(child.id, { spec: child, cell: null, branch: null });
  }

  get restarts(): number { return this.#machine.restarts; }
  start(): void { this.#post({ kind: 'start' }); }
  shutdown(): void { this.#post({ kind: 'shutdown' }); }

  /** If a restart is under way the child is started after it; the answer is then `started` in advance. */
  add(spec: ChildSpec): SpawnOutcome {
    if (this.#members.has(spec.id)) return 'already-started';
    this.#members.set(spec.id, { spec, cell: null, branch: null });
    this.#post({ kind: 'add', child: { id: spec.id, restart: spec.restart ?? 'permanent' } });
    const outcome = this.#adds.get(spec.id) ?? 'started';
    this.#adds.delete(spec.id);
    return outcome;
  }

  remove(id: string): void { this.#post({ kind: 'remove', id }); }

  /** A life of one of its actors is over, unasked. */
  crashed(cell: Cell, error: unknown): void {
    const id = cell.spec.id;
    const member = this.#members.get(id);
    if (member?.cell !== cell) return;
    member.cell = null;
    this.#guarded(() => this.spec.onCrash?.({ supervisorId: this.spec.id, childId: id, error }));
    this.#post({ kind: 'child-exited', id, reason: 'crashed', error });
  }

  /** What those who made the spec do with a crash must not stop the supervision. */
  #guarded(callback: () => void): void {
    try {
      callback();
    } catch (defect) {
      this.#host.reportDefect(defect);
    }
  }

  /** Every actor that is up, and those that stay down because their supervisor is past its intensity. */
  *actors(): IterableIterator<{ readonly spec: ActorSpec; readonly path: string; readonly cell: Cell | null; readonly branch: Branch }> {
    for (const { spec, cell, branch } of this.#members.values()) {
      if (spec.kind === 'actor' && (cell || this.faulted)) yield { spec, path: `${this.path}/${spec.id}`, cell, branch: this };
      if (branch) yield* branch.actors();
    }
  }

  #post(event: SupervisorEvent): void {
    this.#events.push(event);
    if (this.#stepping) return;
    this.#stepping = true;
    try {
      for (let next = this.#events.shift(); next; next = this.#events.shift()) {
        for (const action of this.#machine.step(next, this.#host.nowMs())) this.#carryOut(action);
      }
    } finally {
      this.#stepping = false;
    }
  }

  #carryOut(action: SupervisorAction): void {
    switch (action.kind) {
      case 'start-child': return this.#startChild(action.id);
      case 'stop-child': return this.#stopChild(action.id);
      case 'started': return this.#notify({ kind: 'started' });
      case 'start-failed': return this.#notify({ kind: 'start-failed', error: action.error });
      case 'added':
        this.#adds.set(action.id, 'started');
        return;
      case 'add-refused':
        this.#adds.set(action.id, action.reason === 'already-started' ? 'already-started' : 'failed');
        if (action.reason !== 'already-started') this.#members.delete(action.id);
        return;
      case 'removed':
        this.#members.delete(action.id);
        return;
      case 'gave-up':
        this.faulted = true;
        if (action.mode === 'fault') {
          return this.#guarded(() => this.spec.onFault?.({ supervisorId: this.spec.id, childId: action.id, error: action.error }));
        }
        return this.#notify({ kind: 'gave-up', error: action.error });
      case 'ended': return this.#notify({ kind: 'ended' });
      default: return unreachable(action);
    }
  }

  #startChild(id: string): void {
    const member = this.#members.get(id) as Member;
    const { spec } = member;
    if (spec.kind === 'actor') {
      try {
        member.cell = this.#host.startActor(spec, `${this.path}/${id}`, this);
      } catch (error) {
        return this.#post({ kind: 'child-start-failed', id, error });
      }
      return this.#post({ kind: 'child-started', id });
    }
    member.branch = new Branch(spec, `${this.path}/${id}`, this.#host, (outcome) => this.#onBranch(id, member, outcome));
    member.branch.start();
  }

  #onBranch(id: string, member: Member, outcome: BranchOutcome): void {
    if (outcome.kind === 'started') return this.#post({ kind: 'child-started', id });
    member.branch = null;
    if (outcome.kind === 'start-failed') return this.#post({ kind: 'child-start-failed', id, error: outcome.error });
    const reason: ExitReason = outcome.kind === 'ended' ? 'shutdown' : 'crashed';
    this.#post({ kind: 'child-exited', id, reason, error: outcome.kind === 'gave-up' ? outcome.error : null });
  }

  #stopChild(id: string): void {
    const member = this.#members.get(id) as Member;
    const { cell, branch } = member;
    if (branch) return branch.shutdown();
    if (!cell) return this.#post({ kind: 'child-exited', id, reason: 'shutdown', error: null });
    this.#host.stopActor(cell, () => {
      member.cell = null;
      this.#post({ kind: 'child-exited', id, reason: 'shutdown', error: null });
    });
  }
}

export type BranchOutcome =
  | { readonly kind: 'started' | 'ended' }
  | { readonly kind: 'start-failed' | 'gave-up'; readonly error: unknown };
