import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { ActorContext, Address, ChildSpec } from '@ashlar/actor';
import { FOUNDING_INCARNATION, memberOf, type Configuration, type CopyFault, type CopyReport, type DirectoryHealth, type DiskKind, type HeldCopy, type ManagerCommand, type ManagerMessage } from '@ashlar/protocol';
import { BeaconTable, newCopyState, type Leases } from '@ashlar/replication';
import { startFigures, thisBuild, type Runtime } from '@ashlar/runtime';
import { COPY_FORMAT, createCopy, openCopy, DestageBuffer, PageCache, type CopyStore, type CreateOptions, type OpenFailure, type StoreOptions } from '@ashlar/store';
import { assert, AshlarError, Defect, Prng, type ServerId, type VolumeId } from '@ashlar/words';
import { BeaconActor, beaconAddress } from './beacon-actor.ts';
import { CopyActor, copyAddress, type CopySurroundings } from './copy-actor.ts';
import { Directories, DIRECTORY_FORMAT } from './directories.ts';
import { diskKindOf, slowest } from './disk/disk-kind.ts';
import { Gauge } from './disk/gauge.ts';
import { CopyTotals } from './figures.ts';
import { FillPace } from './fill-pace.ts';
import { NodeDisk } from './disk/node-disk.ts';
import { ServerLedger } from './ledger.ts';
import type { HandedCopy } from './handover.ts';
import { ReplyMemory } from './reply-memory.ts';
import { threadWaitedMs } from './run-delay.ts';
import { SCRUB_INTERVAL_MS, ScrubTurns } from './scrub-turns.ts';
import { ServerActor, type CopyHouse, type HandOverMessage } from './server-actor.ts';
import { COPY_SUPERVISION } from './supervision.ts';

export interface StorageNodeOptions {
  readonly serverId: ServerId;
  /** One a disk. Copies are striped over them. */
  readonly directories: readonly string[];
  readonly runtime: Runtime;
  readonly managerAddress: Address;
  /** Where it can be reached, for people. */
  readonly address: string;
  /** Changes when the machine restarts; default: the kernel's. */
  readonly bootId?: string;
  /** Empty or left out: unknown. */
  readonly rack?: string;
  /** The site that it is at; left out: the manager's. */
  readonly siteId?: string;
  /** What its directories lie on; left out: what the kernel says. */
  readonly disk?: DiskKind;
}

/** Metadata pages kept in memory by all copies of a server: 4096 are 16 MiB, and cover 4 GiB of hot data. */
const PAGES_MAX = 4096;
const DESTAGE_BUFFER_BYTES = 32 * 2 ** 20;
const SHUTDOWN_MS = 20_000;
/** Extents scrubbed in one go, twice a second while there is no load: 16 MiB a second, a terabyte in 18 hours. */
const PATROL_PIECES = 8;
/** … and no longer than this, beyond the piece that is begun: whoever asks for something meanwhile waits. A disk that turns then does a terabyte in six days. */
const PATROL_MS = 10;

/** What is said of a copy of which nothing is known, or that is not there. */
const UNOPENED = { lineage: 0, promisedEpoch: 0, incarnation: 0, lostCache: true, complete: false, lastEpoch: 0, lastSeq: 0, attachNumber: 0, asked: 0 } as const;

/** A storage server: its copies, their leases, and its word to the system manager. Hosted by one thread. */
export class StorageNode implements CopyHouse {
  readonly serverId: ServerId;
  #ledger: ServerLedger | null = null;
  readonly #options: StorageNodeOptions;
  readonly #runtime: Runtime;
  readonly #directories: Directories;
  readonly #surroundings: CopySurroundings;
  readonly #storeOptions: Pick<StoreOptions, 'serverId' | 'bootId' | 'pageCache' | 'destageBuffer'>;
  readonly #beacons: BeaconTable;
  readonly #gauges: readonly Gauge[];
  readonly #turns: ScrubTurns;
  /** The copy whose scrub is under way. */
  #patrolled: VolumeId | null = null;
  readonly #actors = new Map<VolumeId, CopyActor>();
  /** Made a moment ago, for their first life: opening them again would cost two syncs of the disk, during which this thread serves nobody. */
  readonly #created = new Map<VolumeId, CopyStore>();
  readonly #running = new Set<VolumeId>();
  /** Copies that cannot run, and what the manager is told of them. */
  readonly #faulted = new Map<VolumeId, CopyReport>();
  #openError: OpenError | null = null;

