import { type Build, FOUNDING_INCARNATION, memberOf, primaryOf, type AttachmentSpec, type Configuration, type CopyFault, type CopyReport, type CopyState, type DiskKind, type HostCommand, type ManagerCommand, type ManagerMessage, type ApiAnswer, type ApiCommand, type EventRecord, type VolumeView } from '@ashlar/protocol';
import { hostId, Prng, serverId, type HostId, type ServerId, type VolumeId } from '@ashlar/words';
import { MANAGER_DEFAULTS, ManagerCore, MemoryLedger, MemoryStore, type ManagerEffects, type ManagerInput, type ManagerOptions, type NewEvent, type Put, type StoreFate, type Transaction, type VolumeRecord } from '../core/index.ts';

const STEP_MS = 50;
const STATUS_MS = 500;
/** What a primary waits before it proposes to go on without a mirror. */
const SILENT_MS = 1000;
const FILL_MS = 800;
const WALL_MS = 1_700_000_000_000;

const UNOPENED = { lineage: 0, promisedEpoch: 0, incarnation: 0, lostCache: true, complete: false, lastEpoch: 0, lastSeq: 0, attachNumber: 0, asked: 0 } as const;

interface Copy {
  configuration: Configuration;
  promisedEpoch: number;
  incarnation: number;
  complete: boolean;
  /** A learner's filling is done at this time. */
  filledAtMs: number;
  fault: CopyFault | null;
  /** Its files are there, and cannot be read. */
  unopened?: true;
}

/** A storage server as the manager sees one: it keeps promises, leads when told to, and takes out and lets in copies as a primary does. */
export class ModelServer {
  readonly id: ServerId;
  readonly copies = new Map<VolumeId, Copy>();
  /** Which epochs of which volumes it was told to lead in this life. */
  readonly leading = new Map<VolumeId, number>();
  state: 'up' | 'dead' | 'frozen' = 'up';
  pid = 100;
  instance = '';
  /** On its disk. */
  ledger = new MemoryLedger();
  /** Its disk cannot be written. */
  full = false;
  downAtMs = 0;
  /** It says that it is there, keeps what it is told to, and does nothing else. */
  busy = false;
  rack = '';
  disk: DiskKind = 'unknown';
  build: Build | null = null;
  /** Why it can make no copy. */
  unable: CopyFault | null = null;
  /** Its copies are still being opened when it says hello, and say nothing before `tellReports`. */
  opening = false;
  /** Frozen or busy: what waits in its sockets. */
  readonly held: ManagerCommand[] = [];
  /** The life of the manager that it has greeted. */
  greeted = 0;

  constructor(name: string) { this.id = serverId(name); }
}

/** The system manager over a store in memory, with model servers and one host, on a clock of their own. */
export class ModelWorld implements ManagerEffects {
  nowMs = 10_000;
  readonly store: MemoryStore;
  readonly servers: readonly ModelServer[];
  readonly host: HostId = hostId('host-1');
  #hostPid = 7;
  readonly attached = new Map<VolumeId, Configuration>();
  readonly shown = new Map<VolumeId, AttachmentSpec>();
  readonly toHosts: HostCommand[] = [];
  /** Their machines are gone. */
  readonly goneHosts = new Set<HostId>();
  readonly answers = new Map<number, ApiAnswer>();
  fate: StoreFate = 'answered';
  manager: ManagerCore;
  managerUp = true;
  readonly #options: ManagerOptions;
  readonly #prng: Prng;
  #life = 0;
  #instances = 0;
  #requests = 0;
  #statuses = 0;
  #tickAtMs = Infinity;
  #queue: (() => void)[] = [];

