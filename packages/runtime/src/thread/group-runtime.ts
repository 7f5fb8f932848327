import type { Address, ChildSpec, Message, Party, SendOutcome, SpawnOutcome, TurnStage } from '@ashlar/actor';
import type { Samples } from '@ashlar/figures';
import type { LinkNotice, Runtime, RuntimeView } from '../api.ts';
import type { ThreadRuntime } from '../runtime.ts';

/** The runtime as one group sees it: remembers what the group started, so that it can be taken out again. */
export class GroupRuntime implements Runtime {
  readonly #thread: ThreadRuntime;
  readonly #started = new Set<string>();
  readonly #parties = new Set<Party>();
  readonly #unlisten: (() => void)[] = [];

  constructor(thread: ThreadRuntime, parties: readonly Party[]) {
    this.#thread = thread;
    for (const party of parties) this.addParty(party);
  }

  get name() { return this.#thread.name; }
  get log() { return this.#thread.log; }
  get links() { return this.#thread.links; }
  nowMs(): number { return this.#thread.nowMs(); }

  hosts(party: Party): boolean { return this.#thread.hosts(party); }
  addParty(party: Party): void {
    this.#parties.add(party);
    this.#thread.addParty(party);
  }

  start(spec: ChildSpec): SpawnOutcome {
    const outcome = this.#thread.start(spec);
    if (outcome === 'started') this.#started.add(spec.id);
    return outcome;
  }

  async stop(id: string): Promise<void> {
    await this.#thread.stop(id);
    this.#started.delete(id);
  }

  send(to: Address, message: Message, from?: Address): SendOutcome { return this.#thread.send(to, message, from); }
  turn(work: () => void): void { this.#thread.turn(work); }
  atTurnEnd(stage: TurnStage, callback: () => void): void { this.#thread.atTurnEnd(stage, callback); }
  flushOutput(): void { this.#thread.flushOutput(); }
  inspect(): RuntimeView { return this.#thread.inspect(); }
  collect(samples: Samples): void { this.#thread.collect(samples); }

  onLink(listener: (notice: LinkNotice) => void): () => void {
    const unlisten = this.#thread.onLink(listener);
    this.#unlisten.push(unlisten);
    return unlisten;
  }

  /** Of this group; the thread goes on. */
  async shutdown(): Promise<void> {
    for (const id of [...this.#started].reverse()) await this.stop(id);
    for (const unlisten of this.#unlisten.splice(0)) unlisten();
    for (const party of this.#parties) this.#thread.removeParty(party);
  }
}
