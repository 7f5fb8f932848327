// needs: fio, nbdinfo, nbdcopy, qemu-io, qemu-img, python3:nbd, openssl
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { listExports, NbdClient } from '@ashlar/nbd-client';

/** Other people's NBD clients against our server, with a memory behind it. */
const MAIN = new URL('../../packages/host/src/nbd-server/memory-main.ts', import.meta.url).pathname;
const MIB = 2 ** 20;
const SIZE = 64 * MIB;

const folder = mkdtempSync(join(tmpdir(), 'ashlar-interop-'));
const image = join(folder, 'image');
const execute = promisify(execFile);
const servers: ChildProcess[] = [];

async function run(command: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execute(command, args, { timeout: 60_000, maxBuffer: 64 * MIB });
  return stdout;
}

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

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function fio(uri: string, ...args: readonly string[]): Promise<string> {
  return run('fio', '--name=interop', '--ioengine=nbd', `--uri=${uri}`, '--bs=4k', '--iodepth=32', '--size=8m', '--rw=randwrite', '--verify=crc32c', '--verify_fatal=1', '--verify_state_save=0', '--randrepeat=0', ...args);
}

beforeAll(() => {
  const bytes = randomBytes(SIZE);
  // Holes for what looks for them.
  bytes.fill(0, 8 * MIB, 24 * MIB);
  writeFileSync(image, bytes);
});

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
    const back = join(folder, 'back');
    await run('nbdcopy', image, unix);
    await run('nbdcopy', tcp, back);
    expect(await sha256(back)).toBe(await sha256(image));
  });

  it('is a disk for qemu-img: convert, compare, map', async () => {
    const { unix } = await serve();
    await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', image, unix);
    await run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', image, unix);
    const map = JSON.parse(await run('qemu-img', 'map', '--output=json', '-f', 'raw', unix)) as { start: number; length: number; zero: boolean }[];
    expect(map.filter(({ zero }) => zero).map(({ start, length }) => [start, length])).toEqual([[8 * MIB, 16 * MIB]]);
  });

  it('does what qemu-io asks: discard, zero, FUA, large and split requests', async () => {
    const { unix } = await serve();
    const commands = [
      'write -P 7 4k 128k', 'read -P 7 4k 128k', 'write -z 8k 4k', 'read -P 0 8k 4k', 'read -P 7 12k 4k', 'write -f -P 3 1M 31M', 'read -P 3 1M 31M',
      'discard 2M 1M', 'read -P 0 2M 1M', 'write -z -u 4M 1M', 'read -P 0 4M 1M', 'aio_write -P 9 40M 2M', 'aio_flush', 'read -P 9 40M 2M', 'flush',
    ];
    const output = await run('qemu-io', '-f', 'raw', ...commands.flatMap((command) => ['-c', command]), unix);
    expect(output).not.toMatch(/fail|error/i);
  });

  it('passes fio’s own verification, on one connection and on four', async () => {
    const { unix } = await serve('--checksums');
    await fio(unix);
    await fio(unix, '--numjobs=4', '--offset_increment=8m', '--bsrange=4k-128k');
  });

  it('is caught by fio when it drops one answered overwrite in 50', async () => {
    const { unix } = await serve('--drop-overwrites', '50');
    await expect(fio(unix, '--io_size=48m', '--norandommap', '--do_verify=1', '--verify_backlog=64', '--loops=4')).rejects.toThrow(/verify/);
  });

  it('serves clients without structured replies, and old ones', async () => {
    const { socket } = await serve();
    const script = [
      'import nbd, sys', 'h = nbd.NBD()', 'h.set_request_structured_replies(False)', 'h.set_handshake_flags(int(sys.argv[2]))', 'h.set_opt_mode(False)', 'h.connect_unix(sys.argv[1])',
      'h.pwrite(b"a" * 8192, 4096)', 'assert h.pread(8192, 4096) == b"a" * 8192', 'b = nbd.Buffer(4096)', 'c = h.aio_pread(b, 4096)', 'd = h.aio_flush()',
      'while h.aio_in_flight(): h.poll(-1)', 'assert b.to_bytearray() == b"a" * 4096', 'h.shutdown()',
    ].join('\n');
    for (const flags of ['1', '3']) await run('/usr/bin/python3', '-c', script, socket, flags);
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
    const back = join(folder, 'tls-back');
    await run('nbdcopy', image, `${secured}?tls-certificates=${certificates}`);
    await run('nbdcopy', `${secured}?tls-certificates=${certificates}`, back);
    expect(await sha256(back)).toBe(await sha256(image));
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
