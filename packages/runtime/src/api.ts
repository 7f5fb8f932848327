import type { X509Certificate } from 'node:crypto';
import type { ActorLog, Address, ChildSpec, Message, Party, SendOutcome, SpawnOutcome, TurnStage } from '@ashlar/actor';
import type { Samples } from '@ashlar/figures';
import type { LogOptions } from './log.ts';

/**
 * Runs many actors in one thread. Made by `createRuntime`; the main thread of a small process, and each worker of a pool, has one.
 *
 * A *turn* begins with something from outside (a socket read, a timer, a completion), runs every message it causes, then the
 * `work` hooks, then what those cause, and at last the `output` hooks, which write to sockets. Messages of one sender to one
 * receiver arrive in the order of sending.
 */
export interface Runtime {
  readonly name: string;
  readonly log: ActorLog;
  readonly links: Links;
  nowMs(): number;
  /** This thread hosts the party: addresses that begin with it are looked up here, and links announce it. */
  addParty(party: Party): void;
  /** True if this thread hosts the party. */
  hosts(party: Party): boolean;
  /** Starts a child of the root supervisor (one_for_one; its children do not pull each other down). */
  start(spec: ChildSpec): SpawnOutcome;
  /** Stops a child of the root supervisor in order; resolves when it has ended. */
  stop(id: string): Promise<void>;
  /** For drivers and tests: sends with `from` (default KERNEL). Begins a turn if none is running. */
  send(to: Address, message: Message, from?: Address): SendOutcome;
  /** Everything sent in `work` belongs to one turn: call it around the handling of one socket read. */
  turn(work: () => void): void;
  atTurnEnd(stage: TurnStage, callback: () => void): void;
  /** Runs the `output` hooks now: for a primary that wants its mirrors to work while it writes its own journal. */
  flushOutput(): void;
  /** Calls back for every link that comes up or goes down. Returns the way to stop it. */
  onLink(listener: (notice: LinkNotice) => void): () => void;
  inspect(): RuntimeView;
  /** Figures of this thread, its process and its links. */
  collect(samples: Samples): void;
  /** Stops every actor in reverse order of starting, then closes the links. */
  shutdown(): Promise<void>;
}

export interface LinkNotice {
  readonly kind: 'link-up' | 'link-down';
  readonly party: Party;
  readonly incarnation: number;
}

/** Where a link server listens: a unix socket in a directory that only the owner can enter, or TCP. */
export type LinkAddress = { readonly path: string } | { readonly host: string; readonly port: number };

/** What TLS shows and checks, in PEM. */
export interface Credentials {
  readonly key: string;
  readonly cert: string;
  /** The only authority that is believed. */
  readonly ca: string;
}

/** Parties for which the other end may speak, or why it may have no link. */
export type Judgement = { readonly parties: ReadonlySet<Party> } | { readonly refused: string };

/** Who this process is to other machines, and whom of them it believes. Links over TCP are mutual TLS with it. */
export interface PeerTrust {
  /** Asked for each new connection, so that a renewed certificate counts from then on; links that are open go on. */
  credentials(): Credentials;
  /** `fault`: what TLS finds wrong with the certificate, or null. Asked at each new link, and again for open ones after a change. */
  judge(certificate: X509Certificate | undefined, fault: string | null): Judgement;
  /** Calls back when credentials or judgements may be different. */
  onChange(listener: () => void): void;
}

/** WebSocket links of one thread to the parties in other processes. One link carries all parties of both ends. */
export interface Links {
  /** Accepts links. Resolves with the address in use (the port that was given out, for port 0). */
  listen(address: LinkAddress): Promise<LinkAddress>;
  /** Keeps a link to the process that hosts this party: reconnects after 50 ms … 1 s until `disconnect`. Calling again with another address moves it. */
  connect(party: Party, address: LinkAddress): void;
  disconnect(party: Party): void;
  /** Parties that `connect` was called for. */
  dialled(): readonly Party[];
  /** Parties whose link is up. */
  up(): readonly Party[];
  /** Resolves when the link to this party is up. Rejects with `timeout`. */
  waitUntilUp(party: Party, timeoutMs: number): Promise<void>;
  inspect(): readonly LinkView[];
  close(): Promise<void>;
}

