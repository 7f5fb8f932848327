// Joins a cluster of machines as a host, attaches a volume in this process, and counts in its first block.
// ASHLAR_TOKEN=… node attach-cluster.ts https://MANAGER:7401 VOLUME [SECRET of `ashlar cluster invite --roles host`]
import { joinCluster } from '@ashlar/site';

const [url, volumeId, secret] = process.argv.slice(2);
if (url === undefined || volumeId === undefined) throw new Error('usage: node attach-cluster.ts URL VOLUME [SECRET]');

const nodeManager = await joinCluster({ directory: './ashlar-cluster-program', name: 'counting-program', url, token: process.env['ASHLAR_TOKEN'] ?? '', ...(secret === undefined ? {} : { secret }) });
const volume = await nodeManager.attach(volumeId);
const block = await volume.read(0, 512, { signal: AbortSignal.timeout(10_000) });
const view = new DataView(block.buffer);
view.setUint32(0, view.getUint32(0) + 1);
await volume.write(0, block, { fua: true });
console.log(`run number ${view.getUint32(0)} of this program`);

await volume.close();
await nodeManager.close();
