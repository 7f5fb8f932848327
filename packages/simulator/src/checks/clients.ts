import { BACKING_VALUE, GARBAGE, SECTORS_PER_BLOCK, valueOf, ZERO_VALUE } from '../world/values.ts';
import type { Ghost } from './ghost.ts';
import type { History, SectorHistory } from './history.ts';
import { check, type Invariant, Violation } from './violation.ts';

export type ClientOpKind = 'read' | 'write' | 'zero' | 'trim' | 'flush';

/** One request of a client, from call to answer. */
export interface ClientOp {
  /** Unique in the run; for a write, the value that it writes. */
  readonly id: number;
  readonly kind: ClientOpKind;
  readonly firstSector: number;
  readonly sectors: number;
  readonly fua: boolean;
  readonly invokedMs: number;
  /** By block: the point of the committed order that was known to be passed when the request was made. */
  readonly floors: readonly number[];
  /** What a flush promises: everything answered when it was made. */
  readonly flushTarget: number;
  readonly losses: number;
  readonly client: string;
  answered: boolean;
}

/**
 * Linearizability of every 4 KiB block, decided as each answer arrives. The committed order is the witness: an
 * operation must find its place in it after everything that had been answered when it was called. That is stronger
 * than asking whether some order exists, and needs no search.
 */
export class ClientHistory {
  readonly #ghost: Ghost;
  readonly #floors = new Map<number, number>();
  readonly pending = new Map<number, ClientOp>();
  #nextId = 1;
  answeredOk = 0;
  failed = 0;

  constructor(ghost: Ghost) {
    this.#ghost = ghost;
    ghost.history.onLoss = (seq) => this.#lost(seq);
  }

  call(client: string, kind: ClientOpKind, firstSector: number, sectors: number, fua: boolean, nowMs: number): ClientOp {
    const { history } = this.#ghost;
    const floors: number[] = [];
    if (kind !== 'flush') for (let block = blockOf(firstSector); block <= blockOf(firstSector + sectors - 1); block++) floors.push(this.#floors.get(block) ?? 0);
    const op: ClientOp = {
      id: this.#nextId++, kind, firstSector, sectors, fua, invokedMs: nowMs, floors, flushTarget: history.answeredSeq, losses: history.losses, client, answered: false,
    };
    this.pending.set(op.id, op);
    return op;
  }

  /** The request failed: a read means nothing, a write may or may not have happened, now or later. */
  fail(op: ClientOp): void {
    this.#once(op);
    this.failed++;
  }

  /** The client is gone; nobody will hear the answer. */
  abandon(op: ClientOp): void {
    this.pending.delete(op.id);
    op.answered = true;
  }

  succeed(op: ClientOp, bytes: Uint8Array | null): void {
    this.#once(op);
    this.answeredOk++;
    if (op.kind === 'flush') return this.#flushed(op);
    if (op.kind === 'read') return this.#read(op, bytes);
    this.#wrote(op);
  }

  #once(op: ClientOp): void {
    check(!op.answered, 'never-a-lie', () => `${op.kind} ${op.id} of ${op.client} is answered twice`);
    op.answered = true;
    this.pending.delete(op.id);
  }

  /** After a loss of power of all copies, only what survived is known to have happened. */
  #lost(seq: number): void {
    for (const [block, floor] of this.#floors) if (floor > seq) this.#floors.set(block, seq);
  }

  #flushed(op: ClientOp): void {
    if (op.losses === this.#ghost.history.losses) this.#ghost.flushed(op.flushTarget);
  }

