import { partyOf, type Actor, type ActorContext, type Address, type Signal, type StopReason } from '@ashlar/actor';
import type { AttachmentSpec, Build, Configuration, HostCommand, HostMessage, Usage, VolumeLimits } from '@ashlar/protocol';
import { errorCode, unreachable, type HostId, type VolumeId } from '@ashlar/words';
import { exportName } from './export-name.ts';
import { USAGE_IDLE_INTERVAL_MS, USAGE_INTERVAL_MS } from './limits.ts';
import { sameUsage } from './usage.ts';

/** What the host actor asks of the host that owns the attachments. */
export interface HostHouse {
  specs(): readonly AttachmentSpec[];
  /** The newest known, one for each of those. */
  configurations(): readonly Configuration[];
  /** Resolves with the NBD URI when clients can connect. Attached already: resolves at once. */
  attach(spec: AttachmentSpec, configuration: Configuration): Promise<string>;
  /** Resolves when it is gone; at once if it never was. */
  detach(name: string): Promise<void>;
  setLimits(volumeId: VolumeId, limits: VolumeLimits): void;
  configure(configuration: Configuration): void;
  nbd(spec: AttachmentSpec): string;
  closeListeners(): Promise<void>;
  /** Of each attached volume, over its attachments here. */
  usages(): ReadonlyMap<VolumeId, Usage>;
}

const TIMER = 'usage';

/** Speaks with the system manager for the host as a whole. */
export class HostActor implements Actor<HostCommand> {
  readonly #context: ActorContext;
  readonly #hostId: HostId;
  readonly #manager: Address;
  readonly #house: HostHouse;
  readonly #build: Build;
  readonly #told = new Map<VolumeId, Usage>();
  /** When figures are looked at next, and how long after the last time. */
  #usageAtMs = 0;
  #usageEveryMs = USAGE_INTERVAL_MS;
  /** The manager has been greeted in its present life. */
  #greeted = false;

  constructor(context: ActorContext, hostId: HostId, manager: Address, house: HostHouse, build: Build) {
    this.#context = context;
    this.#hostId = hostId;
    this.#manager = manager;
    this.#house = house;
    this.#build = build;
    context.watch(partyOf(manager));
    this.#tick();
  }

  receive(message: HostCommand | Signal, from: Address): void {
    switch (message.kind) {
      case 'timer': return this.#tick();
      case 'link-up': return this.#greet();
      case 'link-down':
      case 'down':
        this.#greeted = false;
        return;
      case 'attach':
      case 'detach':
      case 'limits':
      case 'configuration':
        if (from !== this.#manager) return this.#context.log.warn({ from, kind: message.kind }, 'a command came from something that is not the system manager; ignored');
        return this.#onCommand(message);
    }
  }

  /** NBD clients first: they may come back to the next life of this host, where an I/O error would be final. */
  stop(reason: StopReason): 'stopping' | void {
    if (reason === 'crashed') return;
    void this.#house.closeListeners()
      .catch((error: unknown) => this.#context.log.error({ error }, 'an NBD listener could not be closed'))
      .finally(() => this.#context.stopped());
    return 'stopping';
  }

  inspect(): unknown {
    return { hostId: this.#hostId, greeted: this.#greeted, attachments: this.#house.specs().map(exportName) };
  }

  #onCommand(command: HostCommand): void {
    switch (command.kind) {
      case 'attach': return void this.#attach(command.spec, command.configuration);
      case 'detach': return void this.#detach(command);
      case 'limits': return this.#house.setLimits(command.volumeId, command.limits);
      case 'configuration': return this.#house.configure(command.configuration);
      default: unreachable(command);
    }
  }

  async #attach(spec: AttachmentSpec, configuration: Configuration): Promise<void> {
    this.#usageEveryMs = USAGE_INTERVAL_MS;
    this.#usageAtMs = 0;
    try {
      const nbd = await this.#house.attach(spec, configuration);
      this.#tell({ kind: 'attached', spec, nbd });
    } catch (error) {
      this.#context.log.error({ volumeId: spec.volumeId, error }, 'a volume could not be attached');
      this.#tell({ kind: 'attach-failed', spec, code: errorCode(error), message: error instanceof Error ? error.message : String(error) });
    }
  }

  async #detach({ volumeId, readOnly, copy }: HostCommand & { readonly kind: 'detach' }): Promise<void> {
    // What it did since its figures were looked at; afterwards it is not among them.
    if (this.#greeted) this.#tellUsage();
    try {
      await this.#house.detach(exportName({ volumeId, readOnly, copy }));
      this.#tell({ kind: 'detached', volumeId, readOnly, copy });
    } catch (error) {
      // The manager repeats what is not answered.
      this.#context.log.error({ volumeId, error }, 'a volume could not be detached');
    }
  }

  #tick(): void {
    this.#context.setTimer(TIMER, this.#context.nowMs() + USAGE_INTERVAL_MS);
    if (!this.#greeted) this.#greet();
    const nowMs = this.#context.nowMs();
    if (!this.#greeted || nowMs < this.#usageAtMs) return;
    this.#usageEveryMs = this.#tellUsage() ? USAGE_INTERVAL_MS : Math.min(this.#usageEveryMs * 2, USAGE_IDLE_INTERVAL_MS);
    this.#usageAtMs = nowMs + this.#usageEveryMs;
  }

  /** True if there was something to tell. */
  #tellUsage(): boolean {
    let changed = false;
    for (const [volumeId, usage] of this.#house.usages()) {
      const told = this.#told.get(volumeId);
      if (told !== undefined && sameUsage(told, usage)) continue;
      changed = true;
      if (this.#tell({ kind: 'usage', volumeId, usage })) this.#told.set(volumeId, usage);
    }
    return changed;
  }

  /** First who we are, then where each attachment is found: it may be another port than before our restart. */
  #greet(): void {
    const attachments = this.#house.specs();
    this.#greeted = this.#tell({ kind: 'host-hello', hostId: this.#hostId, pid: process.pid, attachments, build: this.#build, configurations: this.#house.configurations() });
    if (!this.#greeted) return;
    this.#context.monitor(this.#manager);
    this.#told.clear();
    for (const spec of attachments) this.#tell({ kind: 'attached', spec, nbd: this.#house.nbd(spec) });
    this.#tellUsage();
  }

  #tell(message: HostMessage): boolean {
    return this.#context.send(this.#manager, message) === 'ok';
  }
}
