import { spawn } from 'node:child_process';
import type { VolumeView } from '@ashlar/client';
import type { DrivenSite } from './site.ts';

/** Compares two NBD devices byte by byte, through nbdcopy and cmp: tools that are not ours. Null if they are equal. */
async function compareDevices(first: string, second: string): Promise<string | null> {
  const child = spawn('bash', ['-c', 'set -o pipefail; cmp <(nbdcopy "$1" -) <(nbdcopy "$2" -)', 'compare', first, second], { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { output += text; });
  child.stderr.setEncoding('utf8').on('data', (text: string) => { output += text; });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  return code === 0 ? null : output.trim() || `cmp ended with ${code ?? 'a signal'}`;
}

/** Compares every in-sync copy of a volume with the first: each shown alone, without repair from the others. Null if all are equal. */
export async function compareCopies(site: DrivenSite, volume: VolumeView): Promise<string | null> {
  const servers = volume.copies.filter((copy) => copy.state === 'in-sync').map((copy) => copy.serverId);
  const shown: string[] = [];
  for (const serverId of servers) shown.push(await site.attach(volume.volumeId, '--copy', serverId, '--read-only'));
  const [first, ...others] = shown;
  if (first === undefined) return 'no copy is in sync';
  let found: string | null = null;
  for (const other of others) found ??= await compareDevices(first, other);
  for (const serverId of servers) await site.run('volume', 'detach', volume.volumeId, '--copy', serverId);
  if (found !== null) return found;
  return others.length === 0 ? 'only one copy is in sync' : null;
}
