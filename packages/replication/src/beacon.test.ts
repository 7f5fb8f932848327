import type { BeaconMessage } from '@ashlar/protocol';
import { volumeId } from '@ashlar/words';
import { describe, expect, test } from 'vitest';
import { BeaconTable, type BeaconEffects } from './beacon.ts';
import { BEACON_INTERVAL_MS, LATE_MS, LEASE_MARGIN_MS, LEASE_MS, SILENT_MS } from './limits.ts';
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
  /** The next beacon that is due. */
  next(): void {
    this.nowMs += BEACON_INTERVAL_MS;
    this.tick();
  }

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
    expect(given).toEqual({ to: A, epoch: 3, untilMs: p.nowMs + LEASE_MS });
    p.next();
    p.deliver();
    expect(p.notes).toContain(`a lost ${B}`);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    // A late answer of the old relation cannot bring it back.
    p.a.establish(B, VOLUME, 3, 2, p.nowMs);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    p.a.establish(B, VOLUME, 5, 2, p.nowMs);
    p.next();
    p.deliver();
    expect(p.a.leaseUntilMs(B, VOLUME, 5)).toBeGreaterThan(p.nowMs);
  });

  test('a promise of the same epoch again releases nothing', () => {
    const p = new Pairing().related();
    p.b.promise(VOLUME, 3, A, p.nowMs);
    p.next();
    p.deliver();
    expect(p.notes).not.toContain(`a lost ${B}`);
  });

  test('a new life of the follower voids them', () => {
    const p = new Pairing().related();
    p.b = new BeaconTable(9);
    p.next();
    p.deliver();
    expect(p.notes).toContain(`a lost ${B}`);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
  });

  test('waiting reads are told once', () => {
    const p = new Pairing().related();
    p.a.wait(VOLUME);
    p.next();
    p.deliver();
    p.next();
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
    p.next();
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
    p.next();
    p.deliver();
    expect(p.notes).toContain(`b committed ${A} 9`);
    p.a.committed(VOLUME, 2, 11);
    p.next();
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

describe('relations', () => {
  const OTHER = volumeId('vol-0123456789abcdef1');

  test('are told when they begin, and do not end one another', () => {
    let begun = 0;
    const p = new Pairing();
    p.a = new BeaconTable(1, () => { begun++; });
    p.related();
    p.nowMs += 10;
    p.a.establish(B, OTHER, 1, 2, p.nowMs);
    expect(begun).toBe(2);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBeGreaterThan(p.nowMs);
    expect(p.a.leaseUntilMs(B, OTHER, 1)).toBe(0);
    // Of another life: what the former one promised is void.
    p.a.establish(B, OTHER, 2, 3, p.nowMs);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
    expect(p.a.leaseUntilMs(B, OTHER, 2)).toBe(0);
    // Whoever leads the other volume hears of it, and once.
    p.notes.length = 0;
    p.tick();
    p.tick();
    expect(p.notes).toEqual([`a lost ${B}`]);
    p.a.receive(p.nowMs, B, { kind: 'grant', sentAtMs: p.nowMs, instance: 3, releases: [] }, p.effects('a'));
    expect(p.a.leaseUntilMs(B, OTHER, 2)).toBeGreaterThan(p.nowMs);
    expect(p.a.leaseUntilMs(B, VOLUME, 3)).toBe(0);
  });

  test('the first one begins the time that is counted as silence, a further one does not', () => {
    const p = new Pairing();
    p.tick();
    p.nowMs += SILENT_MS;
    p.tick();
    p.a.establish(B, VOLUME, 3, 2, p.nowMs);
    expect(p.a.heardAtMs(B)).toBe(p.nowMs);
    const from = p.nowMs;
    for (let k = 0; k < SILENT_MS / BEACON_INTERVAL_MS; k++) {
      p.nowMs += BEACON_INTERVAL_MS;
      p.tick();
      p.a.establish(B, OTHER, k + 1, 2, p.nowMs);
    }
    expect(p.a.heardAtMs(B)).toBe(from);
    expect(p.notes).toEqual([]);
    p.nowMs += 1;
    p.tick();
    expect(p.notes).toEqual([`a silent ${B} 2`]);
  });

  test('reads that wait are told of a lease of their own volume only', () => {
    const p = new Pairing().related();
    p.a.wait(OTHER);
    p.next();
    p.deliver();
    expect(p.notes).toEqual([]);
    p.a.establish(B, OTHER, 1, 2, p.nowMs);
    p.next();
    p.deliver();
    expect(p.notes).toEqual(['a granted 1']);
  });

  test('a grant that comes twice counts once', () => {
    const p = new Pairing().related();
    p.next();
    p.b.receive(p.nowMs, A, p.toB.splice(0)[0] as BeaconMessage, p.effects('b'));
    const grant = p.toA.splice(0)[0] as BeaconMessage;
    expect(grant).toEqual({ kind: 'grant', sentAtMs: p.nowMs, instance: 2, releases: [] });
    p.a.receive(p.nowMs, B, grant, p.effects('a'));
    p.a.wait(VOLUME);
    p.a.receive(p.nowMs, B, grant, p.effects('a'));
    expect(p.notes).toEqual([]);
  });
});

describe('the rhythm of two that follow each other', () => {
  const other = volumeId('vol-0123456789abcdef1');
  const beacons = (messages: readonly BeaconMessage[]): number => messages.filter(({ kind }) => kind === 'beacon').length;

  test('is one: the second asks with its grant, and not again at its own time', () => {
    const p = new Pairing().related();
    p.a.promise(other, 3, B, p.nowMs);
    p.b.establish(A, other, 3, 1, p.nowMs);
    for (let i = 0; i < 5; i++) {
      p.next();
      expect(beacons(p.toB)).toBe(1);
      for (const message of p.toB.splice(0)) p.b.receive(p.nowMs, A, message, p.effects('b'));
      expect(p.toA.map(({ kind }) => kind)).toEqual(['grant', 'beacon']);
      p.deliver();
      expect(p.toB.map(({ kind }) => kind)).toEqual(['grant']);
      p.deliver();
      p.nowMs += BEACON_INTERVAL_MS / 4;
      p.b.tick(p.nowMs, p.effects('b'));
      expect(p.toA).toEqual([]);
      p.nowMs -= BEACON_INTERVAL_MS / 4;
      expect([p.a.leaseUntilMs(B, VOLUME, 3), p.b.leaseUntilMs(A, other, 3)]).toEqual([p.nowMs + LEASE_MS - LEASE_MARGIN_MS, p.nowMs + LEASE_MS - LEASE_MARGIN_MS]);
    }
  });

  test('is the second one’s own again when the first is silent, and a new relation waits for nothing', () => {
    const p = new Pairing().related();
    p.a.promise(other, 3, B, p.nowMs);
    p.b.establish(A, other, 3, 1, p.nowMs);
    p.next();
    p.deliver();
    p.deliver();
    p.nowMs += BEACON_INTERVAL_MS / 2;
    p.b.tick(p.nowMs, p.effects('b'));
    expect(beacons(p.toA.splice(0))).toBe(1);
    p.b.establish(A, volumeId('vol-0123456789abcdef2'), 3, 1, p.nowMs);
    p.b.tick(p.nowMs, p.effects('b'));
    expect(beacons(p.toA)).toBe(1);
  });
});

describe('what a beacon carries', () => {
  test('commit points once, to whom they concern, until the volume is led no more', () => {
    const p = new Pairing().related();
    const commits = (): unknown[] => p.toB.splice(0).map((message) => (message.kind === 'beacon' ? message.commits : message));
    p.a.establish(C, volumeId('vol-0123456789abcdef1'), 1, 9, p.nowMs);
    p.a.committed(VOLUME, 3, 7);
    p.next();
    expect(commits()).toEqual([[{ volumeId: VOLUME, epoch: 3, committedSeq: 7 }], []]);
    p.next();
    expect(commits()).toEqual([[], []]);
    p.a.committed(VOLUME, 3, 8);
    p.a.end(VOLUME);
    p.next();
    expect(commits()).toEqual([[]]);
    p.a.establish(B, VOLUME, 4, 2, p.nowMs);
    p.next();
    expect(commits()).toEqual([[], []]);
  });

  test('releases are repeated until this life has said that it saw them', () => {
    const p = new Pairing().related();
    p.b.promise(VOLUME, 4, A, p.nowMs);
    p.b.promise(VOLUME, 4, A, p.nowMs);
    p.b.promise(VOLUME, 6, A, p.nowMs);
    const beacon = (releasesOf: number, releasesSeen: number): BeaconMessage => ({ kind: 'beacon', sentAtMs: p.nowMs, instance: 1, releasesOf, releasesSeen, commits: [] });
    const releases = (message: BeaconMessage): unknown => {
      p.b.receive(p.nowMs, A, message, p.effects('b'));
      const grant = p.toA.pop();
      return grant?.kind === 'grant' && grant.releases.map(({ number, epoch }) => [number, epoch]);
    };
    expect(releases(beacon(2, 0))).toEqual([[1, 3], [2, 5]]);
    expect(releases(beacon(9, 2))).toEqual([[1, 3], [2, 5]]);
    expect(releases(beacon(2, 1))).toEqual([[2, 5]]);
    expect(releases(beacon(2, 2))).toEqual([]);
  });

  test('how far releases were seen; an older one, come late, ends nothing newer', () => {
    const p = new Pairing().related();
    p.a.establish(B, VOLUME, 5, 2, p.nowMs);
    const grant = (sentAtMs: number, number: number, epoch: number): void => p.a.receive(p.nowMs, B, { kind: 'grant', sentAtMs, instance: 2, releases: [{ number, volumeId: VOLUME, epoch }] }, p.effects('a'));
    grant(p.nowMs + 1, 3, 4);
    grant(p.nowMs + 2, 2, 3);
    expect(p.notes).toEqual([]);
    expect(p.a.leaseUntilMs(B, VOLUME, 5)).toBeGreaterThan(0);
    p.tick();
    expect(p.toB.pop()).toMatchObject({ releasesOf: 2, releasesSeen: 3 });
    grant(p.nowMs + 3, 4, 5);
    expect(p.notes).toEqual([`a lost ${B}`]);
  });
});

describe('a clock that was not looked at', () => {
  test('in time, early, or a little late changes nothing; much too late is not silence', () => {
    const p = new Pairing().related();
    const heard = p.nowMs;
    const after = (ms: number): number => {
      p.nowMs += ms;
      p.tick();
      return p.a.heardAtMs(B);
    };
    expect([after(BEACON_INTERVAL_MS), after(10), after(BEACON_INTERVAL_MS + LATE_MS)]).toEqual([heard, heard, heard]);
    expect(after(BEACON_INTERVAL_MS + LATE_MS + 1)).toBe(heard + LATE_MS + 1);
    expect(after(SILENT_MS)).toBe(heard + LATE_MS + 1 + SILENT_MS - BEACON_INTERVAL_MS);
    p.nowMs += 4000;
    p.toA.length = 0;
    p.a.receive(p.nowMs, B, { kind: 'grant', sentAtMs: p.nowMs, instance: 2, releases: [] }, p.effects('a'));
    p.tick();
    expect(p.a.heardAtMs(B)).toBe(p.nowMs);
  });
});
