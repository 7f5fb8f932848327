import type { VolumeView } from '@ashlar/client';
import { NbdClient } from '@ashlar/nbd-client';
import type { DemoSite } from './demo-site.ts';

const READ_BYTES = 4 * 2 ** 20;

/** Reads each copy alone, from its own server's files, and compares them byte by byte. Throws where they differ. */
export async function compareCopies(site: DemoSite, { volumeId, copies, sizeBytes }: VolumeView): Promise<string> {
  const clients: NbdClient[] = [];
  try {
    for (const { serverId } of copies) {
      const { nbd } = await site.ask<{ nbd: string }>({ kind: 'volume-attach', volumeId, readOnly: true, tcp: false, copy: serverId });
      clients.push(await NbdClient.connect(nbd));
    }
    for (let at = 0; at < sizeBytes; at += READ_BYTES) {
      if (await isHole(clients, at, Math.min(READ_BYTES, sizeBytes - at))) continue;
      const [first, ...others] = await Promise.all(clients.map((client) => client.read(at, Math.min(READ_BYTES, sizeBytes - at))));
      for (const other of others) if (Buffer.compare(first as Uint8Array, other) !== 0) throw new Error(`the copies differ between ${at} and ${at + READ_BYTES}`);
    }
    return `The copies on ${copies.map((copy) => copy.serverId).join(' and ')}, each read alone, are equal byte by byte`;
  } finally {
    for (const client of clients) await client.close();
    for (const { serverId } of copies) await site.ask({ kind: 'volume-detach', volumeId, copy: serverId });
  }
}

/** Nothing was ever written there, in any of the copies. */
async function isHole(clients: readonly NbdClient[], offsetBytes: number, lengthBytes: number): Promise<boolean> {
  for (const client of clients) {
    const [first] = await client.blockStatus(offsetBytes, lengthBytes);
    if (!first?.hole || !first.zero || first.lengthBytes < lengthBytes) return false;
  }
  return true;
}
