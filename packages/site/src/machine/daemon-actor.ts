import type { Actor, ActorContext, Address, Message, Signal } from '@ashlar/actor';
import { CLUSTER_ADDRESS, type MachineHello, type RosterMessage } from '@ashlar/control';
import { parseRoster, type MemberParty, type Roster } from '@ashlar/identity';
import type { SupervisorMessage } from '@ashlar/protocol';

/** How often the manager is asked for a newer roster. It also pushes each; this is for what a broken link has lost. */
const HELLO_MS = 1000;

/** Speaks for a machine with the cluster's manager: learns the roster, tells of the end of processes. */
export class DaemonActor implements Actor<RosterMessage> {
  readonly #context: ActorContext;
  readonly #parties: readonly MemberParty[];
  readonly #known: () => Roster;
  readonly #learn: (roster: Roster) => void;

  constructor(context: ActorContext, parties: readonly MemberParty[], known: () => Roster, learn: (roster: Roster) => void) {
    this.#context = context;
    this.#parties = parties;
    this.#known = known;
    this.#learn = learn;
    context.watch('manager');
    this.#hello();
  }

  receive(message: RosterMessage | Signal, from: Address): void {
    if (message.kind === 'timer' || message.kind === 'link-up') return this.#hello();
    if (message.kind === 'roster' && from === CLUSTER_ADDRESS) this.#learn(parseRoster(message.roster));
  }

  inspect(): unknown { return { rosterNumber: this.#known().number }; }

  #hello(): void {
    this.#context.setTimer('hello', this.#context.nowMs() + HELLO_MS);
    const hello: MachineHello = { kind: 'machine-hello', rosterNumber: this.#known().number, parties: this.#parties };
    this.#context.send(CLUSTER_ADDRESS, hello as Message);
  }

  /** What became of a process of this machine. Lost if no link is up: the manager then goes by its silence. */
  tell(message: SupervisorMessage): void { this.#context.send(CLUSTER_ADDRESS, message); }
}