export interface LinkView {
  readonly parties: readonly Party[];
  readonly incarnation: number;
  /** `thread`: a pair of rings to another thread of this process. */
  readonly side: 'client' | 'server' | 'thread';
  /** Of the wire; 0 until both sides have introduced themselves. */
  readonly version: number;
  readonly sentMessages: number;
  readonly sentBytes: number;
  readonly receivedMessages: number;
  readonly receivedBytes: number;
  readonly bufferedBytes: number;
  readonly refusedBusy: number;
}

export interface RuntimeView {
  readonly name: string;
  readonly parties: readonly Party[];
  readonly actors: readonly ActorView[];
  readonly links: readonly LinkView[];
  readonly turns: number;
  readonly messages: number;
  /** Ends of actors elsewhere that actors here wait for. */
  readonly monitors: number;
}

export interface ActorView {
  readonly address: Address;
  /** Ids from the root supervisor down: `root/volumes/vol-…/copy`. */
  readonly path: string;
  readonly state: 'running' | 'stopping' | 'faulted';
  readonly restarts: number;
  readonly queued: number;
  readonly received: number;
  /** What `Actor.inspect` answered. */
  readonly detail: unknown;
}

export interface RuntimeOptions {
  /** For logs and errors: `server-1` or `server-1/block-0`. */
  readonly name: string;
  readonly log: ActorLog;
  /** Shared secret of the site: both ends of a link must have the same. Where there is `trust`, it is for links within the machine alone. */
  readonly token: string;
  /** For links over TCP. */
  readonly trust?: PeerTrust;
  readonly parties?: readonly Party[];
  /** Monotonic milliseconds; default: the machine's monotonic clock, the same in all threads. */
  readonly clock?: () => number;
}

/** How a thread of the pool is told what to run: a module whose export makes the specs, because functions cannot cross threads. */
export interface PlacedActors {
  /** Names the group in the pool; one group is on one thread. */
  readonly id: string;
  /** `new URL('./copy-group.ts', import.meta.url).href`: exports `place(runtime: Runtime, argument: unknown): void | Promise<void>`. */
  readonly module: string;
  /** Plain data (structured clone; SharedArrayBuffer allowed). Kept, because the group is placed again when its thread is replaced. */
  readonly argument: unknown;
  /** Parties that this group hosts: messages to them are routed to its thread. */
  readonly parties: readonly Party[];
  /** Groups with the same affinity share a thread: what talks on the block path. */
  readonly affinity: string;
}

export interface ThreadView {
  readonly index: number;
  /** Raised by every replacement of a thread that died. */
  readonly life: number;
  readonly groups: readonly string[];
}

/** Chooses the thread of a group: its index in `threads`. Default: where its affinity is, else the emptiest. */
export type PlacementPolicy = (group: PlacedActors, threads: readonly ThreadView[]) => number;

/** Worker threads that host a Runtime each. A thread that dies is replaced and its groups are placed again. */
export interface ThreadPool {
  place(group: PlacedActors): Promise<void>;
  remove(id: string): Promise<void>;
  threads(): readonly ThreadView[];
  inspect(): Promise<readonly RuntimeView[]>;
  /** From the main thread to an actor of a placed party. */
  send(to: Address, message: Message, from?: Address): SendOutcome;
  onThreadEnded(listener: (thread: ThreadView, error: unknown) => void): void;
  shutdown(): Promise<void>;
}

export interface ThreadPoolOptions {
  /** Its threads are called `${name}/0`, `${name}/1`, … */
  readonly name: string;
  readonly threads: number;
  /** The runtime of this thread, made by createRuntime: its parties and those of the threads reach each other. */
  readonly runtime: Runtime;
  /** Each thread makes a log of its own: functions cannot cross. */
  readonly log: Omit<LogOptions, 'name'>;
  /** For the threads' own WebSocket links. */
  readonly token: string;
  readonly policy?: PlacementPolicy;
  /** How long a thread looks at an empty ring before it sleeps. 0 (default): never; 20–50 saves the wake-up where cores are to spare. */
  readonly spinUs?: number;
}
