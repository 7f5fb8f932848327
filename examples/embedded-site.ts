// A whole site in this process: a volume that is written, fails over, and is read back. node embedded-site.ts DIRECTORY
import { Site } from '@ashlar/site';

const [directory = './ashlar-site'] = process.argv.slice(2);
const site = await Site.start({ directory, servers: 3 });
const client = await site.client();
const { volumeId } = await client.call({ kind: 'volume-create', sizeBytes: 64 * 2 ** 20, mirrors: 1 });
const volume = await site.attach(volumeId);

const text = Buffer.alloc(4096, 'written before the failover. ');
await volume.write(0, text);
await volume.flush();
const before = await client.call({ kind: 'volume-describe', volumeId });
await client.call({ kind: 'volume-failover', volumeId });
const after = await client.call({ kind: 'volume-describe', volumeId });
const read = await volume.read(0, text.length);

console.log(`${volumeId}: from ${before.copies[0].serverId} to ${after.copies[0].serverId}; read back ${text.equals(read) ? 'the same' : 'SOMETHING ELSE'}`);
await volume.close();
await site.stop();
