/** A woken primary's writes in its old epoch, and those of a session that is over, sent on purpose over live links to real copies on real files: refused, and counted by reason. */
import { mkdtempSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor, ActorContext, ActorLog, Address, Message, Signal } from '@ashlar/actor';
import { changed, Frame, FrameKind, Op, Status, volumeTag, type Configuration, type CopyMessage, type ManagerCommand, type ManagerMessage, type SessionMessage, type SessionReply } from '@ashlar/protocol';
import { createRuntime, type Runtime } from '@ashlar/runtime';
import { BLOCK_BYTES, checksum, serverId, volumeId } from '@ashlar/words';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StorageNode } from './storage-node.ts';

const VOLUME = volumeId('vol-0123456789abcdef0');
const WOKEN = serverId('server-1');
const PRIMARY = serverId('server-2');
const MIRROR = serverId('server-3');
const FOUNDED: Configuration = {
  volumeId: VOLUME, lineage: 1, epoch: 1, members: [WOKEN, PRIMARY, MIRROR].map((id) => ({ serverId: id, incarnation: 1 })), learners: [], attachNumber: 1,
  sizeBytes: 2 ** 24, minCopies: 1, copiesWanted: 2, durability: 'normal',
};
/** The first server was frozen, and has been replaced. */
const NOW: Configuration = changed(FOUNDED, { members: [PRIMARY, MIRROR].map((id) => ({ serverId: id, incarnation: 1 })) });
const MANAGER: Address = 'manager/manager';
const HOST: Address = 'host-1/attachment/x';
const WOKEN_COPY: Address = `${WOKEN}/copy/${VOLUME}`;
const PRIMARY_COPY: Address = `${PRIMARY}/copy/${VOLUME}`;
const MIRROR_COPY: Address = `${MIRROR}/copy/${VOLUME}`;

const quiet = (): void => {};
const log: ActorLog = { debug: quiet, info: quiet, warn: quiet, error: quiet };

/** Keeps what it is told. */
class Ear implements Actor {
  readonly #heard: { readonly message: Message | Signal; readonly from: Address }[] = [];
  #look: () => void = quiet;
  constructor(context: ActorContext, parties: readonly string[]) {
    for (const party of parties) context.watch(party);
  }
  receive(message: Message | Signal, from: Address): void {
    this.#heard.push({ message, from });
    this.#look();
  }
  /** The first message of this kind from there that has not been taken yet. */
  async take<T extends Message>(kind: string, from: Address): Promise<T> {
    for (;;) {
      const at = this.#heard.findIndex((one) => (one.message as { kind: string }).kind === kind && one.from === from);
      if (at >= 0) return this.#heard.splice(at, 1)[0]?.message as T;
      await new Promise<void>((resolve) => { this.#look = resolve; });
    }
  }
  inspect(): unknown { return null; }
}

let folder: string;
const runtimes: Runtime[] = [];
let outside: Runtime;
let manager: Ear;
let host: Ear;
let woken: Ear;

function runtimeOf(name: string, parties: readonly string[]): Runtime {
  const runtime = createRuntime({ name, log, token: 'secret', parties });
  runtimes.push(runtime);
  return runtime;
}

function ear(address: Address): Ear {
  let made: Ear | null = null;
  outside.start({ kind: 'actor', id: address, address, restart: 'permanent', shutdownMs: 100, start: (context) => (made = new Ear(context, [PRIMARY, MIRROR])) });
  return made as unknown as Ear;
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'ashlar-late-'));
  const socket = (id: string): { path: string } => ({ path: join(folder, `${id}.link`) });
  for (const id of [PRIMARY, MIRROR]) {
    const runtime = runtimeOf(id, []);
    await runtime.links.listen(socket(id));
    const directory = join(folder, id);
    mkdirSync(directory);
    StorageNode.start({ serverId: id, directories: [directory], runtime, managerAddress: MANAGER, address: 'test' });
    if (id === MIRROR) runtime.links.connect(PRIMARY, socket(PRIMARY));
  }
  // The parties that the test plays have a process of their own as far as the servers can see.
  outside = runtimeOf('outside', ['manager', 'host-1', WOKEN]);
  manager = ear(MANAGER);
  host = ear(HOST);
  woken = ear(WOKEN_COPY);
  for (const id of [PRIMARY, MIRROR]) {
    outside.links.connect(id, socket(id));
    await outside.links.waitUntilUp(id, 10_000);
    await manager.take('server-hello', `${id}/server`);
  }
  for (const configuration of [FOUNDED, NOW]) {
    const command: ManagerCommand = { kind: 'configure', configuration, predecessorEnded: true, founding: configuration === FOUNDED };
    for (const id of [PRIMARY, MIRROR]) outside.send(`${id}/server`, command, MANAGER);
  }
  for (let serving = false; !serving;) {
    const status = await manager.take<ManagerMessage & { readonly kind: 'status' }>('status', PRIMARY_COPY);
    serving = status.epoch === NOW.epoch && status.serving;
  }
});

