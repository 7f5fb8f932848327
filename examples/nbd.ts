// Reads and writes a block device that somebody else shows. node nbd.ts 'nbd+unix:///…?socket=…'
import { NbdClient } from '@ashlar/nbd-client';

const [uri] = process.argv.slice(2);
if (uri === undefined) throw new Error('usage: node nbd.ts URI');

const nbd = await NbdClient.connect(uri);
await nbd.write(4096, Buffer.alloc(4096, 'over NBD. '), { fua: true });
const read = Buffer.from(await nbd.read(4096, 4096));
console.log(`${nbd.sizeBytes} bytes; block 1 begins with "${read.toString('utf8', 0, 9)}"`);
await nbd.close();
