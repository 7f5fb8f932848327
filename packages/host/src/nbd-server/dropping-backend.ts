import { type Frame, Op, type PayloadLease } from '@ashlar/protocol';
import type { NbdBackend, NbdBackendLimits, NbdDevice, NbdReplies } from '@ashlar/nbd';
import { BLOCK_BYTES, Prng } from '@ashlar/words';

/** A device that answers one in so many overwrites and forgets it: what a verifier must notice before it is believed. */
export class DroppingBackend implements NbdBackend {
  readonly limits: NbdBackendLimits;
  readonly checksums: boolean;
  readonly #inner: NbdBackend;
  readonly #oneIn: number;
  readonly #prng: Prng;
  readonly #written = new Set<number>();
  dropped = 0;

  constructor(inner: NbdBackend, oneIn: number, seed: number) {
    this.#inner = inner;
    this.limits = inner.limits;
    this.checksums = inner.checksums;
    this.#oneIn = oneIn;
    this.#prng = new Prng(seed);
  }

  device(): NbdDevice {
    return this.#inner.device();
  }

  submit(frame: Frame, client: NbdReplies, lease: PayloadLease): void {
    const hidden = new Set<number>();
    for (let i = 0; i < frame.count; i++) {
      if (frame.op(i) !== Op.write || !this.#overwrites(frame.offsetBytes(i), frame.lengthBytes(i)) || !this.#prng.chance(1 / this.#oneIn)) continue;
      hidden.add(frame.requestNumber(i));
      this.dropped++;
      changeOp(frame, i, Op.flush);
    }
    const replies: NbdReplies = {
      replied: (reply) => {
        for (let i = 0; i < reply.count; i++) if (hidden.has(reply.requestNumber(i))) changeOp(reply, i, Op.write);
        client.replied(reply);
      },
    };
    this.#inner.submit(frame, replies, lease);
  }

  /** True if every block of the range was written before. */
  #overwrites(offsetBytes: number, lengthBytes: number): boolean {
    let all = true;
    for (let block = Math.floor(offsetBytes / BLOCK_BYTES); block * BLOCK_BYTES < offsetBytes + lengthBytes; block++) {
      all &&= this.#written.has(block);
      this.#written.add(block);
    }
    return all;
  }
}

function changeOp(frame: Frame, i: number, op: Op): void {
  frame.setOperation(i, frame.requestNumber(i), op, 0, frame.offsetBytes(i), frame.lengthBytes(i), frame.payloadAt(i), frame.crcIndex(i));
}