  constructor(servers: number, options: Partial<ManagerOptions> = {}, seed = 1) {
    this.#options = { ...MANAGER_DEFAULTS, ...options };
    this.#prng = new Prng(seed);
    this.store = new MemoryStore({ fate: () => this.fate, defer: (run) => this.#queue.push(run) });
    this.servers = Array.from({ length: servers }, (_, i) => new ModelServer(`server-${i + 1}`));
    this.manager = this.#startManager();
    for (const server of this.servers) this.#startServer(server);
    this.#hostHello();
    this.run(100);
  }

  // ---- ManagerEffects; what an earlier life of the manager asks for reaches nobody

  load(): void {
    const life = this.#life;
    this.store.load((snapshot) => this.#give({ kind: 'loaded', snapshot }, life));
  }

  transact(token: number, transaction: Transaction): void {
    const life = this.#life;
    this.store.transact(transaction, (outcome) => this.#give({ kind: 'stored', token, outcome }, life));
  }

  restore(token: number, revision: number, puts: readonly Put[], events: readonly NewEvent[]): void {
    const life = this.#life;
    this.store.restore(revision, puts, events, (outcome) => this.#give({ kind: 'stored', token, outcome }, life));
  }

  toServer(to: ServerId, command: ManagerCommand): void {
    const server = this.server(to);
    if (server.state === 'frozen' || (server.busy && server.state === 'up' && command.kind !== 'keep')) server.held.push(command);
    else if (server.state === 'up') this.#queue.push(() => this.#onCommand(server, command));
  }

  toHost(to: HostId, command: HostCommand): void {
    if (this.goneHosts.has(to)) return;
    this.toHosts.push(command);
    if (command.kind === 'attach') {
      this.attached.set(command.spec.volumeId, command.configuration);
      this.shown.set(command.spec.volumeId, command.spec);
      this.#give({ kind: 'from-host', from: to, message: { kind: 'attached', spec: command.spec, nbd: 'nbd+unix:///' } });
    }
    if (command.kind === 'detach') {
      this.attached.delete(command.volumeId);
      this.shown.delete(command.volumeId);
      this.#give({ kind: 'from-host', from: to, message: command.copy === null ? { ...command, kind: 'detached' } : { ...command, kind: 'detached' } });
    }
    if (command.kind === 'configuration' && this.attached.has(command.configuration.volumeId)) this.attached.set(command.configuration.volumeId, command.configuration);
  }

  answer(requestId: number, answer: ApiAnswer): void { this.answers.set(requestId, answer); }
  setTick(atMs: number): void { this.#tickAtMs = atMs; }

  // ---- what a test does

  server(id: ServerId | string): ModelServer {
    return this.servers.find((server) => server.id === id) as ModelServer;
  }

  volume(id: VolumeId): VolumeRecord { return this.store.volume(id) as VolumeRecord; }

  events(): readonly EventRecord[] {
    let found: readonly EventRecord[] = [];
    this.fate = 'answered';
    this.store.events({ after: 0, max: 100_000 }, (events) => { found = events ?? []; });
    this.#drain();
    return found;
  }

  names(subject?: string): readonly string[] {
    return this.events().filter((event) => subject === undefined || event.subject === subject).map((event) => event.name);
  }

  command(command: ApiCommand): number {
    return this.commands(command)[0] as number;
  }

  /** All of them come before the store has answered the first. */
  commands(...commands: readonly ApiCommand[]): number[] {
    const requestIds = commands.map((command) => {
      const requestId = ++this.#requests;
      this.#give({ kind: 'command', requestId, principal: { kind: 'operator' }, command });
      return requestId;
    });
    this.#drain();
    return requestIds;
  }

  /** Carries it out and lets time pass until it is answered. */
  ask(command: ApiCommand, withinMs = 31_000): ApiAnswer {
    const requestId = this.command(command);
    for (let ms = 0; ms < withinMs && !this.answers.has(requestId); ms += STEP_MS) this.step();
    return this.answers.get(requestId) ?? { ok: false, code: 'internal', message: 'never answered' };
  }

  create(mirrors = 1, minCopies = 1): VolumeId {
    const answer = this.ask({ kind: 'volume-create', sizeBytes: 2 ** 30, mirrors, minCopies, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {} });
    if (!answer.ok) throw new Error(answer.message);
    return (answer.value as VolumeView).volumeId;
  }

  view(id: VolumeId): VolumeView {
    const answer = this.ask({ kind: 'volume-describe', volumeId: id });
    if (!answer.ok) throw new Error(answer.message);
    return answer.value as VolumeView;
  }

  /** The host's process ended and started anew; its supervisor's word of that end comes after the new one's hello. */
  hostRestarted(): void {
    const former = this.#hostPid++;
    this.#hostHello();
    this.#give({ kind: 'from-supervisor', message: { kind: 'process-ended', name: this.host, pid: former, signal: 'SIGKILL', code: null } });
  }

  hostGone(id: HostId): void {
    this.goneHosts.add(id);
    this.#give({ kind: 'link', node: id, up: false });
    this.#drain();
  }

  /** Another host than the first, or one that is back: what it shows. */
  hostUp(id: HostId, attachments: readonly AttachmentSpec[] = []): void {
    this.goneHosts.delete(id);
    this.#give({ kind: 'link', node: id, up: true });
    this.#give({ kind: 'from-host', from: id, message: { kind: 'host-hello', hostId: id, pid: this.#hostPid, attachments, build: null, configurations: [] } });
    this.#drain();
  }

  /** `reaped`: its supervisor saw it end. */
  kill(server: ModelServer, reaped = true): void {
    if (server.state === 'dead') return;
    const { pid } = server;
    server.state = 'dead';
    server.downAtMs = this.nowMs;
    server.leading.clear();
    server.held.length = 0;
    this.#give({ kind: 'link', node: server.id, up: false });
    if (reaped) this.#give({ kind: 'from-supervisor', message: { kind: 'process-ended', name: server.id, pid, signal: 'SIGKILL', code: null } });
    this.#drain();
  }

  freeze(server: ModelServer): void {
    if (server.state !== 'up') return;
    server.state = 'frozen';
    server.downAtMs = this.nowMs;
  }

  revive(server: ModelServer): void {
    if (server.state === 'frozen') {
      server.state = 'up';
      for (const command of server.held.splice(0)) this.#onCommand(server, command);
      if (server.greeted !== this.#life) this.#greet(server);
    } else if (server.state === 'dead') this.#startServer(server);
    this.#drain();
  }

  tellFault(server: ModelServer, volumeId: VolumeId): void { this.#report(server, volumeId, server.copies.get(volumeId) as Copy); }

  tellReports(server: ModelServer): void {
    server.opening = false;
    for (const id of server.copies.keys()) this.tellFault(server, id);
    this.#drain();
  }

  /** What it was told is done now. */
  relieve(server: ModelServer): void {
    server.busy = false;
    for (const command of server.held.splice(0)) this.#onCommand(server, command);
    this.#drain();
  }

  endManager(): void { this.managerUp = false; }

  restartManager(): void {
    this.managerUp = true;
    this.manager = this.#startManager();
    for (const server of this.servers) if (server.state === 'up') this.#greet(server);
    this.#hostHello();
    this.#drain();
  }

  run(ms: number): this {
    for (let passed = 0; passed < ms; passed += STEP_MS) this.step();
    return this;
  }

  until(condition: () => boolean, withinMs: number): boolean {
    for (let passed = 0; passed < withinMs; passed += STEP_MS) {
      if (condition()) return true;
      this.step();
    }
    return condition();
  }

  step(): void {
    this.nowMs += STEP_MS;
    for (const server of this.servers) if (server.state === 'up') this.#serverStep(server);
    for (const [volumeId, configuration] of this.attached) this.#hostStep(volumeId, configuration);
    if (this.managerUp && this.nowMs >= this.#tickAtMs) this.#give({ kind: 'tick', wallMs: WALL_MS + this.nowMs });
    this.#drain();
  }

  // ---- parts

  #startManager(): ManagerCore {
    this.#life++;
    const manager = new ManagerCore(this.#options, this.#prng.fork(), this.nowMs);
    this.manager = manager;
    manager.start(this.nowMs, WALL_MS + this.nowMs, this);
    this.#drain();
    return manager;
  }

  #give(input: ManagerInput, life = this.#life): void {
    this.#queue.push(() => {
      if (this.managerUp && life === this.#life) this.manager.receive(this.nowMs, input, this);
    });
  }

  #drain(): void {
    for (let i = 0; this.#queue.length > 0; i++) {
      if (i > 100_000) throw new Error('the manager never comes to rest');
      this.#queue.shift()?.();
    }
  }

  #startServer(server: ModelServer): void {
    server.state = 'up';
    server.pid += 1;
    server.instance = `life-${++this.#instances}`;
    server.leading.clear();
    this.#greet(server);
  }

  #greet(server: ModelServer): void {
    server.greeted = this.#life;
    this.#give({ kind: 'link', node: server.id, up: true });
    this.#give({ kind: 'from-server', from: server.id, message: { kind: 'server-hello', serverId: server.id, pid: server.pid, instance: server.instance, address: 'here', rack: server.rack, siteId: '', disk: server.disk, build: server.build, keeps: true, mark: server.ledger.mark } });
    this.#tellSpace(server);
    for (const [volumeId, copy] of server.opening ? [] : server.copies) {
      this.#report(server, volumeId, copy);
      this.#tellStatus(server, volumeId);
    }
  }

  #hostHello(): void {
    this.#give({ kind: 'link', node: this.host, up: true });
    this.#give({ kind: 'from-host', from: this.host, message: { kind: 'host-hello', hostId: this.host, pid: this.#hostPid, attachments: [...this.shown.values()], build: null, configurations: [...this.shown.keys()].map((id) => this.attached.get(id) as Configuration) } });
  }

  #tellSpace(server: ModelServer): void {
    this.#give({ kind: 'from-server', from: server.id, message: { kind: 'server-status', serverId: server.id, capacityBytes: 2 ** 40, usedBytes: 2 ** 30, copies: server.copies.size, requestsPerSecond: 0, directories: [] } });
  }

  #tell(server: ModelServer, message: ManagerMessage): void { this.#give({ kind: 'from-copy', from: server.id, message }); }

  #report(server: ModelServer, volumeId: VolumeId, copy: Copy, asked = 0): void {
    this.#tell(server, { kind: 'report', copy: this.#reportOf(volumeId, copy, asked) });
  }

  #reportOf(volumeId: VolumeId, copy: Copy, asked: number): CopyReport {
    if (copy.unopened) return { ...UNOPENED, volumeId, fault: copy.fault };
    return {
      volumeId, lineage: 1, promisedEpoch: copy.promisedEpoch, incarnation: copy.incarnation, lostCache: false, complete: copy.complete, lastEpoch: copy.promisedEpoch, lastSeq: 0,
      fault: copy.fault, attachNumber: 0, asked,
    };
  }

