import { mkdtempSync, rmSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { Authority, newRequest } from './authority.ts';
import { join, renew } from './cluster-client.ts';
import type { Credentials } from './cluster-trust.ts';
import { newJoinSecret } from './join-secret.ts';
import { ANSWER_MS } from './limits.ts';

const directory = mkdtempSync(joinPath(tmpdir(), 'ashlar-client-'));
let authority: Authority;
let own: Credentials;
let server: Server;
let url: string;
let answer: (response: ServerResponse, asked: { readonly request?: string }) => void;

async function credentialsOf(machine: string, hosts: readonly string[] = []): Promise<Credentials> {
  const { key, request } = await newRequest(machine);
  return { key, cert: await authority.issue(request, { machine, joining: 1, hosts, lifetimeMs: 3_600_000 }), ca: authority.pem };
}

beforeAll(async () => {
  authority = await Authority.open(directory);
  own = await credentialsOf('s1');
});
afterAll(() => rmSync(directory, { recursive: true }));
let paths: string[];

beforeEach(() => started(['10.0.0.1']));

async function started(hosts: readonly string[]): Promise<void> {
  const { key, cert } = await credentialsOf('m', hosts);
  paths = [];
  server = createServer({ key, cert }, (request, response) => {
    paths.push(request.url ?? '');
    let body = '';
    request.setEncoding('utf8').on('data', (part: string) => { body += part; });
    request.on('end', () => answer(response, body === '' ? {} : JSON.parse(body) as { request?: string }));
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  url = `https://127.0.0.1:${(server.address() as { port: number }).port}`;
}

async function stopped(): Promise<void> {
  server.closeAllConnections();
  await new Promise<void>((resolve) => { server.close(() => resolve()); });
}

afterEach(async () => {
  vi.useRealTimers();
  await stopped();
});

describe('a machine', () => {
  const issues = (machine: string, request: string): Promise<string> => authority.issue(request, { machine, joining: 1, hosts: [], lifetimeMs: 3_600_000 });

  test('takes a new certificate for its own new key, and no other', async () => {
    answer = (response, { request = '' }) => void issues('s1', request).then((certificate) => response.end(JSON.stringify({ certificate })));
    const renewed = await renew(url, own, 's1');
    expect([renewed.cert === own.cert, renewed.key === own.key]).toEqual([false, false]);
    const another = (await credentialsOf('s1')).cert;
    for (const certificate of [another, own.cert, authority.pem, '', undefined]) {
      answer = (response) => void response.end(JSON.stringify({ certificate }));
      await expect(renew(url, own, 's1')).rejects.toMatchObject({ code: 'protocol' });
    }
  });

  test('waits for no answer that never ends, though something of it comes again and again', async () => {
    const drips: NodeJS.Timeout[] = [];
    const began = Promise.withResolvers<void>();
    answer = (response) => {
      drips.push(setInterval(() => response.write(' '), 20));
      began.resolve();
    };
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const joining = join(url, newJoinSecret(authority.fingerprint), { machine: 's1', roles: ['storage'], parties: [] }, await newRequest('s1'));
    const failed = expect(joining).rejects.toMatchObject({ code: 'unavailable', message: expect.stringMatching(/no whole answer in 10 s/) as string });
    await began.promise;
    await vi.advanceTimersByTimeAsync(ANSWER_MS);
    await failed;
    for (const drip of drips) clearInterval(drip);
  });

  test('shows its secret to nobody who is not the cluster that it is of', async () => {
    answer = (response) => void response.end(authority.pem);
    await expect(join(url, newJoinSecret('x'.repeat(43)), { machine: 's1', roles: ['storage'], parties: [] }, await newRequest('s1'))).rejects.toMatchObject({ code: 'untrusted' });
    expect(paths).toEqual(['/authority']);
  });

  test('shows its secret to the manager alone, and asks no other member for a certificate', async () => {
    await stopped();
    await started([]);
    answer = (response) => void response.end(authority.pem);
    await expect(join(url, newJoinSecret(authority.fingerprint), { machine: 's1', roles: ['storage'], parties: [] }, await newRequest('s1'))).rejects.toThrow(/not that of the manager's machine/);
    await expect(renew(url, own, 's1')).rejects.toThrow(/not that of the manager's machine/);
    expect(paths).toEqual(['/authority']);
  });
});
