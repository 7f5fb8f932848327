import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Address } from '@ashlar/actor';
import { exportName, HostNode, type OpenAttachment } from '@ashlar/host';
import { createLog, createRuntime, DirectoryLock, type Runtime } from '@ashlar/runtime';
import { AshlarError, errorCode, hostId, volumeId, type HostId, type VolumeId } from '@ashlar/words';
import { controlAt, type Control } from './control.ts';
import { CLOSE_GRACE_MS, READY_MS, READY_POLL_MS, SERVERS_LOOK_MS } from './limits.ts';
import { siteDoor } from './site-door.ts';
import { Volume } from './volume.ts';

export interface NodeManagerOptions {
  /** What outlives the program: its attachments, and the request numbers they have used. One running program each; never copied. Made if it is not there. */
  readonly directory: string;
  /** The directory of a running site on this machine (`Site.start`, or `ashlar up --dir`). */
  readonly site: string;
  /** The name under which the site knows this program as a host. Default: one that is made once and kept in the directory. */
  readonly hostId?: string;
}

export interface AttachOptions {
  /** Beside a writer, or several readers. Default: the one writer. */
  readonly readOnly?: boolean;
}

/** @hidden For a program that has a runtime already: the site that runs in this process. */
export interface EmbeddedOptions {
  readonly hostId: HostId;
  /** Its lock is held by the caller. */
  readonly directory: string;
  readonly runtime: Runtime;
  readonly managerAddress: Address;
  readonly control: Control;
}

/**
 * The node manager of this program: attaches volumes in this process, without a block device in between. The event loop of this thread is its
 * own: a program that keeps it busy keeps its requests waiting, and after a second its primaries think it slow.
 */
export class NodeManager {
  readonly hostId: HostId;
  readonly #runtime: Runtime;
  readonly #control: Control;
  readonly #volumes = new Map<VolumeId, Volume | 'attaching'>();
  /** Told when an attachment opens. */
  readonly #openings = new Map<string, () => void>();
  /** After the host is stopped. */
  readonly #release: () => Promise<void>;
  #host: HostNode | null = null;
  #closing: Promise<void> | null = null;

  private constructor({ hostId: id, runtime, control }: EmbeddedOptions, release: () => Promise<void>) {
    this.hostId = id;
    this.#runtime = runtime;
    this.#control = control;
    this.#release = release;
  }

  /**
   * Joins a running site as a host of its own. Rejects with `directory-locked` (another program has the directory), `unavailable` (no such
   * site), `unauthorized`, `corrupt`; nothing runs then.
   */
  static async start({ directory, site, hostId: asked }: NodeManagerOptions): Promise<NodeManager> {
    const lock = DirectoryLock.acquire(directory);
    try {
      const { links } = siteDoor(site);
      const id = ownHostId(directory, asked);
      const runtime = createRuntime({ name: id, log: createLog({ name: id, file: join(directory, 'node-manager.log') }), token: links.linkToken });
      const control = controlAt(() => siteDoor(site));
      const servers = new ServerLinks(runtime, control);
      const release = async (): Promise<void> => {
        servers.stop();
        await runtime.shutdown();
        lock.release();
      };
      runtime.links.connect(links.managerParty, { path: links.managerPath });
      try {
        await servers.look();
        return await NodeManager.embed({ hostId: id, directory, runtime, managerAddress: links.managerAddress, control }, release);
      } catch (error) {
        await release();
        throw error;
      }
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** @internal In a runtime that is there already and outlives it. Resolves when the system manager knows this host. */
  static async embed(options: EmbeddedOptions, release: () => Promise<void> = () => Promise.resolve()): Promise<NodeManager> {
    const { hostId: id, directory, runtime, managerAddress } = options;
    const nodeManager = new NodeManager(options, release);
    nodeManager.#host = await HostNode.start({
      hostId: id, directory, socketDirectory: null, runtime, managerAddress,
      onOpened: (name) => nodeManager.#openings.get(name)?.(),
      onClosed: (name) => nodeManager.#onClosed(name),
    });
    try {
      await nodeManager.#known();
    } catch (error) {
      await nodeManager.#host.stop();
      throw error;
    }
    return nodeManager;
  }

