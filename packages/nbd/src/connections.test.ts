import { describe, expect, it } from 'vitest';
import { Prng } from '@ashlar/words';
import { Command } from './constants.ts';
import { SOCKET_HOLDS_BYTES_MAX } from './limits.ts';
import { type HeldBackend, request, shared, SharedWire, SIZE, type Wire } from './testing/wire.ts';

const write = (value: number, length = 4096): Uint8Array => request(Command.write, value, 0, length, new Uint8Array(length).fill(value));

describe('connections of one export', () => {
  const room = { requestsMax: 64, bytesMax: 65536 };

  it('are served in the order in which they began to wait, however large their requests are', () => {
    const { backend, wire, answer } = shared(room);
    const busy = [wire(), wire()];
    const large = wire();
    for (const each of busy) each.receive(write(1));
    large.receive(write(2, room.bytesMax));
    for (let round = 0; round < 8; round++) {
      answer();
      for (const each of busy) if (each.take().length > 0) each.receive(write(3));
    }
    expect(large.take().length).toBe(16);
    // Those who came while the large one waited go on behind it.
    expect(backend.written.slice(0, 5)).toEqual([1, 1, 2, 3, 3]);
  });

  it('let the next in line go first when one is served in part', () => {
    const { backend, wire, answer } = shared({ requestsMax: 1, bytesMax: 65536 });
    const [first, second] = [wire(), wire()];
    first.receive(write(1), write(2), write(3));
    second.receive(write(4), write(5));
    for (let i = 0; i < 5; i++) answer();
    expect(backend.written).toEqual([1, 2, 4, 3, 5]);
    expect([first.take().length, second.take().length]).toEqual([48, 32]);
  });

  it('do not wait for one that is gone', () => {
    for (const go of [(one: Wire) => one.session.closed(), (one: Wire) => one.session.ended()]) {
      const { backend, wire, settle, answer } = shared(room);
      const [busy, large, small, next, last] = [wire(), wire(), wire(), wire(), wire()];
      busy.receive(write(1));
      large.receive(write(2, room.bytesMax));
      small.receive(write(3));
      expect(backend.written).toEqual([1]);
      go(large);
      settle();
      expect(backend.written).toEqual([1, 3]);
      // Told that there is room, and gone before its turn.
      next.receive(write(4, room.bytesMax));
      last.receive(write(5));
      backend.answer();
      backend.answer();
      go(next);
      settle();
      expect(backend.written).toEqual([1, 3, 5]);
      answer();
      expect(last.take().length).toBe(16);
    }
  });

  it('do not wait for one that is refused, or breaks the rules, when its turn has come', () => {
    for (const part of [request(Command.read, 9, 1, 512), new Uint8Array(28)]) {
      const { backend, wire, answer } = shared(room);
      const [busy, large, small] = [wire(), wire(), wire()];
      busy.receive(write(1));
      large.receive(write(2, room.bytesMax), part);
      small.receive(write(3));
      answer();
      expect(backend.written).toEqual([1, 2]);
      answer();
      expect(backend.written).toEqual([1, 2, 3]);
    }
  });

  /** An older connection that was left unread, and reads on now; a newer one whose request waits for that. */
  function elderAndHeir() {
    const { backend, wire, settle, answer } = shared({ requestsMax: 1, bytesMax: 65536 });
    const elder = wire();
    elder.receive(write(1), write(2));
    expect(elder.paused).toBe(true);
    const heir = wire();
    answer();
    answer();
    expect([elder.paused, elder.looks]).toEqual([false, 1]);
    heir.receive(write(9));
    return { backend, elder, heir, settle, answer };
  }

  it('are not served before an older one was read until nothing came', () => {
    const { backend, elder, settle, answer } = elderAndHeir();
    elder.look(write(3));
    settle();
    answer();
    expect(backend.written).toEqual([1, 2, 3]);
    elder.look(write(4));
    settle();
    answer();
    expect(backend.written).toEqual([1, 2, 3, 4]);
    elder.look();
    settle();
    expect(backend.written).toEqual([1, 2, 3, 4, 9]);
  });

  it('take no look at an older one for another that began later', () => {
    const { backend, elder, settle, answer } = elderAndHeir();
    // Left unread again before the look has ended, and read on.
    elder.receive(write(3), write(4));
    expect(elder.paused).toBe(true);
    answer();
    answer();
    expect([elder.paused, elder.looks]).toEqual([false, 2]);
    elder.look();
    settle();
    elder.look(write(5));
    settle();
    answer();
    elder.look();
    settle();
    expect(backend.written).toEqual([1, 2, 3, 4, 5, 9]);
  });

  it('do not wait for an older one that never stops sending', () => {
    const { backend, elder, settle } = elderAndHeir();
    // Refused, and skipped as it comes.
    elder.receive(request(Command.write, 7, 0, 2 * SOCKET_HOLDS_BYTES_MAX));
    const more = new Uint8Array(2 ** 20);
    for (let bytes = 0; bytes < SOCKET_HOLDS_BYTES_MAX; bytes += more.length) {
      expect(backend.written).toEqual([1, 2]);
      elder.look(more);
      settle();
    }
    expect(backend.written).toEqual([1, 2, 9]);
  });

  it('that come while what one that has ended had asked for is unanswered do not wait for each other', () => {
    const { backend, wire, settle, answer } = shared({ requestsMax: 8, bytesMax: SIZE });
    const ended = wire();
    ended.receive(write(1));
    ended.session.closed();
    const heirs = [wire(), wire(), wire()];
    for (const [i, heir] of heirs.entries()) heir.receive(write(2 + i));
    settle();
    expect(backend.written).toEqual([1]);
    answer();
    settle();
    for (const heir of heirs) {
      while (heir.looks > 0) heir.look();
      settle();
    }
    expect(backend.written).toEqual([1, 2, 3, 4]);
  });
});

