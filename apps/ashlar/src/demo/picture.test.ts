import type { EventRecord } from '@ashlar/client';
import { describe, expect, it } from 'vitest';
import { picture } from './picture.ts';

const VOLUME = 'vol-00000000000000001';
let sequence = 0;
const event = (atMs: number, name: string, subject: string, detail: EventRecord['detail'] = {}, reason = ''): EventRecord =>
  ({ sequence: ++sequence, atMs, name, subject, source: 'manager', reason, detail });

describe('picture', () => {
  it('shows who held what after each event, and what the client saw between them', () => {
    const events = [
      event(500, 'server-up', 'server-1', { pid: 7 }),
      event(1000, 'volume-created', VOLUME, { servers: 'server-1 server-2' }),
      event(2000, 'process-ended', 'server-1', { pid: 7 }, 'ended by SIGKILL'),
      event(2003, 'promoted', VOLUME, { from: 'server-1', to: 'server-2', epoch: 2 }),
      event(2004, 'unknown-event', VOLUME),
      event(2500, 'copy-removed', VOLUME, { serverId: 'server-1' }, 'silent'),
      event(3000, 'learner-added', VOLUME, { serverId: 'server-3' }, 'a copy is missing; a new one is built'),
      event(4000, 'copy-joined', VOLUME, { serverId: 'server-3' }, 'caught up'),
    ];
    expect(picture(events, ['server-1', 'server-2', 'server-3'], VOLUME, [{ atMs: 2100, text: 'longest gap' }])).toEqual([
      '  seconds  server-1    server-2    server-3    what happened',
      '    0.000  █ primary   ▓ mirror    ·           volume created',
      '    1.000  ✗ primary   ▓ mirror    ·           server-1: process 7 ended by SIGKILL',
      '    1.003  ✗ mirror    █ primary   ·           server-2 is primary, epoch 2',
      '    1.100  ✗ mirror    █ primary   ·           longest gap',
      '    1.500  ✗           █ primary   ·           server-1 leaves the set (silent)',
      '    2.000  ✗           █ primary   ░ filling   server-3: a copy is missing; a new one is built',
      '    3.000  ✗           █ primary   ▓ mirror    server-3 is in sync (caught up)',
    ]);
  });

  it('has nothing to show of a volume that it does not know', () => {
    expect(picture([], ['server-1'], VOLUME)).toEqual([]);
  });
});
