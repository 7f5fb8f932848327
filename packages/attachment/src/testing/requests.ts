import { blocksTouched, Frame, FrameKind, Op, type PayloadLease, REPLY_GAP_BYTES, Status, type AttachmentSpec, type Configuration } from '@ashlar/protocol';
import { BLOCK_BYTES, hostId, serverId, volumeId, type ServerId } from '@ashlar/words';
import type { AttachmentClient, LocalFailure } from '../effects.ts';

const VOLUME = volumeId('vol-0123456789abcdef0');
export const A = serverId('server-a');
export const B = serverId('server-b');
export const C = serverId('server-c');

export const SPEC: AttachmentSpec = {
  volumeId: VOLUME, hostId: hostId('host-1'), readOnly: false, attachNumber: 3, tcp: false, copy: null,
  limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 },
};

export function configurationOf(epoch: number, members: readonly ServerId[] = [A, B], more: Partial<Configuration> = {}): Configuration {
  return {
    volumeId: VOLUME, lineage: 1, epoch, members: members.map((id) => ({ serverId: id, incarnation: 1 })), learners: [], attachNumber: 3, sizeBytes: 2 ** 30,
    minCopies: 1, copiesWanted: 2, durability: 'normal', ...more,
  };
}

export interface Operation {
  readonly op: Op;
  readonly tag: number;
  readonly block?: number;
  readonly blocks?: number;
  /** Stands for the bytes: lies in the checksum table. */
  readonly value?: number;
}

/** As the NBD server builds it: 28 bytes of client header before each write's bytes. */
export function requestOf(operations: readonly Operation[]): Frame {
  let blocks = 0;
  let bytes = 0;
  for (const o of operations) if (o.op === Op.write) {
    blocks += o.blocks ?? 1;
    bytes += 28 + (o.blocks ?? 1) * BLOCK_BYTES;
  }
  const frame = Frame.create(FrameKind.request, operations.length, blocks, new Uint8Array(Math.min(bytes, 64)));
  let crcs = 0;
  let at = 0;
  operations.forEach((o, i) => {
    const length = o.op === Op.flush ? 0 : (o.blocks ?? 1) * BLOCK_BYTES;
    const write = o.op === Op.write;
    frame.setOperation(i, o.tag, o.op, 0, (o.block ?? 0) * BLOCK_BYTES, length, write ? at + 28 : 0, write ? crcs : 0);
    if (!write) return;
    at += 28 + length;
    for (let b = 0; b < (o.blocks ?? 1); b++) frame.setCrc(crcs++, o.value ?? 0);
  });
  return frame;
}

/** A primary's reply to operations of a request frame. */
export function replyOf(request: Frame, indexes: readonly number[], status: Status = Status.ok, epoch = request.epoch): Frame {
  let bytes = 0;
  for (const i of indexes) if (request.op(i) === Op.read && status === Status.ok) bytes += REPLY_GAP_BYTES + request.lengthBytes(i);
  const frame = Frame.create(FrameKind.reply, indexes.length, 0, new Uint8Array(bytes));
  frame.epoch = epoch;
  frame.attachNumber = request.attachNumber;
  frame.sessionCount = request.sessionCount;
  frame.number = request.number;
  let at = 0;
  indexes.forEach((i, k) => {
    const read = request.op(i) === Op.read && status === Status.ok;
    frame.setOperation(k, request.requestNumber(i), request.op(i), 0, request.offsetBytes(i), request.lengthBytes(i), read ? at + REPLY_GAP_BYTES : 0, 0);
    frame.setStatus(k, status);
    if (read) at += REPLY_GAP_BYTES + request.lengthBytes(i);
  });
  return frame;
}

export function allOf(frame: Frame): number[] {
  return Array.from({ length: frame.count }, (_, i) => i);
}

/** Remembers the status of every answer by tag, and that each comes once. */
export class TestClient implements AttachmentClient {
  readonly answers = new Map<number, Status>();
  /** Of what failed without a copy's answer: why. */
  readonly failures = new Map<number, LocalFailure>();
  readonly frames: Frame[] = [];
  onReply: ((frame: Frame) => void) | null = null;

  replied(reply: Frame, failure?: LocalFailure): void {
    this.frames.push(reply);
    for (let k = 0; k < reply.count; k++) {
      const tag = reply.requestNumber(k);
      if (this.answers.has(tag)) throw new Error(`tag ${tag} is answered twice`);
      this.answers.set(tag, reply.status(k));
      if (failure !== undefined) this.failures.set(tag, failure);
    }
    this.onReply?.(reply);
  }
}

export class TestLease implements PayloadLease {
  released = 0;
  release(): void { this.released++; }
}

export function blocksOf(frame: Frame, i: number): number {
  return blocksTouched(frame.offsetBytes(i), frame.lengthBytes(i));
}
