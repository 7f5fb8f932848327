import { chmodSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Actor, ActorContext, Address } from '@ashlar/actor';
import { RequestTotals, type Reservation } from '@ashlar/attachment';
import type { Samples } from '@ashlar/figures';
import type { AttachmentSpec, Configuration, HostCommand, HostMessage, Usage, VolumeLimits } from '@ashlar/protocol';
import { figuresAddress, startFigures, thisBuild, type Runtime } from '@ashlar/runtime';
import { assert, AshlarError, type HostId, type VolumeId } from '@ashlar/words';
import { AttachmentActor, type AttachmentHouse, type AttachmentMessage } from './attachment-actor.ts';
import { exportName, nbdUri } from './export-name.ts';
import { HostActor, type HostHouse } from './host-actor.ts';
import { HOST_FORMAT, HostState } from './host-state.ts';
import { DETACH_GRACE_MS, RESTARTS_MAX, RESTARTS_MS, SAVE_DELAY_MS, SHUTDOWN_MS, SOCKET_PATH_BYTES_MAX, STOP_GRACE_MS } from './limits.ts';
import { NbdServer, type NbdTls } from './nbd-server/index.ts';
import { addUsage, NO_USAGE } from './usage.ts';

export interface HostNodeOptions {
  readonly hostId: HostId;
  /** Its lock is held by the caller (DirectoryLock). */
  readonly directory: string;
  /** Of the NBD socket; made so that only its owner may enter. The path is the same after a restart. Null: no NBD; only this process uses the attachments. */
  readonly socketDirectory: string | null;
  readonly runtime: Runtime;
  readonly managerAddress: Address;
  /** Given: nothing is served over TCP without TLS. The unix socket's directory is its protection. */
  readonly tls?: NbdTls;
  /** A life of this attachment has begun: requests can be submitted to it. */
  readonly onOpened?: (name: string, attachment: OpenAttachment) => void;
  /** That life is over: what it has not answered yet never will be. */
  readonly onClosed?: (name: string) => void;
}

/** An attachment as a program in this process uses it. */
export type OpenAttachment = Pick<AttachmentActor, 'spec' | 'limits' | 'device' | 'submit'>;

/** Started before the attachments and so stopped after them: what they leave behind is saved, then the file is closed. */
class StateKeeper implements Actor {
  readonly #close: () => void;

