import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor, ActorContext, Address, Signal } from '@ashlar/actor';
import { Frame, type AttachmentSpec, type Configuration, type HostCommand, type HostMessage, type RefusalReason, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import { createLog, createRuntime, type Runtime } from '@ashlar/runtime';
import { hostId, serverId, volumeId, type ServerId, type VolumeId } from '@ashlar/words';
import { HostNode } from '../host-node.ts';
import { MemoryBackend } from '../nbd-server/index.ts';

export const VOLUME = volumeId('vol-0123456789abcdef0');
export const S1 = serverId('server-1');
export const S2 = serverId('server-2');
export const MANAGER: Address = 'manager/manager';
const SIZE = 64 * 2 ** 20;

export function configurationOf(epoch: number, primary: ServerId, more: Partial<Configuration> = {}): Configuration {
  return {
    volumeId: VOLUME, lineage: 1, epoch, members: [{ serverId: primary, incarnation: 1 }], learners: [], attachNumber: 1, sizeBytes: SIZE, minCopies: 1, copiesWanted: 1,
    durability: 'normal', ...more,
  };
}

export function specOf(more: Partial<AttachmentSpec> = {}): AttachmentSpec {
  return {
    volumeId: VOLUME, hostId: hostId('host-1'), readOnly: false, attachNumber: 1, tcp: false, copy: null,
    limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, ...more,
  };
}

/** A volume's bytes, which every fake copy of it shows, so that a failover loses nothing. */
export class FakeVolume {
  readonly memory = new MemoryBackend({ sizeBytes: SIZE });
  /** Of every request that changed something, in the order in which it was done. */
  readonly applied: number[] = [];
}

/** A copy as far as hosts can see it: answers sessions of its epoch out of memory. */
export class FakeCopy implements Actor<SessionMessage> {
  readonly context: ActorContext;
  readonly volume: FakeVolume;
  readonly opens: (SessionMessage & { readonly kind: 'open' })[] = [];
  epoch: number;
  /** Takes requests, and says nothing. */
  silent = false;
  refusal: RefusalReason | null = null;
  crashOnRequest = false;

  constructor(context: ActorContext, volume: FakeVolume, epoch: number) {
    this.context = context;
    this.volume = volume;
    this.epoch = epoch;
  }

  receive(message: SessionMessage | Signal, from: Address): void {
    if (this.silent) return;
    const answer = (reply: SessionReply): void => void this.context.send(from, reply);
    switch (message.kind) {
      case 'open':
        this.opens.push(message);
        if (this.refusal !== null) return answer({ kind: 'refused', sessionId: message.sessionId, epoch: this.epoch, reason: this.refusal });
        if (message.epoch !== this.epoch && message.epoch !== 0) return answer({ kind: 'refused', sessionId: message.sessionId, epoch: this.epoch, reason: 'not-primary' });
        return answer({ kind: 'opened', sessionId: message.sessionId, epoch: message.epoch, generation: message.generation, sizeBytes: SIZE, appliedThrough: 0 });
      case 'probe': return answer({ kind: 'alive', sessionId: message.sessionId, epoch: message.epoch, sentAtMs: message.sentAtMs });
      case 'requests':
        if (this.crashOnRequest) throw new Error('a planted crash');
        return this.#carryOut(message.sessionId, message.frame, answer);
      default:
    }
  }

  inspect(): unknown { return {}; }

  #carryOut(sessionId: number, frame: Frame, answer: (reply: SessionReply) => void): void {
    for (let i = 0; i < frame.count; i++) this.volume.applied.push(frame.requestNumber(i));
    // The memory keeps what it is given: it gets a head of its own.
    const request = new Frame(frame.head.slice(), frame.payload);
    this.volume.memory.submit(request, {
      replied: (reply) => {
        reply.epoch = frame.epoch;
        reply.attachNumber = frame.attachNumber;
        reply.sessionCount = frame.sessionCount;
        reply.number = frame.number;
        answer({ kind: 'replies', sessionId, frame: reply });
      },
    }, { release: () => undefined });
  }
}

