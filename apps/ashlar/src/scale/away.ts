import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { NbdClient } from '@ashlar/nbd-client';
import type { Figures } from './figures.ts';
import { attach, create, end, GIB, MIB, secondsSince, start } from './site.ts';

const AWAY_MS = 10_000;
const DEPTH = 32;
const VOLUME_BYTES = 2 * GIB;
const GOAL_S = 5;

/** A mirror's process is killed, kept away while 4 KiB are written as fast as they are answered, and started again as the writes stop. */
export async function away(directory: string, figures: Figures): Promise<void> {
  const site = await start(directory, '--servers', '2', '--rebuild-delay', '600s');
  const { volumeId } = await create(site, VOLUME_BYTES);
  const client = await NbdClient.connect(await attach(site, volumeId));
  const mirror = (await site.volume(volumeId)).copies.find((copy) => copy.role === 'mirror')?.serverId;
  if (!mirror) throw new Error('there is no mirror');
  const bytes = randomBytes(4096);
  // Something that a full copy would have to move.
  for (let at = 0; at < 64; at++) await client.write(at * 16 * MIB, Buffer.alloc(MIB, at + 1));
  await delay(2000);
  await site.ask({ kind: 'server-stop', serverId: mirror, kill: true });
  const endMs = performance.now() + AWAY_MS;
  let written = 0;
  await Promise.all(Array.from({ length: DEPTH }, async (_, worker) => {
    for (let block = worker; performance.now() < endMs; block = (block * 1_103_515_245 + 12_345) % (VOLUME_BYTES / 4096)) {
      await client.write(block * 4096, bytes);
      written++;
    }
  }));
  const sinceMs = performance.now();
  await site.ask({ kind: 'server-start', serverId: mirror });
  const startedS = secondsSince(sinceMs);
  await site.untilHealthy(volumeId, 60_000);
  const inSyncS = secondsSince(sinceMs);
  const events = (await site.events()).filter(({ subject }) => subject === volumeId || subject === mirror);
  process.stdout.write(`${events.slice(-12).map(({ atMs, name, detail }) => `  ${((atMs - Date.now()) / 1000 + inSyncS).toFixed(2)} ${name} ${JSON.stringify(detail)}`).join('\n')}\n`);
  // A comparison says at its end what it had to move; a catch-up from the journal moves what was written, and no more.
  const compared = events.filter(({ name }) => name === 'copy-filled').map(({ detail }) => Number(detail['filledBytes']));
  figures.add(`writes of 4 KiB answered in the ${AWAY_MS / 1000} s in which the mirror's process was down`, `${written} (${((written * 4096) / MIB).toFixed(0)} MiB)`);
  figures.add('in sync, counted from the end of those writes, which is when its process was started', `${inSyncS.toFixed(1)} s, of which ${startedS.toFixed(1)} s the start of the process`, `${GOAL_S} s`, inSyncS < GOAL_S);
  const moved = compared.reduce((sum, bytes_) => sum + bytes_, 0);
  const text = compared.length === 0 ? 'nothing but the journal' : `${(moved / MIB).toFixed(0)} MiB of blocks that differed, found by comparison`;
  figures.add('moved to it', `${text}; a full copy would be ${((written * 4096) / MIB + 64).toFixed(0)} MiB or more`, 'no more than was written', moved <= written * 4096);
  await client.close();
  await end(site);
}
