import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MemoryBackend, type AttachmentClient, type LocalFailure, type OpenAttachment } from '@ashlar/host';
import { Frame, FrameKind, Op, Status, type PayloadLease } from '@ashlar/protocol';
import { volumeId, type ErrorCode } from '@ashlar/words';
import { beforeEach, describe, expect, test } from 'vitest';
import { PIECE_BYTES_MAX, WAITING_MAX } from './limits.ts';
import { Volume } from './volume.ts';

const ID = volumeId('vol-0123456789abcdef0');
const SIZE = 64 * 2 ** 20;

/** Stands for the attachment: a memory that answers at once, or when it is told to. */
class HeldAttachment implements OpenAttachment {
  readonly memory = new MemoryBackend({ sizeBytes: SIZE, checksums: true });
  limits = { requestsMax: 4, bytesMax: 32 * 2 ** 20 };
  held = false;
  readonly frames: { readonly frame: Frame; readonly client: AttachmentClient; readonly lease: PayloadLease }[] = [];
  /** Operations of every frame that came, in order. */
  readonly came: string[][] = [];

  get spec(): OpenAttachment['spec'] { throw new Error('nobody asks'); }
  device() { return this.memory.device(); }

  submit(frame: Frame, client: AttachmentClient, lease: PayloadLease): void {
    this.came.push(Array.from({ length: frame.count }, (_, i) => `${frame.op(i)}@${frame.offsetBytes(i)}`));
    this.frames.push({ frame, client, lease });
    if (!this.held) this.answer();
  }

  answer(): void {
    for (const { frame, client, lease } of this.frames.splice(0)) this.memory.submit(frame, client, lease);
  }

  fail(status: Status, failure?: LocalFailure): void {
    for (const { frame, client } of this.frames.splice(0)) {
      const reply = Frame.create(FrameKind.reply, frame.count, 0);
      for (let i = 0; i < frame.count; i++) {
        reply.setOperation(i, frame.requestNumber(i), frame.op(i), 0, frame.offsetBytes(i), frame.lengthBytes(i), 0, 0);
        reply.setStatus(i, status);
      }
      client.replied(reply, failure);
    }
  }
}

let attachment: HeldAttachment;
let open: HeldAttachment | undefined;
let detached = 0;
let volume: Volume;

function openVolume(readOnly = false): Volume {
  return new Volume(ID, readOnly, { name: ID, attachment: () => open, turn: (work) => work(), detach: () => { detached++; return Promise.resolve(); } });
}

beforeEach(() => {
  attachment = new HeldAttachment();
  open = attachment;
  detached = 0;
  volume = openVolume();
});