  #onCommand(server: ModelServer, command: ManagerCommand): void {
    if (server.state !== 'up') return;
    if (command.kind === 'discard') {
      const copy = server.copies.get(command.volumeId);
      if (copy && (copy.unopened ? command.epoch === 0 : copy.promisedEpoch > command.epoch)) return;
      server.copies.delete(command.volumeId);
      server.leading.delete(command.volumeId);
      return this.#tell(server, { kind: 'discarded', volumeId: command.volumeId, epoch: command.epoch });
    }
    if (command.kind === 'keep') {
      const answer = server.full ? { mark: server.ledger.mark, taken: false, failed: true } : server.ledger.keep(command.keep);
      return this.#give({ kind: 'from-server', from: server.id, message: { kind: 'server-kept', serverId: server.id, ...answer, number: command.keep.number } });
    }
    if (command.kind === 'ask-ledger') {
      const copies = [...server.copies].map(([volumeId, copy]) => ({ report: this.#reportOf(volumeId, copy, 0), configuration: copy.configuration }));
      return this.#give({ kind: 'from-server', from: server.id, message: server.ledger.told(server.id, command.token, copies) });
    }
    if (command.kind === 'ask-report') {
      const copy = server.copies.get(command.volumeId);
      if (copy) this.#report(server, command.volumeId, copy, command.token);
      if (copy) this.#tellStatus(server, command.volumeId);
    }
    if (command.kind !== 'configure') return;
    const { configuration, founding } = command;
    const { volumeId, epoch } = configuration;
    const member = memberOf(configuration, server.id);
    let copy = server.copies.get(volumeId);
    if (!copy) {
      if (!member && !configuration.learners.includes(server.id)) return;
      if (server.unable !== null) return this.#tell(server, { kind: 'report', copy: { ...UNOPENED, volumeId, fault: server.unable } });
      const isFounding = founding && member?.incarnation === FOUNDING_INCARNATION;
      copy = { configuration, promisedEpoch: 0, incarnation: isFounding ? FOUNDING_INCARNATION : this.#prng.between(2, 1e9), complete: isFounding, filledAtMs: this.nowMs + FILL_MS, fault: null };
      server.copies.set(volumeId, copy);
    }
    if (epoch <= copy.promisedEpoch) return;
    if (configuration.learners.includes(server.id)) copy.filledAtMs = this.nowMs + FILL_MS;
    copy.promisedEpoch = epoch;
    copy.configuration = configuration;
    this.#report(server, volumeId, copy);
    // A copy that was admitted as another life of itself can only follow.
    if (primaryOf(configuration) !== server.id || (member?.incarnation !== copy.incarnation)) {
      server.leading.delete(volumeId);
      return;
    }
    server.leading.set(volumeId, epoch);
    // Members hear of the epoch from their primary as well.
    for (const other of this.servers) if (other !== server && other.state === 'up' && !other.busy) this.#onCommand(other, command);
    this.#tellStatus(server, volumeId);
  }

  #states(server: ModelServer, copy: Copy): { readonly serverId: ServerId; readonly state: CopyState; readonly movedBytes: number; readonly remainingBytes: number }[] {
    const { members, learners } = copy.configuration;
    return [...members.map((member) => member.serverId), ...learners].map((id) => {
      const other = this.server(id);
      const theirs = other.copies.get(copy.configuration.volumeId);
      const member = memberOf(copy.configuration, id);
      const inSync = other.state === 'up' && member !== undefined && theirs?.incarnation === member.incarnation && theirs.fault === null;
      return { serverId: id, state: id === server.id || inSync ? 'in-sync' : other.state === 'up' ? 'rebuilding' : 'offline', movedBytes: 0, remainingBytes: 0 };
    });
  }

  #tellStatus(server: ModelServer, volumeId: VolumeId): void {
    const copy = server.copies.get(volumeId);
    const epoch = server.leading.get(volumeId);
    if (!copy || epoch === undefined) return;
    // Nothing is served before all members have settled, nor by fewer than the minimum.
    const { members, minCopies } = copy.configuration;
    const serving = members.length > minCopies || (members.length === minCopies && members.every(({ serverId: id }) => this.server(id).state === 'up'));
    this.#tell(server, { kind: 'status', volumeId, epoch, number: ++this.#statuses, serving, copies: this.#states(server, copy) });
  }

  #serverStep(server: ModelServer): void {
    if (this.nowMs % STATUS_MS < STEP_MS) this.#tellSpace(server);
    for (const [volumeId, epoch] of server.leading) {
      const copy = server.copies.get(volumeId) as Copy;
      const { members, learners } = copy.configuration;
      // Somebody has promised a later epoch: this one can lead no more.
      const fenced = this.servers.some((other) => other.state === 'up' && memberOf(copy.configuration, other.id) && (other.copies.get(volumeId)?.promisedEpoch ?? 0) > epoch);
      if (fenced) {
        this.#tell(server, { kind: 'ask', volumeId, epoch });
        continue;
      }
      this.#tellStatus(server, volumeId);
      for (const { serverId: id } of members.slice(1)) {
        const other = this.server(id);
        const silent = other.state !== 'up' && this.nowMs - other.downAtMs >= SILENT_MS;
        const faulted = (other.copies.get(volumeId)?.fault ?? null) !== null;
        if ((silent && members.length > copy.configuration.minCopies) || faulted) {
          this.#tell(server, { kind: 'propose', volumeId, baseEpoch: epoch, change: { kind: 'remove', serverId: id }, reason: faulted ? 'sync-failed' : 'silent' });
          break;
        }
      }
      for (const id of learners) {
        const other = this.server(id);
        const theirs = other.copies.get(volumeId);
        if (other.state !== 'up' || !theirs || theirs.fault !== null || theirs.promisedEpoch !== epoch || this.nowMs < theirs.filledAtMs) continue;
        theirs.complete = true;
        this.#report(other, volumeId, theirs);
        this.#tell(server, { kind: 'propose', volumeId, baseEpoch: epoch, change: { kind: 'add', member: { serverId: id, incarnation: theirs.incarnation } }, reason: 'caught up' });
        break;
      }
    }
  }

  #hostStep(volumeId: VolumeId, configuration: Configuration): void {
    const primary = this.server(primaryOf(configuration));
    const silentMs = this.nowMs - primary.downAtMs;
    if (primary.state === 'up' || silentMs < SILENT_MS || silentMs % 500 >= STEP_MS) return;
    this.#give({ kind: 'from-host', from: this.host, message: { kind: 'primary-silent', volumeId, epoch: configuration.epoch, serverId: primary.id, silentMs } });
  }
}
