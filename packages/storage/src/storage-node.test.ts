/** What a storage server says of copies that it has, cannot open, cannot make, or does not have: a real one, on real files. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Actor, ActorLog, Address, Message, Signal } from '@ashlar/actor';
import { changed, type Configuration, type CopyReport, type ManagerCommand } from '@ashlar/protocol';
import { createRuntime, type Runtime } from '@ashlar/runtime';
import { serverId, volumeId } from '@ashlar/words';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { StorageNode } from './storage-node.ts';

const VOLUME = volumeId('vol-0123456789abcdef0');
const SERVER = serverId('server-1');
const PRIMARY = serverId('server-2');
const MANAGER: Address = 'manager/manager';
const FOUNDED: Configuration = {
  volumeId: VOLUME, lineage: 1, epoch: 1, members: [{ serverId: SERVER, incarnation: 1 }], learners: [], attachNumber: 0, sizeBytes: 2 ** 24, minCopies: 1, copiesWanted: 1, durability: 'normal',
};
const LEARNING = changed(FOUNDED, { members: [{ serverId: PRIMARY, incarnation: 1 }], learners: [SERVER] });

const quiet = (): void => {};
const log: ActorLog = { debug: quiet, info: quiet, warn: quiet, error: quiet };

let folder: string;
let disk: string;
let runtime: Runtime;
const heard: Message[] = [];
let look = quiet;

function start(): void {
  runtime = createRuntime({ name: 'here', log, token: 'secret', parties: ['manager'] });
  const manager: Actor = {
    receive(message: Message | Signal) {
      heard.push(message as Message);
      look();
    },
    inspect: () => null,
  };
  runtime.start({ kind: 'actor', id: MANAGER, address: MANAGER, restart: 'permanent', shutdownMs: 100, start: () => manager });
  StorageNode.start({ serverId: SERVER, directories: [disk], runtime, managerAddress: MANAGER, address: 'test' });
}

function say(command: ManagerCommand): void { runtime.send(`${SERVER}/server`, command, MANAGER); }
const configure = (configuration: Configuration): void => say({ kind: 'configure', configuration, predecessorEnded: true, founding: configuration === FOUNDED });
const discard = (epoch: number): void => say({ kind: 'discard', volumeId: VOLUME, epoch });

async function next<T>(is: (message: Message) => T | undefined): Promise<T> {
  for (;;) {
    for (let at = 0; at < heard.length; at++) {
      const found = is(heard[at] as Message);
      if (found === undefined) continue;
      heard.splice(at, 1);
      return found;
    }
    await new Promise<void>((resolve) => { look = resolve; });
  }
}

const report = (is: (copy: CopyReport) => boolean = () => true): Promise<CopyReport> => next((message) => {
  const { kind, copy } = message as { kind?: string; copy?: CopyReport };
  return kind === 'report' && copy !== undefined && is(copy) ? copy : undefined;
});
const discarded = (): Promise<number> => next((message) => {
  const { kind, epoch } = message as { kind?: string; epoch?: number };
  return kind === 'discarded' ? epoch : undefined;
});

const files = (): string => join(disk, 'copies', VOLUME);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ashlar-node-'));
  disk = join(folder, 'disk');
  start();
});

afterEach(async () => {
  await runtime.shutdown();
  heard.length = 0;
  rmSync(folder, { recursive: true });
});

test('a copy is not discarded in no epoch, which is asked of who has not said yet what it has', async () => {
  configure(FOUNDED);
  await report(({ complete }) => complete);
  discard(0);
  expect(await report()).toMatchObject({ complete: true, promisedEpoch: FOUNDED.epoch, fault: null });
  discard(FOUNDED.epoch);
  // Only the second is answered.
  expect(await discarded()).toBe(FOUNDED.epoch);
  expect(existsSync(files())).toBe(false);
});

test('nor is one that cannot be opened', async () => {
  configure(FOUNDED);
  await report(({ complete }) => complete);
  await runtime.shutdown();
  // Its ledger is open as long as this process lives.
  const former = disk;
  disk = join(folder, 'damaged');
  cpSync(former, disk, { recursive: true, filter: (path) => !path.includes('ledger') });
  for (const name of readdirSync(files())) writeFileSync(join(files(), name), new Uint8Array(statSync(join(files(), name)).size).fill(255));
  heard.length = 0;
  start();
  expect(await report()).toMatchObject({ lineage: 0, complete: false, fault: 'corrupt' });
  discard(0);
  expect(await report()).toMatchObject({ lineage: 0, complete: false, fault: 'corrupt' });
  discard(FOUNDED.epoch);
  expect(await discarded()).toBe(FOUNDED.epoch);
});

test('where there is none, that is the answer', async () => {
  discard(0);
  expect(await discarded()).toBe(0);
});

test('a copy whose files cannot be made is said to be faulted, each time, and made when they can be', async () => {
  // Nothing can be made below a file.
  const copies = join(disk, 'copies');
  rmSync(copies, { recursive: true });
  writeFileSync(copies, '');
  for (let i = 0; i < 2; i++) {
    configure(LEARNING);
    expect(await report()).toMatchObject({ volumeId: VOLUME, lineage: 0, complete: false, fault: 'append-failed' });
  }
  rmSync(copies);
  mkdirSync(copies);
  configure(LEARNING);
  expect(await report()).toMatchObject({ lineage: 1, fault: null });
  expect(existsSync(files())).toBe(true);
});