afterEach(async () => {
  for (const runtime of runtimes.splice(0).reverse()) await runtime.shutdown();
  rmSync(folder, { recursive: true });
});

function block(value: number): Uint8Array { return new Uint8Array(BLOCK_BYTES).fill(value); }

function frameOf(kind: FrameKind, value: number, set: (frame: Frame) => void): Frame {
  const bytes = block(value);
  const frame = Frame.create(kind, 1, 1, bytes);
  frame.setVolumeTag(volumeTag(VOLUME));
  frame.attachNumber = 1;
  set(frame);
  frame.setCrc(0, checksum(bytes));
  frame.seal();
  return frame;
}

function write(sessionCount: number, number: number, request: number, value: number): SessionMessage {
  const frame = frameOf(FrameKind.request, value, (made) => {
    made.epoch = NOW.epoch;
    made.sessionCount = sessionCount;
    made.number = number;
    made.setOperation(0, request, Op.write, 0, 0, BLOCK_BYTES, 0, 0);
  });
  return { kind: 'requests', sessionId: sessionCount, frame };
}

async function openSession(count: number): Promise<void> {
  const open: SessionMessage = { kind: 'open', sessionId: count, epoch: NOW.epoch, generation: { attachNumber: 1, count }, readOnly: false };
  outside.send(PRIMARY_COPY, open, HOST);
  expect(await host.take<SessionReply>('opened', PRIMARY_COPY)).toMatchObject({ sessionId: count, epoch: NOW.epoch });
}

async function answerOf(message: SessionMessage): Promise<SessionReply & { readonly kind: 'replies' }> {
  outside.send(PRIMARY_COPY, message, HOST);
  return host.take('replies', PRIMARY_COPY);
}

interface CopyView {
  readonly lastSeq: number;
  readonly counts: { readonly refusedSessions: number; readonly fencedFrames: number };
}

function viewOf(address: Address): CopyView {
  for (const runtime of runtimes) {
    const actor = runtime.inspect().actors.find((one) => one.address === address);
    if (actor) return structuredClone(actor.detail) as CopyView; // its counts go on counting
  }
  throw new Error(`there is no ${address}`);
}

test('a woken primary’s append in its old epoch is fenced, by the new primary and by its mirror', async () => {
  await openSession(1);
  expect((await answerOf(write(1, 1, 1, 0xaa))).frame.status(0)).toBe(Status.ok);
  for (const copy of [PRIMARY_COPY, MIRROR_COPY]) {
    const before = viewOf(copy);
    const late = frameOf(FrameKind.log, 0xbb, (made) => {
      made.epoch = FOUNDED.epoch;
      made.sessionCount = 1;
      made.setOperation(0, 1, Op.write, 0, 0, BLOCK_BYTES, 0, 0);
    });
    const message: CopyMessage = { kind: 'append', frame: late };
    expect(outside.send(copy, message, WOKEN_COPY)).toBe('ok');
    expect(await woken.take<CopyMessage>('fenced', copy)).toMatchObject({ epoch: NOW.epoch });
    const after = viewOf(copy);
    expect(after.lastSeq).toBe(before.lastSeq);
    expect(after.counts.fencedFrames).toBe(before.counts.fencedFrames + 1);
  }
});

test('a write of a session that is over is refused, and the block keeps what the newer session wrote', async () => {
  await openSession(1);
  expect((await answerOf(write(1, 1, 1, 0xaa))).frame.status(0)).toBe(Status.ok);
  await openSession(2);
  expect((await answerOf(write(2, 1, 2, 0xcc))).frame.status(0)).toBe(Status.ok);
  const before = viewOf(PRIMARY_COPY);
  outside.send(PRIMARY_COPY, write(1, 2, 3, 0xbb), HOST);
  expect(await host.take<SessionReply>('refused', PRIMARY_COPY)).toMatchObject({ sessionId: 1, reason: 'old-session' });
  const after = viewOf(PRIMARY_COPY);
  expect(after.lastSeq).toBe(before.lastSeq);
  expect(after.counts.refusedSessions).toBe(before.counts.refusedSessions + 1);
  const read = Frame.create(FrameKind.request, 1, 0);
  read.setVolumeTag(volumeTag(VOLUME));
  read.epoch = NOW.epoch;
  read.attachNumber = 1;
  read.sessionCount = 2;
  read.number = 2;
  read.setOperation(0, 4, Op.read, 0, 0, BLOCK_BYTES, 0, 0);
  read.seal();
  const { frame } = await answerOf({ kind: 'requests', sessionId: 2, frame: read });
  expect(frame.status(0)).toBe(Status.ok);
  expect(Buffer.compare(frame.bytes(0), block(0xcc))).toBe(0);
});
