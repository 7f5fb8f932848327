import type { EventRecord } from '@ashlar/client';
import { serverId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { orderOf, type Loss } from './lose-run.ts';

const event = (sequence: number, name: string, subject: string, detail = {}): EventRecord => ({ sequence, atMs: 0, name, subject, source: 'manager', reason: '', detail });
const loss: Loss = { servers: [serverId('server-1'), serverId('server-2')], gone: ['vol-0'], left: new Map([['vol-0', 0], ['vol-1', 1], ['vol-2', 2], ['vol-3', 1]]), lost: new Map([['vol-1', 1], ['vol-2', 1], ['vol-3', 2]]) };

const givenUp = [event(11, 'server-lost', 'server-1'), event(11, 'server-lost', 'server-2')];

describe('the order of rebuilds, as the events tell it', () => {
  it('is right when volumes with one copy left come first', () => {
    const events = [event(5, 'learner-added', 'vol-2'), event(11, 'learner-added', 'vol-3'), event(12, 'learner-added', 'vol-1'), event(13, 'copy-filled', 'vol-3', { filledBytes: 7 }), event(14, 'learner-added', 'vol-2')];
    expect(orderOf([...givenUp, ...events], loss, 10)).toEqual({ movedBytes: 7, overtakings: 0, begun: 3 });
  });

  it('is right when a volume without a primary waits for one', () => {
    const events = [event(11, 'promoted', 'vol-1'), event(12, 'learner-added', 'vol-3'), event(13, 'learner-added', 'vol-2'), event(14, 'serving', 'vol-1'), event(15, 'learner-added', 'vol-1')];
    expect(orderOf([...givenUp, ...events], loss, 10).overtakings).toBe(0);
    expect(orderOf([...givenUp, events[0]!, events[3]!, events[1]!, events[2]!, events[4]!].map((one, i) => ({ ...one, sequence: 20 + i })), loss, 10).overtakings).toBe(1);
  });

  it('shows who was overtaken', () => {
    const events = [event(11, 'learner-added', 'vol-3'), event(12, 'learner-added', 'vol-2'), event(13, 'learner-added', 'vol-1')];
    expect(orderOf([...givenUp, ...events], loss, 10).overtakings).toBe(1);
    // Server 2 may come back.
    expect(orderOf([givenUp[0]!, ...events, givenUp[1]!], loss, 10).overtakings).toBe(0);
  });
});