/** The system manager as far as hosts can see it. */
export class FakeManager implements Actor<HostMessage> {
  readonly context: ActorContext;
  readonly heard: HostMessage[] = [];
  #waiting: (() => void)[] = [];

  constructor(context: ActorContext) { this.context = context; }

  receive(message: HostMessage | Signal): void {
    this.heard.push(message as HostMessage);
    for (const look of this.#waiting.splice(0)) look();
  }

  inspect(): unknown { return {}; }

  of<K extends HostMessage['kind']>(kind: K): Extract<HostMessage, { kind: K }>[] {
    return this.heard.filter((message): message is Extract<HostMessage, { kind: K }> => message.kind === kind);
  }

  /** Resolves when `count` messages of the kind have come in all. */
  async until<K extends HostMessage['kind']>(kind: K, count = 1): Promise<Extract<HostMessage, { kind: K }>> {
    for (;;) {
      const found = this.of(kind)[count - 1];
      if (found !== undefined) return found;
      await new Promise<void>((resolve) => { this.#waiting.push(resolve); });
    }
  }
}

/** One process: a runtime with a host, fake copies and a fake manager. `restart` makes the next one over the same directories. */
export class FakeSite {
  readonly directory = mkdtempSync(join(tmpdir(), 'ashlar-host-'));
  readonly volumes = new Map<VolumeId, FakeVolume>();
  runtime!: Runtime;
  host!: HostNode;
  manager!: FakeManager;
  readonly copies = new Map<ServerId, FakeCopy>();

  async start(withManager = true): Promise<this> {
    this.runtime = createRuntime({ name: 'test', log: createLog({ name: 'test', level: 'silent' }), token: 'x', parties: [S1, S2, 'manager'] });
    if (withManager) this.startManager();
    for (const id of [S1, S2]) this.startCopy(id, id === S1 ? 1 : 0);
    this.host = await HostNode.start({
      hostId: hostId('host-1'), directory: join(this.directory, 'state'), socketDirectory: join(this.directory, 'sockets'), runtime: this.runtime, managerAddress: MANAGER,
    });
    return this;
  }

  startManager(): void {
    this.runtime.start({
      kind: 'actor', id: 'manager', address: MANAGER, restart: 'permanent', shutdownMs: 1000, start: (context) => { this.manager = new FakeManager(context); return this.manager; },
    });
  }

  startCopy(id: ServerId, epoch: number, volume: VolumeId = VOLUME): void {
    this.runtime.start({
      kind: 'actor', id: `${id}/${volume}`, address: `${id}/copy/${volume}`, restart: 'permanent', shutdownMs: 1000,
      start: (context) => {
        const copy = new FakeCopy(context, this.volume(volume), epoch);
        if (volume === VOLUME) this.copies.set(id, copy);
        return copy;
      },
    });
  }

  volume(id: VolumeId = VOLUME): FakeVolume {
    const known = this.volumes.get(id) ?? new FakeVolume();
    this.volumes.set(id, known);
    return known;
  }

  copy(id: ServerId): FakeCopy { return this.copies.get(id) as FakeCopy; }

  /** Carried out when this returns, as far as nothing has to be waited for. */
  command(command: HostCommand, from: Address = MANAGER): void {
    this.runtime.turn(() => { this.runtime.send('host-1/host', command, from); });
  }

  /** Attaches, and answers with the URI. */
  async attach(spec: AttachmentSpec = specOf(), configuration = configurationOf(1, S1)): Promise<string> {
    const before = this.manager.of('attached').length;
    this.command({ kind: 'attach', spec, configuration });
    return (await this.manager.until('attached', before + 1)).nbd;
  }

  attachment(name: string): { readonly phase: string; readonly sessionCount: number; readonly epoch: number } | undefined {
    const view = this.runtime.inspect().actors.find(({ address }) => address === `host-1/attachment/${name}`);
    return view?.detail as { phase: string; sessionCount: number; epoch: number } | undefined;
  }

  /** The process ends in order and another one starts. */
  async restart(withManager = true): Promise<void> {
    await this.runtime.shutdown();
    await this.start(withManager);
  }

  async end(): Promise<void> {
    await this.runtime.shutdown();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