const bytes = (seed: number, length = 4096): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 13 + seed) & 0xff);
/** At once. The flag makes the function for a context of its own. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
const codeOf = (promise: Promise<unknown>): Promise<ErrorCode | 'answered'> => promise.then(() => 'answered' as const, (error: { code: ErrorCode }) => error.code);

describe('a volume', () => {
  test('is written and read, into a buffer of the program or a new one', async () => {
    await volume.write(8192, bytes(1));
    expect(await volume.read(8192, 4096)).toEqual(bytes(1));
    const into = new Uint8Array(8192);
    expect(await volume.read(4096, into)).toBe(into);
    expect(into.subarray(4096)).toEqual(bytes(1));
    await volume.writeZeroes(8192, 512);
    await volume.trim(8704, 512);
    await volume.flush();
    expect((await volume.read(8192, 1024)).every((byte) => byte === 0)).toBe(true);
  });

  test('sends what is asked for in one turn as one frame, in order', async () => {
    attachment.limits = { ...attachment.limits, requestsMax: 100 };
    await Promise.all([volume.write(0, bytes(1)), volume.read(0, 4096), volume.trim(4096, 4096), volume.flush()]);
    expect(attachment.came).toEqual([[`${Op.write}@0`, `${Op.read}@0`, `${Op.trim}@4096`, `${Op.flush}@0`]]);
  });

  test('sends long requests in pieces', async () => {
    const long = bytes(3, 2 * PIECE_BYTES_MAX + 4096);
    await volume.write(0, long);
    expect(Buffer.compare(await volume.read(0, long.length), long)).toBe(0);
    expect(attachment.came.flat().filter((op) => op.startsWith(`${Op.write}@`))).toEqual([0, 1, 2].map((i) => `${Op.write}@${i * PIECE_BYTES_MAX}`));
  });

  test('takes the bytes when it sends them: they are the program’s again when it is answered', async () => {
    attachment.held = true;
    const mine = bytes(1);
    const written = volume.write(0, mine);
    await turn();
    mine.fill(0);
    attachment.held = false;
    attachment.answer();
    await written;
    expect(await volume.read(0, 4096)).toEqual(bytes(1));
  });

  test.each<readonly [string, (open: Volume) => Promise<unknown>]>([
    ['an offset inside a sector', (of) => of.read(1, 512)],
    ['a negative offset', (of) => of.read(-512, 512)],
    ['no length', (of) => of.write(0, new Uint8Array(0))],
    ['a length that is no multiple of a sector', (of) => of.read(0, 1000)],
    ['a range beyond the end', (of) => of.write(SIZE - 512, bytes(1, 1024))],
    ['what is no number', (of) => of.trim(Number.NaN, 512)],
    ['a write of what is no bytes', (of) => of.write(0, new Uint32Array(1024) as unknown as Uint8Array)],
    ['a write of a text', (of) => of.write(0, 'x'.repeat(512) as unknown as Uint8Array)],
    ['a read into what is no bytes', (of) => of.read(0, new Uint16Array(512) as unknown as Uint8Array)],
  ])('refuses %s, and sends nothing', async (_what, ask) => {
    await expect(ask(volume)).rejects.toMatchObject({ code: 'invalid-argument' });
    await turn();
    expect(attachment.came).toEqual([]);
  });

  test('that is read-only refuses changes', async () => {
    const reader = openVolume(true);
    await reader.read(0, 512);
    await expect(reader.write(0, bytes(1))).rejects.toMatchObject({ code: 'invalid-argument' });
    await expect(reader.trim(0, 512)).rejects.toMatchObject({ code: 'invalid-argument' });
  });
});

describe('a buffer that the program gives away too early', () => {
  const given = (buffer: Uint8Array): void => void structuredClone(buffer.buffer, { transfer: [buffer.buffer as ArrayBuffer] });

  test('fails its write alone: what was asked for beside it is written as it was', async () => {
    attachment.limits = { ...attachment.limits, requestsMax: 100 };
    const mine = bytes(7);
    const all = Promise.allSettled([volume.write(0, bytes(1)), volume.write(4096, mine), volume.write(8192, bytes(2))]);
    given(mine);
    expect((await all).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((await all)[1]).toMatchObject({ reason: { code: 'invalid-argument' } });
    expect(await volume.read(0, 4096)).toEqual(bytes(1));
    expect(await volume.read(4096, 4096)).toEqual(new Uint8Array(4096));
    expect(await volume.read(8192, 4096)).toEqual(bytes(2));
    expect(volume.unanswered).toBe(0);
  });

  test('fails its read alone', async () => {
    await volume.write(0, bytes(3));
    attachment.held = true;
    const into = new Uint8Array(4096);
    const all = Promise.allSettled([volume.read(0, into), volume.read(0, 4096)]);
    await turn();
    given(into);
    attachment.held = false;
    attachment.answer();
    expect(await all).toMatchObject([{ status: 'rejected', reason: { code: 'invalid-argument' } }, { status: 'fulfilled', value: bytes(3) }]);
    expect(volume.unanswered).toBe(0);
  });
});

describe('backpressure', () => {
  test('keeps nothing of the program’s once it is answered, while more is waiting', async () => {
    attachment.held = true;
    const buffers: WeakRef<Uint8Array>[] = [];
    const write = (i: number): Promise<void> => {
      const buffer = bytes(i);
      buffers.push(new WeakRef(buffer));
      return volume.write(i * 4096, buffer);
    };
    const first = Promise.all([0, 1, 2, 3].map(write));
    const rest = Promise.all([4, 5, 6, 7, 8].map(write));
    await turn();
    attachment.answer();
    await first;
    await turn();
    collectGarbage();
    expect(buffers.slice(0, 4).filter((buffer) => buffer.deref() !== undefined)).toEqual([]);
    attachment.held = false;
    attachment.answer();
    await rest;
  });

  test('lets as many go out as there is room for, the rest in order when answers come', async () => {
    attachment.held = true;
    const writes = Promise.all(Array.from({ length: 10 }, (_, i) => volume.write(i * 4096, bytes(i))));
    await turn();
    expect(attachment.came.flat()).toHaveLength(4);
    expect(volume.unanswered).toBe(10);
    attachment.answer();
    await turn();
    expect(attachment.came.flat()).toHaveLength(8);
    attachment.held = false;
    attachment.answer();
    await writes;
    expect(attachment.came.flat()).toEqual(Array.from({ length: 10 }, (_, i) => `${Op.write}@${i * 4096}`));
    expect(volume.unanswered).toBe(0);
  });

  test('counts bytes, and lets one through that is larger than all room', async () => {
    attachment.held = true;
    attachment.limits = { requestsMax: 100, bytesMax: 10_000 };
    const all = Promise.all([volume.write(0, bytes(1, 16_384)), volume.read(0, 8192), volume.read(0, 4096)]);
    await turn();
    expect(attachment.came).toEqual([[`${Op.write}@0`]]);
    attachment.answer();
    await turn();
    expect(attachment.came).toHaveLength(2);
    attachment.held = false;
    attachment.answer();
    await all;
  });

  test('refuses with busy what is more than may wait, and goes on', async () => {
    attachment.held = true;
    const first = volume.flush();
    await turn();
    const waiting = Array.from({ length: WAITING_MAX }, () => volume.flush());
    await expect(volume.flush()).rejects.toMatchObject({ code: 'busy', retry: 'later' });
    attachment.held = false;
    attachment.answer();
    await Promise.all([first, ...waiting]);
    await volume.flush();
  });
});

describe('an abort', () => {
  test('of a request that waits keeps it from being sent', async () => {
    attachment.held = true;
    const under = Array.from({ length: 4 }, () => volume.flush());
    await turn();
    const abort = new AbortController();
    const given = volume.write(0, bytes(9), { signal: abort.signal });
    abort.abort();
    await expect(given).rejects.toMatchObject({ name: 'AbortError' });
    attachment.held = false;
    attachment.answer();
    await Promise.all(under);
    expect(await volume.read(0, 4096)).toEqual(new Uint8Array(4096));
  });

  test('of one under way answers the program at once, leaves its buffer alone, and keeps its room until the answer', async () => {
    await volume.write(0, bytes(1));
    attachment.held = true;
    const abort = new AbortController();
    const into = new Uint8Array(4096);
    const given = volume.read(0, into, { signal: abort.signal });
    const others = Array.from({ length: 4 }, () => volume.flush());
    await turn();
    abort.abort(new Error('enough'));
    await expect(given).rejects.toThrow('enough');
    expect(volume.unanswered).toBe(5);
    attachment.held = false;
    attachment.answer();
    await Promise.all(others);
    expect(into.every((byte) => byte === 0)).toBe(true);
    expect(volume.unanswered).toBe(0);
  });

  test('that came before the request asks for nothing', async () => {
    await expect(volume.read(0, 512, { signal: AbortSignal.abort() })).rejects.toMatchObject({ name: 'AbortError' });
    await turn();
    expect(attachment.came).toEqual([]);
  });
});

describe('a request that fails', () => {
  test.each<readonly [Status, LocalFailure | undefined, ErrorCode]>([
    [Status.ioError, undefined, 'io-error'], [Status.noSpace, undefined, 'no-space'], [Status.invalid, undefined, 'invalid-argument'], [Status.busy, undefined, 'busy'],
    [Status.ioError, 'taken-over', 'fenced'], [Status.ioError, 'numbers-used', 'fenced'], [Status.ioError, 'deleted', 'not-found'], [Status.ioError, 'timed-out', 'timeout'],
    [Status.ioError, 'quarantined', 'quarantined'], [Status.ioError, 'detached', 'unavailable'],
  ])('with status %d, failure %s is told as %s', async (status, failure, code) => {
    attachment.held = true;
    const read = volume.read(4096, 512);
    const told = expect(read).rejects.toMatchObject({ code, message: expect.stringContaining('read of 512 bytes at 4096') as unknown });
    await turn();
    attachment.fail(status, failure);
    await told;
  });

  test('because its attachment’s life ended is told so; late answers are nobody’s; the next life serves', async () => {
    attachment.held = true;
    const read = volume.read(0, 512);
    await turn();
    volume.lifeEnded();
    expect(await codeOf(read)).toBe('unavailable');
    const [late] = attachment.frames.splice(0);
    const flush = volume.flush();
    await turn();
    attachment.memory.submit(late.frame, late.client, late.lease);
    expect(volume.unanswered).toBe(1);
    attachment.answer();
    await flush;
  });

  test('because nothing is attached any more is told so', async () => {
    open = undefined;
    expect(await codeOf(volume.read(0, 512))).toBe('not-attached');
    expect(volume.unanswered).toBe(0);
  });
});

describe('closing', () => {
  test('waits for what was asked for, takes no more, and detaches once', async () => {
    attachment.held = true;
    const write = volume.write(0, bytes(1));
    const closed = volume.close();
    for (const late of [volume.read(0, 512), volume.write(0, bytes(2)), volume.flush(), volume.trim(0, 512)]) expect(await codeOf(late)).toBe('not-attached');
    await turn();
    expect(detached).toBe(0);
    attachment.answer();
    await write;
    await closed;
    await volume.close();
    expect(detached).toBe(1);
  });
});
