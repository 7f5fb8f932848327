import { partyOf, type Actor, type ActorContext, type Address, type Message, type Signal } from '@ashlar/actor';
import { parseParties, type Member, type MemberParty, type Roster } from '@ashlar/identity';
import type { SupervisorMessage } from '@ashlar/protocol';
import { errorCode } from '@ashlar/words';
import type { Cluster } from './cluster.ts';

export const CLUSTER_ADDRESS: Address = 'manager/cluster';

/** A machine's daemon → the cluster's actor, again and again: what it knows, and where its parties listen. */
export interface MachineHello {
  readonly kind: 'machine-hello';
  readonly rosterNumber: number;
  readonly parties: readonly MemberParty[];
}

/** The cluster's actor → `PARTY/daemon`. */
export interface RosterMessage {
  readonly kind: 'roster';
  readonly roster: Roster;
}

/** Gives every machine's daemon the newest roster, and takes its word for the end of its processes. */
export class ClusterActor implements Actor<MachineHello | SupervisorMessage> {
  readonly #context: ActorContext;
  readonly #cluster: Cluster;
  readonly #tell: (message: SupervisorMessage) => void;
  /** Why a daemon's word could not be taken, told once: it is said again every second. */
  readonly #untaken = new Map<Address, string>();

  constructor(context: ActorContext, cluster: Cluster, tell: (message: SupervisorMessage) => void) {
    this.#context = context;
    this.#cluster = cluster;
    this.#tell = tell;
  }

  receive(message: MachineHello | SupervisorMessage | Signal, from: Address): void {
    switch (message.kind) {
      case 'machine-hello': return this.#hello(message, from);
      case 'process-ended':
      case 'process-started':
        // The link has made sure whose daemon it is. It knows of the processes of its own machine only.
        if (this.#memberOf(from)?.parties.some(({ party }) => party === message.name)) this.#tell(message);
        else this.#context.log.warn({ from, name: message.name }, 'a daemon speaks of a process of another machine; ignored');
        return;
      default: return;
    }
  }

  inspect(): unknown { return { rosterNumber: this.#cluster.roster.number }; }

  /** At once, to all whose link is up; the others ask for it when theirs is. */
  push(): void {
    const { members } = this.#cluster.roster;
    for (const { party, role } of members.flatMap(({ parties }) => parties)) if (role === 'daemon') this.#send(`${party}/daemon`);
  }

  #hello(hello: MachineHello, from: Address): void {
    const member = this.#memberOf(from);
    if (member === undefined) return;
    if (hello.rosterNumber !== this.#cluster.roster.number) this.#send(from);
    void this.#moved(member, hello, from);
  }

  async #moved(member: Member, hello: MachineHello, from: Address): Promise<void> {
    try {
      await this.#cluster.moved(member, parseParties(hello.parties));
      this.#untaken.delete(from);
    } catch (error) {
      const why = (error as Error).message;
      if (this.#untaken.get(from) !== why) this.#context.log.error({ from, code: errorCode(error), error }, 'a machine says what the cluster cannot take');
      this.#untaken.set(from, why);
    }
  }

  #memberOf(from: Address): Member | undefined {
    return this.#cluster.roster.members.find(({ parties }) => parties.some(({ party, role }) => role === 'daemon' && party === partyOf(from)));
  }

  #send(to: Address): void {
    const message: RosterMessage = { kind: 'roster', roster: this.#cluster.roster };
    this.#context.send(to, message as Message);
  }
}
