import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { parseSizeBytes } from '@ashlar/words';
import { DroppingBackend } from './dropping-backend.ts';
import { MemoryBackend } from './memory-backend.ts';
import { NbdServer } from './server.ts';

/**
 * An NBD server over memory, to try clients against and to measure the server itself:
 *   node memory-main.ts --size 1GiB --socket /tmp/nbd.sock [--port 0] [--name NAME] [--read-only] [--checksums]
 *                       [--tls-key K --tls-cert C [--tls-ca A] [--tls-required]] [--drop-overwrites 50]
 * --drop-overwrites N: answers one overwrite in N without carrying it out, to show that a verifier sees it.
 * Prints its URIs, one a line, when it is ready; ends on SIGINT and SIGTERM; cuts all connections on SIGHUP.
 */
const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '1GiB' }, socket: { type: 'string' }, port: { type: 'string' }, name: { type: 'string', default: '' },
    'read-only': { type: 'boolean', default: false }, checksums: { type: 'boolean', default: false },
    'tls-key': { type: 'string' }, 'tls-cert': { type: 'string' }, 'tls-ca': { type: 'string' }, 'tls-required': { type: 'boolean', default: false },
    'drop-overwrites': { type: 'string' },
  },
});

const server = new NbdServer({
  tls: values['tls-key'] === undefined || values['tls-cert'] === undefined ? undefined : {
    key: readFileSync(values['tls-key'], 'utf8'), cert: readFileSync(values['tls-cert'], 'utf8'),
    ca: values['tls-ca'] === undefined ? undefined : readFileSync(values['tls-ca'], 'utf8'), required: values['tls-required'],
  },
  onFault: (message) => process.stderr.write(`${message}\n`),
});
const memory = new MemoryBackend({ sizeBytes: parseSizeBytes(values.size), readOnly: values['read-only'], checksums: values.checksums });
const drop = values['drop-overwrites'];
server.addExport(values.name, drop === undefined ? memory : new DroppingBackend(memory, Number(drop), 1));

if (values.socket !== undefined) {
  await server.listen({ path: values.socket });
  process.stdout.write(`nbd+unix:///${values.name}?socket=${values.socket}\n`);
}
if (values.port !== undefined) {
  const bound = await server.listen({ host: '127.0.0.1', port: Number(values.port) });
  if ('port' in bound) process.stdout.write(`nbd://127.0.0.1:${bound.port}/${values.name}\n`);
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void server.close());
process.on('SIGHUP', () => server.cutConnections());
