import type { ApiAnswer, ApiCommand, Build, HostCommand, HostMessage, ManagerCommand, ManagerMessage, ServerMessage, SupervisorMessage } from '@ashlar/protocol';
import type { HostId, ServerId } from '@ashlar/words';
import type { Principal } from './authorize.ts';
import type { Put, StoreSnapshot, Transaction, TransactionOutcome } from './metadata-store.ts';
import type { NewEvent } from './records.ts';

/** Everything that reaches the system manager. `from` is the name of the link's other end, not what the message claims. */
export type ManagerInput =
  /** First of all, and every time `load` was asked for. Null: no reply; it is asked again. */
  | { readonly kind: 'loaded'; readonly snapshot: StoreSnapshot | null }
  | { readonly kind: 'stored'; readonly token: number; readonly outcome: TransactionOutcome }
  /** Time passed. `wallMs` keeps the events' times right when the machine's clock is set. */
  | { readonly kind: 'tick'; readonly wallMs: number }
  | { readonly kind: 'from-server'; readonly from: ServerId; readonly message: ServerMessage }
  | { readonly kind: 'from-copy'; readonly from: ServerId; readonly message: ManagerMessage }
  | { readonly kind: 'from-host'; readonly from: HostId; readonly message: HostMessage }
  | { readonly kind: 'from-supervisor'; readonly message: SupervisorMessage }
  /** A link to a server or host opened or closed. A closed link is a hint, never proof. */
  | { readonly kind: 'link'; readonly node: string; readonly up: boolean }
  | { readonly kind: 'command'; readonly requestId: number; readonly principal: Principal; readonly command: ApiCommand };

/** What the system manager asks for; carried out in the order asked. */
export interface ManagerEffects {
  load(): void;
  /** Delivers `stored` with this token, or nothing if the manager is ended first. */
  transact(token: number, transaction: Transaction): void;
  /** The same, for a store that is made anew. */
  restore(token: number, revision: number, puts: readonly Put[], events: readonly NewEvent[]): void;
  toServer(to: ServerId, command: ManagerCommand): void;
  toHost(to: HostId, command: HostCommand): void;
  answer(requestId: number, answer: ApiAnswer): void;
  /** Delivers `tick` at or after this time; one timer, setting it again moves it. */
  setTick(atMs: number): void;
}

/** Times in milliseconds. */
export interface ManagerOptions {
  readonly siteId: string;
  /** Servers that a new cluster is to have: its store is not taken for new before all of them were heard. */
  readonly expected: readonly ServerId[];
  /** How often silence is looked at. */
  readonly tickMs: number;
  /** A server this long unheard is failed over if a host also complains. 800: a status every 500 ms, 300 for a busy machine; the host's own wait of 1000 is what decides. */
  readonly silenceCorroboratedMs: number;
  /** … and without anybody's complaint: six missed statuses. Where a host waits it complains after a second; where nobody does, a busy machine is more likely than a frozen server. */
  readonly silenceAloneMs: number;
  /** … when its link is also closed: a process that lives opens it again in less. */
  readonly silenceUnlinkedMs: number;
  /** A host's complaint counts for this long. Hosts repeat it. */
  readonly complaintMs: number;
  /** A host that complains for this long is believed although the manager hears the server: a link between the two is cut. */
  readonly complaintBelievedMs: number;
  /** A copy gone for this long is rebuilt elsewhere. */
  readonly rebuildDelayMs: number;
  /** A learner unreachable for this long is replaced. */
  readonly learnerPatienceMs: number;
  /** A primary repeats every 10 s that a mirror is slow; after this long without it the mirror is not slow any more. */
  readonly slowMs: number;
  /** A server not heard since the manager started may still be opening its copies. */
  readonly startGraceMs: number;
  /** Copies report right after their server's hello; after so long a report that is missing was lost. */
  readonly reportGraceMs: number;
  /** A primary that reports its copy, and does not say in this time that it leads, was restarted: no copy resumes its role. */
  readonly confirmMs: number;
  /** A configuration that its primary has not confirmed is pushed again. */
  readonly repeatMs: number;
  /** A command that waits for servers or hosts is answered with `timeout`. */
  readonly commandTimeoutMs: number;
  /** Usage figures are saved this often. */
  readonly usageSaveMs: number;
  /** Learners being filled at a time, over all volumes. */
  readonly rebuildsMax: number;
  /** The process that it runs in, for `cluster status`. */
  readonly self: { readonly name: string; readonly pid: number; readonly build: Build | null };
}

export const MANAGER_DEFAULTS: ManagerOptions = {
  siteId: 'site-1',
  expected: [],
  tickMs: 100,
  silenceCorroboratedMs: 800,
  silenceAloneMs: 3000,
  silenceUnlinkedMs: 700,
  complaintMs: 1500,
  complaintBelievedMs: 4000,
  rebuildDelayMs: 30_000,
  learnerPatienceMs: 30_000,
  slowMs: 25_000,
  startGraceMs: 5000,
  reportGraceMs: 2000,
  confirmMs: 400,
  repeatMs: 500,
  commandTimeoutMs: 30_000,
  usageSaveMs: 60_000,
  rebuildsMax: 4,
  self: { name: 'manager', pid: 0, build: null },
};
