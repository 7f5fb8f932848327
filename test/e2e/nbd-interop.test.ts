// needs: fio, nbdinfo, nbdcopy, qemu-io, qemu-img, python3:nbd, openssl
import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { listExports, NbdClient } from '@ashlar/nbd-client';
import { DEVICE_BYTES, fio, fioOnOneAndFour, makeImage, MIB, nbdcopyBothWays, plainClients, qemuImg, qemuIo, run } from './nbd-clients.ts';

/** Other people's NBD clients against our server, with a memory behind it. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;
const SIZE = DEVICE_BYTES;

const folder = mkdtempSync(join(tmpdir(), 'ashlar-interop-'));
const image = join(folder, 'image');
const servers: ChildProcess[] = [];

/** A server of its own for each test: its URI over the unix socket, and over TCP where there is a port. */
async function serve(...args: readonly string[]): Promise<{ readonly unix: string; readonly tcp: string; readonly socket: string; readonly server: ChildProcess }> {
  const socket = join(folder, `s${servers.length}`);
  const server = spawn(process.execPath, [MAIN, '--size', String(SIZE), '--socket', socket, '--port', '0', ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  servers.push(server);
  const lines: string[] = [];
  for await (const line of createInterface({ input: server.stdout as NonNullable<typeof server.stdout> })) {
    lines.push(line);
    if (lines.length === 2) break;
  }
  return { unix: lines[0] ?? '', tcp: lines[1] ?? '', socket, server };
}

beforeAll(() => makeImage(image));

afterEach(async () => {
  for (const server of servers) {
    if (server.exitCode !== null || server.signalCode !== null) continue;
    server.kill('SIGTERM');
    await once(server, 'exit');
  }
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the NBD server', () => {
  it('tells nbdinfo what it can do', async () => {
    const { unix } = await serve('--name', 'vol');
    const info = JSON.parse(await run('nbdinfo', '--json', unix)) as { protocol: string; exports: Record<string, unknown>[] };
    expect(info.protocol).toBe('newstyle-fixed');
    expect(info.exports[0]).toMatchObject({
      'export-name': 'vol', 'export-size': SIZE, contexts: ['base:allocation'], 'block_size_minimum': 512, 'block_size_preferred': 4096, 'block_size_maximum': 32 * MIB,
      'is_read_only': false, 'can_cache': true, 'can_df': true, 'can_fast_zero': true, 'can_flush': true, 'can_fua': true, 'can_multi_conn': true, 'can_trim': true, 'can_zero': true,
    });
    const list = JSON.parse(await run('nbdinfo', '--json', '--list', unix)) as { exports: Record<string, unknown>[] };
    expect(list.exports.map((entry) => entry['export-name'])).toEqual(['vol']);
  });

  it('keeps what nbdcopy writes and gives it back', async () => {
    const { unix, tcp } = await serve();
    await nbdcopyBothWays(unix, tcp, image, join(folder, 'back'));
  });

  it('is a disk for qemu-img: convert, compare, map', async () => {
    await qemuImg((await serve()).unix, image);
  });

  it('does what qemu-io asks: discard, zero, FUA, large and split requests', async () => {
    await qemuIo((await serve()).unix, join(folder, 'qemu-io-twin'));
  });

  it('passes fio’s own verification, on one connection and on four', async () => {
    await fioOnOneAndFour((await serve('--checksums')).unix, join(folder, 'fio-twin'));
  });

  it('is caught by fio when it drops one answered overwrite in 50', async () => {
    const { unix } = await serve('--drop-overwrites', '50');
    await expect(fio(unix, '--io_size=48m', '--norandommap', '--do_verify=1', '--verify_backlog=64', '--loops=4')).rejects.toThrow(/verify/);
  });

  it('serves clients without structured replies, and old ones', async () => {
    await plainClients((await serve()).unix);
  });

  it('shows a read-only export as one', async () => {
    const { unix } = await serve('--read-only');
    await expect(run('qemu-io', '-f', 'raw', '-c', 'write 0 4k', unix)).rejects.toThrow();
    expect(await run('qemu-io', '-r', '-f', 'raw', '-c', 'read -P 0 0 4k', unix)).toMatch(/read 4096/);
  });

  it('speaks TLS where it has a certificate', async () => {
    const certificates = await makeCertificates();
    const tls = ['--tls-key', join(certificates, 'server-key.pem'), '--tls-cert', join(certificates, 'server-cert.pem')];
    const required = await serve(...tls, '--tls-ca', join(certificates, 'ca-cert.pem'), '--tls-required');
    await expect(run('nbdinfo', '--size', required.unix)).rejects.toThrow();
    const secured = required.tcp.replace('nbd:', 'nbds:').replace('127.0.0.1', 'localhost');
    expect((await run('nbdinfo', '--size', `${secured}?tls-certificates=${certificates}`)).trim()).toBe(String(SIZE));
    const uri = `${secured}?tls-certificates=${certificates}`;
    await nbdcopyBothWays(uri, uri, image, join(folder, 'tls-back'));
    // A client without a certificate of the authority gets no further than TLS.
    const ca = readFileSync(join(certificates, 'ca-cert.pem'));
    await expect(NbdClient.connect(secured, { tls: { ca } }).then((nbd) => nbd.read(0, 512))).rejects.toThrow();
    const nbd = await NbdClient.connect(secured, { tls: { ca, key: readFileSync(join(certificates, 'client-key.pem')), cert: readFileSync(join(certificates, 'client-cert.pem')) } });
    await nbd.write(0, randomBytes(5 * MIB));
    nbd.breakConnection();
    expect((await nbd.read(0, 4096)).length).toBe(4096);
    await nbd.close();
    const offered = await serve(...tls);
    expect((await run('nbdinfo', '--size', offered.unix)).trim()).toBe(String(SIZE));
  });

  it('outlives clients that send garbage', async () => {
    const { tcp, socket } = await serve();
    for (let i = 0; i < 50; i++) {
      const client = connect(socket).on('error', () => undefined);
      client.write(i % 2 === 0 ? randomBytes(1 + i * 100) : Buffer.concat([Buffer.from([0, 0, 0, 3]), randomBytes(1 + i * 100)]));
      client.end();
      client.resume();
      await once(client, 'close');
    }
    expect((await listExports(tcp)).length).toBe(1);
    expect((await run('nbdinfo', '--size', tcp)).trim()).toBe(String(SIZE));
  });

  it('ends in order at SIGTERM, with a client connected', async () => {
    const { unix, server } = await serve();
    const nbd = await NbdClient.connect(unix, { reconnectTimeoutMs: 0 });
    await nbd.write(0, randomBytes(4096));
    server.kill('SIGTERM');
    const [code] = (await once(server, 'exit')) as [number | null];
    expect(code).toBe(0);
  });
});

/** An authority, and a certificate each for server and client, as libnbd expects them in a folder. */
async function makeCertificates(): Promise<string> {
  const out = join(folder, 'pki');
  mkdirSync(out);
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', 'req', '-x509', ...key, '-days', '2', '-subj', '/CN=test authority', '-keyout', join(out, 'ca-key.pem'), '-out', join(out, 'ca-cert.pem'));
  for (const name of ['server', 'client']) {
    const request = join(out, `${name}.csr`);
    await run('openssl', 'req', ...key, '-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1', '-keyout', join(out, `${name}-key.pem`), '-out', request);
    await run('openssl', 'x509', '-req', '-in', request, '-CA', join(out, 'ca-cert.pem'), '-CAkey', join(out, 'ca-key.pem'), '-CAcreateserial', '-days', '2', '-copy_extensions', 'copy', '-out', join(out, `${name}-cert.pem`));
  }
  return out;
}