/** A client that sends requests in parts, stops and goes on reading, and goes. */
class Client extends SharedWire {
  readonly queue: Uint8Array[] = [];
  asked = 0;
  gone = false;

  ask(prng: Prng): void {
    const parts: Uint8Array[] = [];
    for (let i = prng.between(1, 4); i > 0; i--) {
      const command = pick(prng, [Command.read, Command.read, Command.write, Command.flush]);
      const length = command === Command.flush ? 0 : 512 * prng.between(1, 40);
      parts.push(request(command, ++this.asked, 0, length, new Uint8Array(command === Command.write ? length : 0)));
    }
    const bytes = Buffer.concat(parts);
    const cut = prng.chance(0.3) ? prng.below(bytes.length) : 0;
    this.queue.push(...[bytes.subarray(0, cut), bytes.subarray(cut)].filter(({ length }) => length > 0));
  }
  /** False: there is nothing to send, or it may not be read. */
  send(): boolean {
    const part = this.gone || this.paused ? undefined : this.queue.shift();
    if (part) this.receive(part);
    return part !== undefined;
  }
  goOn(): boolean {
    this.reads = true;
    if (!this.full) return false;
    this.full = false;
    this.session.drained();
    return true;
  }
  lookOnce(): boolean {
    if (this.looks === 0) return false;
    this.look();
    return true;
  }
  leave(): void {
    if (this.gone) return;
    this.gone = true;
    this.session.closed();
  }
  /** Replies that it was sent. */
  answers(): number {
    const bytes = this.take();
    let count = 0;
    for (let at = 0; at < bytes.length; count++) at += bytes.readUInt32BE(at) === SIMPLE_REPLY ? 16 : 20 + bytes.readUInt32BE(at + 16);
    return count;
  }
}
const SIMPLE_REPLY = 0x67446698;

function pick<T>(prng: Prng, from: readonly T[]): T { return from[prng.below(from.length)] as T; }

describe('clients that do anything', () => {
  /** Does one thing for a client: asks, is read, is answered, has turns, stops and goes on reading, leaves, is looked at. */
  function anything(prng: Prng, client: Client, backend: HeldBackend, settle: () => void): void {
    const dice = prng.below(100);
    if (dice < 40) client.ask(prng);
    else if (dice < 60) client.send();
    else if (dice < 68) backend.answer();
    else if (dice < 83) settle();
    else if (dice < 86) client.reads = false;
    else if (dice < 89) client.goOn();
    else if (dice < 94) client.leave();
    else client.lookOnce();
  }

  it('are all answered, once, and all room is given back', () => {
    for (let seed = 1; seed <= 250; seed++) {
      const prng = new Prng(seed);
      const { backend, target, turns, settle } = shared({ requestsMax: prng.between(1, 5), bytesMax: 4096 * prng.between(1, 8) });
      const clients = [new Client(target, turns), new Client(target, turns)];
      for (let step = 0; step < 200; step++) {
        if (clients.length < 12 && prng.chance(0.1)) clients.push(new Client(target, turns));
        anything(prng, pick(prng, clients), backend, settle);
      }
      for (let did = true; did;) {
        const stirred = clients.filter((client) => [client.goOn(), client.send(), client.lookOnce()].includes(true));
        did = stirred.length > 0 || turns.length > 0 || target.unansweredRequests > 0;
        settle();
        backend.answer();
      }
      expect([target.unansweredRequests, target.unansweredBytes], `seed ${seed}`).toEqual([0, 0]);
      for (const client of clients) {
        if (client.gone) continue;
        expect([client.fault, client.queue.length, client.paused, client.session.caughtUp, client.answers()], `seed ${seed}`).toEqual([null, 0, false, true, client.asked]);
      }
    }
  });
});