  /**
   * Attaches a volume here, or goes on with its attachment if this host has it already (the program ended without closing it). Rejects with
   * `not-found`, `in-use` (it has a writer, or is open here already), `unavailable`, `busy`.
   */
  async attach(id: string, { readOnly = false }: AttachOptions = {}): Promise<Volume> {
    const volume = volumeId(id);
    if (this.#closing !== null) throw new AshlarError('unavailable', 'this node manager was closed');
    if (this.#volumes.has(volume)) throw new AshlarError('in-use', `${volume} is open in this program already`);
    this.#volumes.set(volume, 'attaching');
    try {
      const name = exportName({ volumeId: volume, readOnly, copy: null });
      const { attachments } = await this.#control.call({ kind: 'volume-describe', volumeId: volume });
      const ours = attachments.some((known) => known.host === this.hostId && known.readOnly === readOnly && known.copy === null && known.state !== 'detaching');
      if (!ours) await this.#control.call({ kind: 'volume-attach', volumeId: volume, hostId: this.hostId, readOnly });
      await this.#opened(name);
      const attachNumber = this.#host?.attachment(name)?.spec.attachNumber;
      const opened = new Volume(volume, readOnly, { name: volume, attachment: () => this.#attachment(name, attachNumber), turn: (work) => this.#runtime.turn(work), detach: () => this.#detach(volume) });
      this.#volumes.set(volume, opened);
      return opened;
    } catch (error) {
      this.#volumes.delete(volume);
      throw error;
    }
  }

  /**
   * Ends this node manager: what is under way is waited for up to 5 s, then rejected. Volumes that were not closed stay attached to this
   * host; the next start with the same directory goes on with them.
   */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const late = new AbortController();
    const volumes = [...this.#volumes.values()].filter((volume) => volume !== 'attaching');
    await Promise.race([Promise.all(volumes.map((volume) => volume.quiesce())), delay(CLOSE_GRACE_MS, undefined, { signal: late.signal }).catch(() => undefined)]);
    late.abort();
    await this.#host?.stop();
    await this.#release();
  }

  /** A later attach under the same name is another's: between the two somebody else may have written. */
  #attachment(name: string, attachNumber: number | undefined): OpenAttachment | undefined {
    const attachment = this.#host?.attachment(name);
    return attachment?.spec.attachNumber === attachNumber ? attachment : undefined;
  }

  async #detach(volume: VolumeId): Promise<void> {
    try {
      await this.#control.call({ kind: 'volume-detach', volumeId: volume, hostId: this.hostId });
    } catch (error) {
      // Somebody else has detached or deleted it: it is as it was wanted.
      if (errorCode(error) !== 'not-attached' && errorCode(error) !== 'not-found') throw error;
    } finally {
      this.#volumes.delete(volume);
    }
  }

  #onClosed(name: string): void {
    for (const [volume, opened] of this.#volumes) if (opened !== 'attaching' && name === exportName({ volumeId: volume, readOnly: opened.readOnly, copy: null })) opened.lifeEnded();
  }

  /** The system manager's order to attach comes by another way than its answer. */
  async #opened(name: string): Promise<void> {
    if (this.#host?.attachment(name) !== undefined) return;
    const late = new AbortController();
    const opened = new Promise<true>((resolve) => { this.#openings.set(name, () => resolve(true)); });
    const outcome = await Promise.race([opened, delay(READY_MS, false, { signal: late.signal }).catch(() => false)]);
    late.abort();
    this.#openings.delete(name);
    if (!outcome) throw new AshlarError('timeout', `${name} was not attached here within ${READY_MS / 1000} s`, { retry: 'later' });
  }

  async #known(): Promise<void> {
    const deadlineMs = performance.now() + READY_MS;
    for (;;) {
      const hosts = await this.#control.call({ kind: 'host-list' });
      if (hosts.some((host) => host.hostId === this.hostId && host.state === 'up')) return;
      if (performance.now() >= deadlineMs) throw new AshlarError('unavailable', `the system manager does not know ${this.hostId} after ${READY_MS / 1000} s`, { retry: 'later' });
      await delay(READY_POLL_MS);
    }
  }
}

/** Links to the site's storage servers, those that are added later as well. */
class ServerLinks {
  readonly #runtime: Runtime;
  readonly #control: Control;
  /** By address: servers of one process share a link. */
  readonly #linked = new Set<string>();
  readonly #timer: NodeJS.Timeout;

  constructor(runtime: Runtime, control: Control) {
    this.#runtime = runtime;
    this.#control = control;
    this.#timer = setInterval(() => {
      this.look().catch((error: unknown) => this.#runtime.log.debug({ error }, 'the servers of the site could not be listed; it is tried again'));
    }, SERVERS_LOOK_MS).unref();
  }

  async look(): Promise<void> {
    for (const { serverId, address } of await this.#control.call({ kind: 'server-list' })) {
      if (this.#linked.has(address)) continue;
      this.#linked.add(address);
      this.#runtime.links.connect(serverId, { path: address });
    }
  }

  stop(): void { clearInterval(this.#timer); }
}

/** A name that no other host of the site has: two with one name would take each other's attachments. */
function ownHostId(directory: string, asked: string | undefined): HostId {
  if (asked !== undefined) return hostId(asked);
  const path = join(directory, 'host-id');
  if (!existsSync(path)) writeFileSync(path, `program-${randomBytes(6).toString('hex')}\n`, { mode: 0o600, flush: true });
  return hostId(readFileSync(path, 'utf8').trim());
}