  private constructor(options: StorageNodeOptions, directories: Directories) {
    const { serverId, runtime } = options;
    this.serverId = serverId;
    this.#options = options;
    this.#runtime = runtime;
    this.#directories = directories;
    this.#gauges = directories.paths.map((path) => new Gauge(path));
    const instance = randomInt(1, 2 ** 47);
    this.#beacons = new BeaconTable(instance, () => runtime.send(beaconAddress(serverId), { kind: 'beacon-wanted' } as const));
    const leases: Leases = this.#beacons;
    this.#turns = new ScrubTurns(SCRUB_INTERVAL_MS, new Prng(instance), directories.scrubbed());
    this.#surroundings = { serverId, managerAddress: options.managerAddress, leases, replies: new ReplyMemory(), pace: new FillPace(() => runtime.nowMs(), threadWaitedMs), totals: new CopyTotals(), traffic: { messages: 0, requests: 0 }, mismatched: (blocks) => this.#gauges.forEach((gauge) => gauge.mismatched(blocks)), prng: new Prng(instance), hosts: (other) => runtime.hosts(other) };
    this.#storeOptions = {
      serverId, bootId: options.bootId ?? bootId(), pageCache: new PageCache(PAGES_MAX), destageBuffer: new DestageBuffer(DESTAGE_BUFFER_BYTES),
    };
  }

  /**
   * Opens every copy in the directories and starts its actor. Throws `directory-foreign` or `format-unsupported` before anything was
   * changed but what is left of removed copies. A copy that cannot be opened for another reason is reported as faulted, and the others go on.
   */
  static start(options: StorageNodeOptions): StorageNode {
    const directories = Directories.open(options.serverId, options.directories, (removed, error) => options.runtime.log.warn({ serverId: options.serverId, removed, error }, 'what is left of a removed copy could not be removed; it takes room until this server is started again'));
    const first = directories.paths[0] as string;
    ServerLedger.check(first);
    const node = new StorageNode(options, directories);
    const { runtime, serverId } = options;
    runtime.addParty(serverId);
    node.#startActor('beacon', beaconAddress(serverId), (context) => new BeaconActor(context, serverId, node.#beacons));
    for (const volumeId of node.#directories.volumeIds()) node.#start(volumeId);
    // Behind the copies, of which one may be refused: until then nothing is changed.
    node.#ledger = ServerLedger.open(first);
    const disk = options.disk ?? slowest(options.directories.map((path) => diskKindOf(path)));
    const identity = { serverId, instance: node.#beacons.instance.toString(36), address: options.address, pid: process.pid, rack: options.rack ?? '', siteId: options.siteId ?? '', disk, build: thisBuild({ directory: DIRECTORY_FORMAT, copy: COPY_FORMAT }) };
    node.#startActor('server', `${serverId}/server`, (context) => new ServerActor(context, identity, options.managerAddress, node));
    const { totals } = node.#surroundings;
    startFigures(runtime, serverId, options.managerAddress, (samples) => totals.collect(samples, serverId, node.#faulted.size, runtime.nowMs()));
    return node;
  }

  // ---- CopyHouse

  get ledger(): ServerLedger {
    assert(this.#ledger !== null, 'the ledger is open before the system manager is greeted');
    return this.#ledger;
  }

  ensure(command: ManagerCommand & { readonly kind: 'configure' }): boolean {
    const { configuration } = command;
    const { volumeId } = configuration;
    if (this.#running.has(volumeId)) return true;
    if (this.#faulted.has(volumeId)) return false;
    const member = memberOf(configuration, this.serverId);
    if (!member && !configuration.learners.includes(this.serverId)) return false;
    const founding = command.founding && member?.incarnation === FOUNDING_INCARNATION;
    return this.#create(configuration, founding);
  }

  address(volumeId: VolumeId): Address { return copyAddress(this.serverId, volumeId); }
  volumeIds(): Iterable<VolumeId> { return this.#running; }

  *copies(): Iterable<HandedCopy> {
    for (const volumeId of this.#running) {
      const core = this.#actors.get(volumeId)?.driver.core;
      if (core) yield { missedAs: () => core.missedAs, retire: () => this.#runtime.send(this.address(volumeId), { kind: 'retire' } as const) };
    }
  }

  sync(done: () => void): void {
    let left = 1;
    const one = (): void => {
      left -= 1;
      if (left === 0) done();
    };
    for (const { driver } of this.#actors.values()) {
      left += 1;
      driver.syncAhead(one);
    }
    one();
  }

  discard(volumeId: VolumeId, epoch: number, done: () => void): void {
    const actor = this.#actors.get(volumeId);
    // One that cannot be opened has promised nobody knows what.
    const kept = actor ? actor.driver.core.durable.promisedEpoch > epoch : epoch === 0 && this.#faulted.has(volumeId);
    // Whoever asks in vain knows too little.
    if (kept) return this.#tellReport(actor?.report() ?? this.#faulted.get(volumeId) as CopyReport);
    if (actor) actor.driver.close(false);
    if (this.#running.delete(volumeId)) void this.#runtime.stop(this.#childId(volumeId));
    this.#actors.delete(volumeId);
    this.#faulted.delete(volumeId);
    this.#turns.forget(volumeId);
    this.#directories.remove(volumeId, done);
    this.#ledger?.forget(volumeId);
  }

  space(): { readonly capacityBytes: number; readonly usedBytes: number; readonly copies: number } {
    return { ...this.#directories.space(), copies: this.#running.size };
  }

  ends(): void { this.#directories.end(); }
  directories(): readonly DirectoryHealth[] { return this.#gauges.map((gauge) => gauge.health()); }
  requests(): number { return this.#surroundings.traffic.requests; }

  /** A few pieces of the scrub under way, or of the next that is due: each is a millisecond or a few of this thread. */
  patrol(): void {
    const nowMs = Date.now();
    const endMs = performance.now() + PATROL_MS;
    for (let pieces = 0; pieces < PATROL_PIECES && performance.now() < endMs; pieces++) {
      const known = this.#turns.record.size;
      this.#patrolled ??= this.#turns.next(nowMs, this.#running);
      // A turn that was drawn stays, or a server that is restarted often would never come to it.
      if (this.#turns.record.size !== known) this.#keepTurns();
      if (this.#patrolled === null) return;
      const actor = this.#running.has(this.#patrolled) ? this.#actors.get(this.#patrolled) : undefined;
      if (actor !== undefined && !actor.driver.patrol()) continue;
      this.#turns.done(this.#patrolled, nowMs);
      this.#patrolled = null;
      this.#keepTurns();
    }
  }

  /** A disk that cannot be written is found by its copies; a turn that is not kept comes again. */
  #keepTurns(): void {
    try {
      this.#directories.keepScrubbed(this.#turns.record);
    } catch (error) {
      this.#runtime.log.warn({ serverId: this.serverId, error }, 'when copies were scrubbed could not be kept');
    }
  }

  reportFaulted(): void {
    for (const copy of this.#faulted.values()) this.#tellReport(copy);
  }

  heldCopies(): readonly HeldCopy[] {
    const running = [...this.#running].flatMap((volumeId) => {
      const driver = this.#actors.get(volumeId)?.driver;
      return driver === undefined ? [] : [{ report: driver.report(), configuration: driver.core.durable.configuration }];
    });
    return [...running, ...[...this.#faulted].map(([volumeId, report]) => ({ report, configuration: this.#actors.get(volumeId)?.driver.core.durable.configuration ?? null }))];
  }

  // ---- parts

  #childId(volumeId: VolumeId): string { return `${this.serverId}/${volumeId}`; }

  #startActor(id: string, address: Address, start: (context: ActorContext) => BeaconActor | ServerActor): void {
    const outcome = this.#runtime.start({ kind: 'actor', id: `${this.serverId}/${id}`, address, start, restart: 'permanent', shutdownMs: SHUTDOWN_MS });
    if (outcome !== 'started') throw new Defect(`${address} is started once`);
  }

  #create(configuration: Configuration, founding: boolean): boolean {
    const { volumeId, lineage, sizeBytes } = configuration;
    const state = newCopyState(configuration, founding);
    const incarnation = founding ? FOUNDING_INCARNATION : randomInt(FOUNDING_INCARNATION + 1, 2 ** 47);
    const wake = (): void => this.#actors.get(volumeId)?.driver.wake();
    const created = this.#make(volumeId, { ...this.#storeOptions, volumeId, sizeBytes, lineage, incarnation, state, wake });
    if ('failed' in created) {
      this.#runtime.log.error({ volumeId, serverId: this.serverId, failed: created.failed, detail: created.detail }, 'a copy could not be made');
      // Said and not kept: whoever is told to make it again tries again.
      this.#tellReport({ ...UNOPENED, volumeId, fault: created.failed === 'no-space' ? 'no-space' : 'append-failed' });
      return false;
    }
    this.#created.set(volumeId, created.store);
    this.#start(volumeId);
    return this.#running.has(volumeId);
  }

  /** Directories as well as files: on a full disk there may be no room for either. */
  #make(volumeId: VolumeId, options: CreateOptions): ReturnType<typeof createCopy> {
    try {
      if (this.#directories.holds(volumeId)) this.#directories.remove(volumeId);
      const created = createCopy(this.#disk(volumeId), options);
      if ('failed' in created) this.#directories.remove(volumeId);
      return created;
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (error instanceof AshlarError || typeof code !== 'string') throw error;
      return { failed: code === 'ENOSPC' ? 'no-space' : 'io-error', detail: String(error) };
    }
  }

  #start(volumeId: VolumeId): void {
    this.#running.add(volumeId);
    const child: ChildSpec = {
      kind: 'actor', id: 'copy', address: this.address(volumeId), restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => this.#life(context, volumeId),
    };
    const outcome = this.#runtime.start({
      kind: 'supervisor', id: this.#childId(volumeId), ...COPY_SUPERVISION,
      onCrash: (crash) => this.#runtime.log.error({ volumeId, serverId: this.serverId, error: crash.error }, 'a copy crashed'),
      onFault: (fault) => this.#fault(volumeId, fault.error instanceof OpenError ? fault.error.fault : 'restarts'),
      children: [child],
    });
    if (outcome === 'already-started') throw new Defect(`${volumeId} is started once`);
    if (outcome === 'started') return;
    this.#running.delete(volumeId);
    const error = this.#openError;
    if (error?.failed === 'format-unsupported') throw error;
    // Nothing but the directory of a creation that was cut short: there is no copy here.
    if (error?.failed !== 'not-found') this.#fault(volumeId, error?.fault ?? 'restarts');
  }

  /** One life of a copy: its files are opened anew, as after a restart of the process. */
  #life(context: ActorContext, volumeId: VolumeId): CopyActor {
    const created = this.#created.get(volumeId);
    this.#created.delete(volumeId);
    const store = created ?? this.#open(volumeId);
    this.#beacons.end(volumeId);
    const actor = new CopyActor(context, volumeId, store, this.#surroundings);
    this.#actors.set(volumeId, actor);
    return actor;
  }

  #open(volumeId: VolumeId): CopyStore {
    let store: CopyStore | null = null;
    // A store of an earlier life wakes nobody.
    const wake = (): void => {
      const driver = this.#actors.get(volumeId)?.driver;
      if (driver?.store === store) driver?.wake();
    };
    const opened = openCopy(this.#disk(volumeId), { ...this.#storeOptions, volumeId, wake });
    if ('failed' in opened) {
      this.#openError = new OpenError(volumeId, opened.failed, opened.detail);
      throw this.#openError;
    }
    store = opened.store;
    return store;
  }

  #disk(volumeId: VolumeId): NodeDisk {
    return new NodeDisk(this.#directories.copyPaths(volumeId), this.#gauges);
  }

  /** It stays down; its volume goes on with the others. */
  #fault(volumeId: VolumeId, fault: CopyFault): void {
    const last = this.#actors.get(volumeId)?.report();
    const copy: CopyReport = last
      ? { ...last, fault }
      : { ...UNOPENED, volumeId, fault };
    this.#running.delete(volumeId);
    this.#faulted.set(volumeId, copy);
    this.#tellReport(copy);
  }

  #tellReport(copy: CopyReport): void {
    const report: ManagerMessage = { kind: 'report', copy };
    this.#runtime.send(this.#options.managerAddress, report, `${this.serverId}/server`);
  }
}

/** Before a server of this thread is stopped. Resolves when its volumes would not notice its end, or when they are not to be helped; within 16 s. */
export function handOver(runtime: Runtime, server: ServerId): Promise<void> {
  return new Promise((resolve) => {
    const message: HandOverMessage = { kind: 'hand-over', done: resolve };
    if (runtime.send(`${server}/server`, message) !== 'ok') resolve();
  });
}

/** Why a copy's files cannot be opened. */
class OpenError extends AshlarError {
  readonly fault: CopyFault;
  readonly failed: OpenFailure;

  constructor(volumeId: VolumeId, failed: OpenFailure, detail: string) {
    super(failed === 'format-unsupported' ? 'format-unsupported' : failed === 'no-space' ? 'no-space' : failed === 'io-error' ? 'io-error' : 'corrupt', `the copy of ${volumeId} cannot be opened (${failed}): ${detail}`);
    this.failed = failed;
    this.fault = failed === 'no-space' ? 'no-space' : failed === 'io-error' ? 'append-failed' : 'corrupt';
  }
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