  /** A write (or trim, or zero) took effect in every block it touches, after all that was answered before its call. */
  #wrote(op: ClientOp): void {
    const { history } = this.#ghost;
    if (op.losses !== history.losses) return;
    let newest = 0;
    const first = blockOf(op.firstSector);
    for (let i = 0; i < op.floors.length; i++) {
      const sector = Math.max(op.firstSector, (first + i) * SECTORS_PER_BLOCK);
      // A trim is advice for whole blocks: what it covers of others may stay.
      if (op.kind === 'trim' && !coversBlock(op, first + i)) continue;
      // Zeros over zeros leave no mark of their own in the order.
      const seq = op.kind === 'write' ? seqOfValue(history.sector(sector), op.id, op.floors[i]) : nextPointWith(history.sector(sector), ZERO_VALUE, op.floors[i]);
      check(seq > 0 || (seq === 0 && op.kind !== 'write'), 'write-linearizable', () =>
        `${op.kind} ${op.id} at sector ${sector} was answered, but the committed order has it nowhere after ${op.floors[i]}, which was answered before it was called`);
      this.#raise(first + i, seq);
      newest = Math.max(newest, seq);
    }
    if (op.fua) this.#ghost.flushed(newest);
  }

  #read(op: ClientOp, bytes: Uint8Array | null): void {
    if (bytes === null || bytes.length !== op.sectors * 512) throw new Violation('never-a-lie', `read ${op.id} of ${op.sectors} sectors got ${bytes?.length ?? 'no'} bytes`);
    const values = new Int32Array(op.sectors);
    for (let k = 0; k < op.sectors; k++) {
      values[k] = valueOf(bytes, k * 512, op.firstSector + k);
      check(values[k] !== GARBAGE, 'wrong-bytes', () => `read ${op.id} finds no value in sector ${op.firstSector + k}: ${Buffer.from(bytes.subarray(k * 512, k * 512 + 16)).toString('hex')}`);
    }
    const first = blockOf(op.firstSector);
    for (let i = 0; i < op.floors.length; i++) this.#readBlock(op, first + i, op.losses === this.#ghost.history.losses ? op.floors[i] : 0, values);
  }

  /** Finds the earliest point of the order, not before the floor, at which the block held what was read. */
  #readBlock(op: ClientOp, block: number, floor: number, values: Int32Array): void {
    const { history } = this.#ghost;
    const from = Math.max(op.firstSector, block * SECTORS_PER_BLOCK);
    const until = Math.min(op.firstSector + op.sectors, (block + 1) * SECTORS_PER_BLOCK);
    let point = floor;
    for (let sector = from; sector < until;) {
      const value = values[sector - op.firstSector];
      const reached = nextPointWith(history.sector(sector), value, point);
      if (reached < 0) throw new Violation(...this.#notAPoint(op, sector, value, floor, history));
      if (reached > point) {
        point = reached;
        sector = from;
      } else sector++;
    }
    this.#raise(block, point);
  }

  #notAPoint(op: ClientOp, sector: number, value: number, floor: number, history: History): [Invariant, string] {
    const { seqs, values } = history.sector(sector);
    const tail = seqs.map((seq, i) => `${values[i]}@${seq}`).slice(-6).join(' ');
    const where = `read ${op.id} of ${op.client} shows value ${value} in sector ${sector}`;
    const invariant: Invariant = value === BACKING_VALUE ? 'backing-hidden' : 'read-linearizable';
    if (!values.includes(value)) return [invariant, `${where}, which is not committed; committed there: ${tail}`];
    return [invariant, `${where}; at and after ${floor}, known when it was called, that block never held what was read; committed there: ${tail}`];
  }

  #raise(block: number, seq: number): void {
    if (seq > (this.#floors.get(block) ?? 0)) this.#floors.set(block, seq);
  }
}

function coversBlock(op: ClientOp, block: number): boolean {
  return op.firstSector <= block * SECTORS_PER_BLOCK && op.firstSector + op.sectors >= (block + 1) * SECTORS_PER_BLOCK;
}

function blockOf(sector: number): number {
  return Math.floor(sector / SECTORS_PER_BLOCK);
}

/** The first time after `after` that the sector was given this value; 0: never. */
function seqOfValue(history: SectorHistory, value: number, after: number): number {
  let found = 0;
  for (let i = history.seqs.length - 1; i > 0 && history.seqs[i] > after; i--) if (history.values[i] === value) found = history.seqs[i];
  return found;
}

/** The first point at or after `point` at which the sector holds this value; -1: never. */
function nextPointWith(history: SectorHistory, value: number, point: number): number {
  const { seqs, values } = history;
  let i = seqs.length - 1;
  while (i > 0 && seqs[i] > point) i--;
  if (values[i] === value) return point;
  for (i++; i < seqs.length; i++) if (values[i] === value) return seqs[i];
  return -1;
}
