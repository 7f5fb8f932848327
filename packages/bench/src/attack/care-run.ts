import { setTimeout as delay } from 'node:timers/promises';
import type { ServerView, VolumeView } from '@ashlar/client';
import { serverId, volumeId } from '@ashlar/words';
import type { ProgramTree } from '../site/program-tree.ts';
import { primaryServer, type Site } from '../site/site.ts';
import type { Foreground } from './foreground.ts';
import { isMemberInSync } from './rig.ts';

const POLL_MS = 50;
const STEP_MS_MAX = 600_000;

/** What is done to a site while programs use its volumes. */
export interface CarePlan {
  readonly site: Site;
  readonly program: ProgramTree;
  readonly volumes: readonly string[];
  readonly calmMs: number;
}

/** The calm minute, then each thing that an operator does to a running site. Ends with the servers that are left, two copies of each volume, and a newer version. */
export async function careForIt({ site, program, volumes, calmMs }: CarePlan, foreground: Foreground): Promise<void> {
  await foreground.part('nothing is done', () => delay(calmMs));
  let added = '';
  await foreground.part('a server is added', async () => { added = (await site.run<{ readonly serverId: string }>('server', 'add')).serverId; });
  await foreground.part(`a copy of each volume is moved there, the primary of every second one`, () => moveAll(site, volumes, added));
  const leaving = (await site.servers()).find((server) => server.serverId !== added)?.serverId as string;
  await foreground.part('a server is drained and removed', async () => {
    await site.run('server', 'drain', leaving);
    await until(`${leaving} is empty`, async () => (await server(site, leaving))?.copies === 0);
    await settled(site, volumes, 2);
    await site.run('server', 'remove', leaving);
  });
  await foreground.part('mirrors of each volume: 1, 2, 1', async () => {
    for (const mirrors of [2, 1]) {
      for (const id of volumes) await site.call({ kind: 'volume-modify', volumeId: volumeId(id), mirrors });
      await settled(site, volumes, mirrors + 1);
    }
  });
  const newer = program.replace();
  await foreground.part('every server is restarted with a newer version, one by one', async () => {
    for (const { serverId: id } of await site.servers()) {
      await site.call({ kind: 'server-restart', serverId: serverId(id), anyway: false });
      await until(`${id} is up`, async () => (await server(site, id))?.state === 'up');
      await settled(site, volumes, 2);
      const build = (await site.processes()).find(({ name }) => name === id)?.build;
      if (build?.version !== newer) throw new Error(`${id} is of version ${build?.version ?? 'unknown'}, not ${newer}`);
    }
  });
}

async function moveAll(site: Site, volumes: readonly string[], to: string): Promise<void> {
  for (const [i, id] of volumes.entries()) {
    const view = await site.describe(id);
    const primary = primaryServer(view);
    const from = i % 2 === 0 ? primary : view.copies.find((copy) => copy.serverId !== primary)?.serverId;
    if (from !== undefined && !view.copies.some((copy) => copy.serverId === to)) await site.call({ kind: 'volume-move', volumeId: volumeId(id), from: serverId(from), to: serverId(to) });
  }
  await settled(site, volumes, 2, (view) => view.move === null && view.copies.some((copy) => copy.serverId === to));
}

async function server(site: Site, id: string): Promise<ServerView | undefined> {
  return (await site.servers()).find((known) => known.serverId === id);
}

/** So many copies of each volume are in sync, and there are no others. */
async function settled(site: Site, volumes: readonly string[], copies: number, also: (view: VolumeView) => boolean = () => true): Promise<void> {
  for (const id of volumes) {
    await until(`${id} has ${copies} copies in sync`, async () => {
      const view = await site.describe(id);
      return view.health === 'healthy' && view.copies.length === copies && view.copies.every(isMemberInSync) && also(view);
    });
  }
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  for (const endMs = performance.now() + STEP_MS_MAX; !(await condition());) {
    if (performance.now() > endMs) throw new Error(`not after ${STEP_MS_MAX / 1000} s: ${what}`);
    await delay(POLL_MS);
  }
}
