// Attaches a volume of a running site in this process, and counts in its first block. node attach.ts SITE-DIRECTORY VOLUME
import { NodeManager } from '@ashlar/node-manager';

const [site, volumeId] = process.argv.slice(2);
if (site === undefined || volumeId === undefined) throw new Error('usage: node attach.ts SITE-DIRECTORY VOLUME');

const nodeManager = await NodeManager.start({ directory: './ashlar-program', site });
const volume = await nodeManager.attach(volumeId);
const block = await volume.read(0, 512, { signal: AbortSignal.timeout(10_000) });
const view = new DataView(block.buffer);
view.setUint32(0, view.getUint32(0) + 1);
await volume.write(0, block, { fua: true });
console.log(`run number ${view.getUint32(0)} of this program`);

await volume.close();
await nodeManager.close();