  constructor(close: () => void) { this.#close = close; }

  receive(): void {}
  inspect(): unknown { return {}; }
  stop(): void { this.#close(); }
}

/**
 * A host's node manager: its attachments, their NBD exports, and its word to the system manager. Hosted by one thread. Attachments outlive
 * its process: the next one goes on with them, with or without a manager.
 */
export class HostNode implements AttachmentHouse, HostHouse {
  readonly hostId: HostId;
  /** Null: no NBD. */
  readonly socketPath: string | null;
  readonly managerAddress: Address;
  readonly totals = new RequestTotals();
  readonly #runtime: Runtime;
  readonly #options: HostNodeOptions;
  readonly #state: HostState;
  readonly #unixServer: NbdServer;
  /** On loopback, which every user of the machine can reach: it shows only what was attached for it. */
  readonly #tcpServer: NbdServer;
  /** Attachments whose actor lives. */
  readonly #open = new Map<string, AttachmentActor>();
  /** What is being done with one attachment, one after the other. */
  readonly #work = new Map<string, Promise<unknown>>();
  readonly #tls: boolean;
  #tcpListening: Promise<void> | null = null;
  #tcpPort: number;
  #saveTimer: NodeJS.Timeout | null = null;

  private constructor(options: HostNodeOptions) {
    const { hostId, directory, socketDirectory, runtime, managerAddress } = options;
    this.hostId = hostId;
    this.managerAddress = managerAddress;
    this.#runtime = runtime;
    this.#options = options;
    const onFault = (fault: string): void => runtime.log.warn({ hostId, fault }, 'an NBD connection was closed');
    this.#unixServer = new NbdServer({ onFault });
    this.#tls = options.tls !== undefined;
    this.#tcpServer = new NbdServer({ onFault, tls: options.tls });
    for (const path of socketDirectory === null ? [directory] : [directory, socketDirectory]) {
      mkdirSync(path, { recursive: true, mode: 0o700 });
      chmodSync(path, 0o700);
    }
    this.socketPath = socketDirectory === null ? null : join(socketDirectory, `${hostId}.nbd`);
    if (this.socketPath !== null && Buffer.byteLength(this.socketPath) > SOCKET_PATH_BYTES_MAX) {
      throw new AshlarError('invalid-argument', `the socket path ${this.socketPath} is longer than ${SOCKET_PATH_BYTES_MAX} bytes`, { path: this.socketPath });
    }
    this.#state = HostState.open(directory);
    this.#tcpPort = this.#state.tcpPort;
  }

  /** Goes on with every attachment that the directory knows, listens, then greets the manager. Throws `format-unsupported` or `corrupt` before anything was changed. */
  static async start(options: HostNodeOptions): Promise<HostNode> {
    const host = new HostNode(options);
    const { runtime, hostId, managerAddress } = options;
    runtime.addParty(hostId);
    host.#startActor('state', () => new StateKeeper(() => host.#close()));
    host.#state.beginAll();
    for (const { name } of host.#state.all()) host.#startAttachment(name);
    if (host.socketPath !== null) await host.#unixServer.listen({ path: host.socketPath });
    if (host.#state.all().some(({ spec }) => spec.tcp)) await host.#listenTcp();
    host.#startActor('host', (context) => new HostActor(context, hostId, managerAddress, host, thisBuild({ host: HOST_FORMAT })));
    startFigures(runtime, hostId, managerAddress, (samples) => host.#collect(samples));
    return host;
  }

  /**
   * Closes connections and sessions in order; attachments stay known, for the next start. A shutdown of the runtime does the same: it stops
   * what was started last first.
   */
  async stop(): Promise<void> {
    await this.#runtime.stop(figuresAddress(this.hostId));
    await this.#runtime.stop(`${this.hostId}/host`);
    for (const { name } of this.#state.all()) await this.#runtime.stop(this.#childId(name));
    await this.#runtime.stop(`${this.hostId}/state`);
  }

  /** Of this name (`exportName`), if it lives. */
  attachment(name: string): OpenAttachment | undefined { return this.#open.get(name); }

  // ---- HostHouse

  specs(): readonly AttachmentSpec[] { return this.#state.all().map(({ spec }) => spec); }
  configurations(): readonly Configuration[] { return this.#state.all().map(({ configuration }) => configuration); }
  nbd(spec: AttachmentSpec): string { return nbdUri(spec, this.socketPath, this.#tcpPort, this.#tls); }

  attach(spec: AttachmentSpec, configuration: Configuration): Promise<string> {
    const name = exportName(spec);
    return this.#inTurn(name, async () => {
      if (spec.tcp && this.socketPath === null) throw new AshlarError('invalid-argument', `${this.hostId} is inside a program and shows no NBD devices`);
      if (spec.tcp) await this.#listenTcp();
      const known = this.#state.get(name);
      const same = known !== undefined && known.spec.attachNumber === spec.attachNumber && known.spec.tcp === spec.tcp;
      if (same && this.#open.has(name)) this.#again(name, spec, configuration);
      else {
        // Of an older attach the numbers and the session mean nothing to the new one.
        if (known !== undefined) await this.#runtime.stop(this.#childId(name));
        this.#state.attach(name, spec, configuration);
        this.#startAttachment(name);
      }
      return this.nbd(spec);
    });
  }

  detach(name: string): Promise<void> {
    return this.#inTurn(name, async () => {
      if (this.#state.get(name) === undefined) return;
      await this.#removeExport(name, DETACH_GRACE_MS);
      await this.#runtime.stop(this.#childId(name));
      this.#state.detach(name);
    });
  }

  setLimits(volumeId: VolumeId, limits: VolumeLimits): void {
    for (const { name, spec } of this.#state.ofVolume(volumeId)) {
      this.#change(name, { spec: { ...spec, limits } });
      this.#toAttachment(name, { kind: 'limits', volumeId, limits });
    }
  }

  configure(configuration: Configuration): void {
    for (const { name } of this.#state.ofVolume(configuration.volumeId)) this.#toAttachment(name, { kind: 'configuration', configuration });
  }

  usages(): ReadonlyMap<VolumeId, Usage> {
    const usages = new Map<VolumeId, Usage>();
    for (const { spec, usage } of this.#open.values()) usages.set(spec.volumeId, addUsage(usages.get(spec.volumeId) ?? NO_USAGE, usage));
    return usages;
  }

  /** No clients any more, and nothing half done. */
  async closeListeners(): Promise<void> {
    await Promise.allSettled(this.#work.values());
    await Promise.all([this.#unixServer.close(STOP_GRACE_MS), this.#tcpServer.close(STOP_GRACE_MS)]);
  }

  // ---- AttachmentHouse

  reserve(name: string, reservation: Reservation): void { this.#state.reserve(name, reservation); }

  configured(name: string, configuration: Configuration): void { this.#change(name, { configuration }); }

  opened(name: string, attachment: AttachmentActor): void {
    this.#open.set(name, attachment);
    const shown = this.#unixServer.addExport(name, attachment);
    if (attachment.spec.tcp) this.#tcpServer.addExport(name, shown);
    this.#options.onOpened?.(name, attachment);
  }

  closed(name: string, attachment: AttachmentActor): void {
    if (this.#open.get(name) !== attachment) return;
    this.#open.delete(name);
    this.#options.onClosed?.(name);
    void this.#removeExport(name, 0);
    if (this.#state.get(name) !== undefined) this.#change(name, { usage: attachment.usage });
  }

  // ---- parts

  #startActor(id: 'host' | 'state', start: (context: ActorContext) => Actor<HostCommand> | Actor): void {
    const outcome = this.#runtime.start({ kind: 'actor', id: `${this.hostId}/${id}`, address: `${this.hostId}/${id}`, restart: 'permanent', shutdownMs: SHUTDOWN_MS, start });
    if (outcome !== 'started') throw new AshlarError('internal', `${this.hostId}/${id} could not be started`);
  }

  #collect(samples: Samples): void {
    const { hostId, totals } = this;
    for (const [operation, histogram] of totals.durations()) samples.add('ashlar_host_request_duration_seconds', histogram.value, hostId, operation);
    samples.add('ashlar_host_transferred_bytes_total', totals.readBytes, hostId, 'read');
    samples.add('ashlar_host_transferred_bytes_total', totals.writtenBytes, hostId, 'write');
    samples.add('ashlar_host_failed_requests_total', totals.failedRequests, hostId);
    samples.add('ashlar_host_timed_out_requests_total', totals.timedOutRequests, hostId);
    samples.add('ashlar_host_resent_frames_total', totals.resentFrames, hostId);
    for (const [reason, count] of totals.refusals) samples.add('ashlar_host_refused_sessions_total', count, hostId, reason);
    samples.add('ashlar_host_attachments', this.#open.size, hostId);
  }

  #close(): void {
    if (this.#saveTimer !== null) clearTimeout(this.#saveTimer);
    this.#state.close();
  }

  #childId(name: string): string { return `${this.hostId}/attachment/${name}`; }
  #address(name: string): Address { return `${this.hostId}/attachment/${name}`; }

  #inTurn<T>(name: string, work: () => Promise<T>): Promise<T> {
    const before = this.#work.get(name) ?? Promise.resolve();
    const done = before.then(work, work);
    this.#work.set(name, done);
    const forget = (): void => { if (this.#work.get(name) === done) this.#work.delete(name); };
    done.then(forget, forget);
    return done;
  }

  /** The manager says again what we know: it did not hear our answer, or it knows more by now. */
  #again(name: string, spec: AttachmentSpec, configuration: Configuration): void {
    this.#change(name, { spec });
    this.#toAttachment(name, { kind: 'limits', volumeId: spec.volumeId, limits: spec.limits });
    this.#toAttachment(name, { kind: 'configuration', configuration });
  }

  #toAttachment(name: string, message: AttachmentMessage): void {
    this.#runtime.send(this.#address(name), message);
  }

  #startAttachment(name: string): void {
    const outcome = this.#runtime.start({
      kind: 'supervisor', id: this.#childId(name), strategy: 'one_for_one', intensity: RESTARTS_MAX, periodMs: RESTARTS_MS, pastIntensity: 'fault',
      onCrash: ({ error }) => this.#runtime.log.error({ export: name, error }, 'an attachment crashed'),
      onFault: ({ error }) => this.#faulted(name, error),
      children: [{
        kind: 'actor', id: 'attachment', address: this.#address(name), restart: 'permanent', shutdownMs: SHUTDOWN_MS,
        start: (context) => this.#life(context, name),
      }],
    });
    if (outcome !== 'started') throw new AshlarError('internal', `the attachment ${name} could not be started`);
  }

  /** The numbers of this life are reserved on disk before its first message. */
  #life(context: ActorContext, name: string): AttachmentActor {
    return new AttachmentActor(context, this.#state.beginLife(name), this);
  }

  #faulted(name: string, error: unknown): void {
    const volumeId = this.#state.get(name)?.spec.volumeId;
    this.#runtime.log.error({ export: name, error }, 'an attachment crashed too often and stays down');
    if (volumeId === undefined) return;
    const told: HostMessage = { kind: 'host-event', volumeId, name: 'attachment-faulted', detail: { export: name, error: String(error) } };
    this.#runtime.send(this.managerAddress, told, `${this.hostId}/host`);
  }

  /** Its connections are cut after the grace. */
  async #removeExport(name: string, graceMs: number): Promise<void> {
    await Promise.all([this.#unixServer.removeExport(name, graceMs), this.#tcpServer.removeExport(name, graceMs)]);
  }

  #listenTcp(): Promise<void> {
    this.#tcpListening ??= this.#listenTcpAt(this.#tcpPort).catch((error: unknown) => {
      this.#tcpListening = null;
      throw error;
    });
    return this.#tcpListening;
  }

  async #listenTcpAt(port: number): Promise<void> {
    const address = await this.#tcpServer.listen({ host: '127.0.0.1', port }).catch((error: unknown) => {
      // Somebody else has the port that was ours before the restart: clients must be told of another one.
      if (port === 0 || (error as { code?: unknown }).code !== 'EADDRINUSE') throw error;
      this.#runtime.log.warn({ port, error }, 'the NBD port is taken; another one is used');
      return this.#tcpServer.listen({ host: '127.0.0.1', port: 0 });
    });
    assert('port' in address, 'a TCP listener has a port');
    this.#tcpPort = address.port;
    this.#state.tcpPort = address.port;
  }

  #change(name: string, change: Parameters<HostState['change']>[1]): void {
    if (this.#state.get(name) === undefined) return;
    this.#state.change(name, change);
    this.#saveTimer ??= setTimeout(() => this.#saveChanged(), SAVE_DELAY_MS).unref();
  }

  #saveChanged(): void {
    this.#saveTimer = null;
    try {
      this.#state.saveChanged();
    } catch (error) {
      // Only hints and figures; what must be stable is saved on its own.
      this.#runtime.log.error({ error }, 'the state of attachments could not be saved; it is tried again with the next change');
    }
  }
}
