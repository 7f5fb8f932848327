import type { AttachmentClient } from '@ashlar/attachment';
import { blocksTouched, Frame, FrameKind, Op, OpFlag, Status } from '@ashlar/protocol';
import { TILE_BYTES } from '@ashlar/store';
import { BLOCK_BYTES, checksum, SECTOR_BYTES, type Prng } from '@ashlar/words';
import type { ClientOp, ClientOpKind } from '../checks/clients.ts';
import { EventKind, type Receiver, type SimEvent } from '../engine/scheduler.ts';
import type { SimAttachment, SimHost } from './sim-host.ts';
import { SECTORS_PER_BLOCK, stampValue } from './values.ts';
import type { World } from './world.ts';

const OPS: Readonly<Record<ClientOpKind, Op>> = { read: Op.read, write: Op.write, zero: Op.zero, trim: Op.trim, flush: Op.flush };
/** Bytes of a client's request header, which stand before each write's bytes in a receive buffer. */
const CLIENT_HEADER_BYTES = 28;
/** What the store writes once, in places of 64 KiB (docs/adr/0012). */
const SECTORS_PER_TILE = TILE_BYTES / SECTOR_BYTES;
const LEASE = { release: (): void => undefined };

/** One program with requests in flight on a device. Reads and writes what other programs of the host do, too. */
export class SimClient implements Receiver, AttachmentClient {
  readonly name: string;
  readonly traceId: number;
  readonly #world: World;
  readonly #host: SimHost;
  readonly #attachment: SimAttachment;
  readonly #prng: Prng;
  readonly #open = new Map<number, { readonly op: ClientOp; readonly frame: { left: number } }>();
  #stopped = false;

  constructor(world: World, host: SimHost, attachment: SimAttachment, index: number, prng: Prng) {
    this.#world = world;
    this.#host = host;
    this.#attachment = attachment;
    this.#prng = prng;
    this.name = `${attachment.address}/client-${index}`;
    this.traceId = 100 + host.process.index * 8 + index;
    for (let k = 0; k < world.plan.depth; k++) this.#think();
  }

  get life(): number { return this.#host.process.life; }
  held(nowMs: number): boolean { return this.#host.process.held(nowMs); }
  defer(event: SimEvent): void { this.#host.process.defer(event); }

  stop(): void {
    this.#stopped = true;
    for (const { op } of this.#open.values()) this.#world.clients.abandon(op);
    this.#open.clear();
  }

  handle(): void {
    if (this.#stopped || !this.#world.clientsMayIssue) return;
    this.#issue();
  }

  #think(): void {
    if (this.#stopped) return;
    const delayMs = this.#prng.fraction() * 2 * this.#world.plan.thinkMs;
    this.#world.scheduler.at(this.#host.process.departsMs + delayMs, EventKind.client, this, null);
  }

  #issue(): void {
    const count = this.#prng.chance(0.7) ? 1 : this.#prng.between(2, 5);
    const ops: ClientOp[] = [];
    for (let i = 0; i < count; i++) ops.push(this.#draw());
    this.#submit(ops);
  }

  #draw(): ClientOp {
    const { clients, scheduler } = this.#world;
    const kind = this.#attachment.spec.readOnly ? 'read' : this.#kind();
    const sectorsMax = this.#attachment.core.sizeBytes / SECTOR_BYTES;
    const block = this.#world.hotBlocks[this.#prng.below(this.#world.hotBlocks.length)];
    let firstSector = block * SECTORS_PER_BLOCK;
    let sectors = SECTORS_PER_BLOCK * (this.#prng.chance(0.8) ? 1 : this.#prng.between(2, 4));
    if (this.#prng.chance(0.1)) {
      firstSector += this.#prng.below(SECTORS_PER_BLOCK);
      sectors = this.#prng.between(1, 12);
    }
    const { tileWrites } = this.#world.plan;
    if (kind === 'write' && tileWrites > 0 && this.#prng.chance(tileWrites)) {
      firstSector -= firstSector % SECTORS_PER_TILE;
      sectors = SECTORS_PER_TILE * this.#prng.between(1, 2);
    }
    if ((kind === 'trim' || kind === 'zero') && this.#prng.chance(0.0015)) {
      // As mkfs does: nearly all of the device at once.
      firstSector = this.#prng.below(2 * SECTORS_PER_BLOCK);
      sectors = sectorsMax - firstSector - this.#prng.below(2 * SECTORS_PER_BLOCK);
    }
    if (firstSector + sectors > sectorsMax) firstSector = sectorsMax - sectors;
    const fua = kind === 'write' && this.#prng.chance(0.05);
    return clients.call(this.name, kind, firstSector, sectors, fua, scheduler.nowMs);
  }

  #kind(): ClientOpKind {
    const draw = this.#prng.fraction();
    if (draw < 0.5) return 'write';
    if (draw < 0.86) return 'read';
    if (draw < 0.9) return 'zero';
    return draw < 0.94 ? 'trim' : 'flush';
  }

  #submit(ops: readonly ClientOp[]): void {
    let blocks = 0;
    let bytes = 0;
    for (const op of ops) {
      if (op.kind !== 'write') continue;
      blocks += blocksTouched(op.firstSector * SECTOR_BYTES, op.sectors * SECTOR_BYTES);
      bytes += CLIENT_HEADER_BYTES + op.sectors * SECTOR_BYTES;
    }
    const frame = Frame.create(FrameKind.request, ops.length, blocks, bytes > 0 ? new Uint8Array(bytes) : undefined);
    const group = { left: ops.length };
    let at = 0;
    let crcs = 0;
    ops.forEach((op, i) => {
      this.#open.set(op.id, { op, frame: group });
      const offset = op.firstSector * SECTOR_BYTES;
      const length = op.kind === 'flush' ? 0 : op.sectors * SECTOR_BYTES;
      if (op.kind !== 'write') return frame.setOperation(i, op.id, OPS[op.kind], 0, op.kind === 'flush' ? 0 : offset, length, 0, 0);
      at += CLIENT_HEADER_BYTES;
      frame.setOperation(i, op.id, Op.write, op.fua ? OpFlag.fua : 0, offset, length, at, crcs);
      const payload = frame.payload.subarray(at, at + length);
      stampValue(payload, op.firstSector, op.id);
      this.#world.maybePoison(op.id);
      crcs = setChecksums(frame, payload, offset, crcs);
      at += length;
    });
    this.#attachment.input({ kind: 'submit', frame, client: this, lease: LEASE });
  }

  replied(reply: Frame): void {
    if (this.#stopped) return;
    for (let i = 0; i < reply.count; i++) {
      const found = this.#open.get(reply.requestNumber(i));
      if (found === undefined) continue;
      this.#answered(found.op, reply, i);
      if (--found.frame.left === 0) this.#think();
    }
  }

  #answered(op: ClientOp, reply: Frame, i: number): void {
    this.#open.delete(op.id);
    if (reply.status(i) !== Status.ok) return this.#world.clients.fail(op);
    this.#world.clients.succeed(op, op.kind === 'read' ? reply.bytes(i) : null);
    if (op.kind === 'write') this.#world.wrote(op);
  }
}

/** One checksum for each block that the bytes touch. */
function setChecksums(frame: Frame, bytes: Uint8Array, offset: number, first: number): number {
  let k = first;
  for (let from = 0; from < bytes.length;) {
    const to = Math.min(bytes.length, from + BLOCK_BYTES - ((offset + from) % BLOCK_BYTES));
    frame.setCrc(k++, checksum(bytes.subarray(from, to)));
    from = to;
  }
  return k;
}
