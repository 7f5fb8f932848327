import type { BeaconMessage } from '@ashlar/protocol';
import { describe, expect, test } from 'vitest';
import { BeaconTable, type BeaconEffects } from './beacon.ts';
import { BEACON_INTERVAL_MS, LEASE_MARGIN_MS, LEASE_MS, SILENT_MS } from './limits.ts';
import { A, B, C, VOLUME } from './testing/group.ts';

/** Two tables, and what goes between them held back until the test lets it through. */
class Pairing {
  nowMs = 1000;
  a = new BeaconTable(1);
  b = new BeaconTable(2);
  readonly toA: BeaconMessage[] = [];
  readonly toB: BeaconMessage[] = [];
  readonly notes: string[] = [];

  effects(self: 'a' | 'b'): BeaconEffects {
    return {
      sendBeacon: (_to, message) => { (self === 'a' ? this.toB : this.toA).push(message); },
      leaseGranted: (volumeIds) => { this.notes.push(`${self} granted ${volumeIds.length}`); },
      relationLost: (peer) => { this.notes.push(`${self} lost ${peer}`); },
      peerSilent: (peer, volumeIds) => { this.notes.push(`${self} silent ${peer} ${[...volumeIds].length}`); },
      committed: (from, point) => { this.notes.push(`${self} committed ${from} ${point.committedSeq}`); },
    };
  }

  tick(): void { this.a.tick(this.nowMs, this.effects('a')); }
  deliver(): void {
    for (const message of this.toB.splice(0)) this.b.receive(this.nowMs, A, message, this.effects('b'));
    for (const message of this.toA.splice(0)) this.a.receive(this.nowMs, B, message, this.effects('a'));
  }

  /** A leads in epoch 3, B follows. */
  related(): this {
    this.b.promise(VOLUME, 3, A, this.nowMs);
    this.a.establish(B, VOLUME, 3, 2, this.nowMs);
    this.tick();
    this.deliver();
    return this;
  }
}

describe('leases', () => {
  test('count from the sending of the beacon', () => {
    const p = new Pairing();
    p.b.promise(VOLUME, 3, A, p.nowMs);
    p.a.establish(B, VOLUME, 3, 2, p.nowMs);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    p.tick();
    const sentMs = p.nowMs;
    p.nowMs += 300;
    p.deliver();
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(sentMs + LEASE_MS - LEASE_MARGIN_MS);
  });

  test('a grant of a beacon from before the relation does not count', () => {
    const p = new Pairing().related();
    p.tick();
    p.nowMs += 10;
    p.a.end(VOLUME);
    p.a.establish(B, VOLUME, 4, 2, p.nowMs);
    p.deliver();
    expect(p.a.leaseUntilMs(B, VOLUME, 4)).toBe(0);
  });

  test('are of one epoch only, and of nobody unknown', () => {
    const p = new Pairing().related();
    expect(p.a.leaseUntilMs(B, VOLUME, 2)).toBe(0);
    expect(p.a.leaseUntilMs(C, VOLUME, 3)).toBe(0);
    expect(p.a.heardAtMs(C)).toBe(0);
  });

  test('an older grant that comes late does not shorten or lengthen one', () => {
    const p = new Pairing().related();
    const until = p.a.leaseUntilMs(B, VOLUME, 3);
    p.a.receive(p.nowMs + 50, B, { kind: 'grant', sentAtMs: 500, instance: 2, releases: [] }, p.effects('a'));
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(until);
  });

  test('end with a release, which is repeated until it was seen', () => {
    const p = new Pairing().related();
    const given = p.b.promise(VOLUME, 4, C, p.nowMs);
    expect(given).toEqual({ to: A, untilMs: p.nowMs + LEASE_MS });
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    expect(p.notes).toContain(`a lost ${B}`);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    // A late answer of the old relation cannot bring it back.
    p.a.establish(B, VOLUME, 3, 2, p.nowMs);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    p.a.establish(B, VOLUME, 5, 2, p.nowMs);
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    expect(p.a.leaseUntilMs(B, VOLUME, 5)).toBeGreaterThan(p.nowMs);
  });

  test('a promise of the same epoch again releases nothing', () => {
    const p = new Pairing().related();
    p.b.promise(VOLUME, 3, A, p.nowMs);
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    expect(p.notes).not.toContain(`a lost ${B}`);
  });

  test('a new life of the follower voids them', () => {
    const p = new Pairing().related();
    p.b = new BeaconTable(9);
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    expect(p.notes).toContain(`a lost ${B}`);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
  });

  test('waiting reads are told once', () => {
    const p = new Pairing().related();
    p.a.wait(VOLUME);
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    p.nowMs += BEACON_INTERVAL_MS;
    p.tick();
    p.deliver();
    expect(p.notes.filter((note) => note === 'a granted 1')).toHaveLength(1);
  });

  test('silence is told once, and again after a word', () => {
    const p = new Pairing().related();
    for (let i = 0; i < 10; i++) {
      p.nowMs += SILENT_MS / 4;
      p.tick();
      p.toB.length = 0;
    }
    expect(p.notes.filter((note) => note.startsWith('a silent'))).toEqual([`a silent ${B} 1`]);
    p.tick();
    p.deliver();
    // A server that did not run itself hears nobody; that is not counted.
    p.nowMs += 2 * SILENT_MS;
    p.tick();
    expect(p.notes.filter((note) => note.startsWith('a silent'))).toHaveLength(1);
    for (let i = 0; i < 10; i++) {
      p.nowMs += BEACON_INTERVAL_MS;
      p.tick();
      p.toB.length = 0;
    }
    expect(p.notes.filter((note) => note.startsWith('a silent'))).toHaveLength(2);
  });

  test('commit points reach those who follow in that epoch', () => {
    const p = new Pairing().related();
    p.a.committed(VOLUME, 3, 7);
    p.a.committed(VOLUME, 3, 9);
    p.tick();
    p.deliver();
    expect(p.notes).toContain(`b committed ${A} 9`);
    p.a.committed(VOLUME, 2, 11);
    p.tick();
    p.deliver();
    expect(p.notes).not.toContain(`b committed ${A} 11`);
    p.a.end(VOLUME);
    p.a.committed(VOLUME, 3, 12);
    expect(p.a.active).toBe(false);
  });

  test('a server that leads nothing is quiet', () => {
    const p = new Pairing();
    p.a.tick(p.nowMs, p.effects('a'));
    expect(p.toB).toEqual([]);
    expect(p.a.active).toBe(false);
    p.related();
    expect(p.a.active).toBe(true);
  });

  test('leading oneself ends what was followed', () => {
    const p = new Pairing().related();
    expect(p.b.promise(VOLUME, 4, null, p.nowMs)?.to).toBe(A);
    expect(p.b.promise(VOLUME, 5, null, p.nowMs)).toBeNull();
  });
});
