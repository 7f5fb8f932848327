import type { ActorContext, Address } from '@ashlar/actor';
import type { HostMessage, ManagerMessage, ServerMessage } from '@ashlar/protocol';
import { hostId, serverId, type VolumeId } from '@ashlar/words';
import { beforeEach, expect, test } from 'vitest';
import { MANAGER_DEFAULTS, MemoryStore } from './core/index.ts';
import { ManagerActor } from './manager-actor.ts';

const ROLES: Readonly<Record<string, string>> = { 's1': 'storage', 'h1-host': 'host', 'h1-daemon': 'daemon' };
let lines: string[];
let actor: ManagerActor;

beforeEach(async () => {
  lines = [];
  const context = {
    nowMs: () => 0, setTimer: () => undefined, watch: () => undefined, send: () => 'ok',
    log: { debug: () => undefined, info: () => undefined, warn: (_fields: object, text: string) => { lines.push(text); }, error: () => undefined },
  } as unknown as ActorContext;
  actor = new ManagerActor(context, new MemoryStore(), MANAGER_DEFAULTS, 1, (party, role) => ROLES[party] === role);
  await expect.poll(() => actor.inspect()).toMatchObject({ loaded: true });
});

const says = (from: Address, message: ServerMessage | HostMessage | ManagerMessage): void => actor.receive(message, from);
const serverHello = (id: string): ServerMessage => ({
  kind: 'server-hello', serverId: serverId(id), pid: 1, instance: id, address: '10.0.0.9:7402', build: null, rack: '', siteId: '', disk: 'ssd', keeps: false, mark: null,
});
const hostHello = (id: string): HostMessage => ({ kind: 'host-hello', hostId: hostId(id), pid: 1, attachments: [], build: null, configurations: [] });

test('a machine is a server or a host only where it was invited for that', () => {
  says('h1-host/server', serverHello('h1-host'));
  says('h1-daemon/server', serverHello('h1-daemon'));
  says('h1-host/copy/vol-0123456789abcdef0', { kind: 'discarded', volumeId: 'vol-0123456789abcdef0' as VolumeId } as ManagerMessage);
  says('s1/host', hostHello('s1'));
  says('s1/host', hostHello('s1'));
  expect(actor.inspect()).toMatchObject({ servers: 0, hosts: 0 });
  expect(lines).toEqual(Array.from({ length: 3 }, () => 'a machine speaks in a role that it was not invited for; ignored'));
  says('s1/server', serverHello('s1'));
  says('h1-host/host', hostHello('h1-host'));
  expect(actor.inspect()).toMatchObject({ servers: 1, hosts: 1 });
});
