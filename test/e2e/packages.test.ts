// needs: npm
import { execFile } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TestCluster } from './support/cluster.ts';
import { Site } from './support/site.ts';

const ROOT = join(import.meta.dirname, '../..');
const EXAMPLES = join(ROOT, 'examples');
const directory = mkdtempSync(join(tmpdir(), 'ashlar-packages-'));
const app = join(directory, 'app');
const tarballs = join(directory, 'tarballs');
const execute = promisify(execFile);

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly engines: Readonly<Record<string, string>>;
  readonly exports: Readonly<Record<string, Readonly<Record<string, string>>>>;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly devDependencies: Readonly<Record<string, string>>;
}

const manifestOf = (folder: string): Manifest => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;

/** What it prints on standard output. An exit code other than 0 fails the test, with what it said. */
async function run(file: string, args: readonly string[], folder: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const { stdout } = await execute(file, [...args], { cwd: folder, env: { ...process.env, ...env }, maxBuffer: 16 * 2 ** 20 });
  return stdout;
}

/** A program of examples/, as it is. */
const example = (name: string, args: readonly string[], folder = app, env: Readonly<Record<string, string>> = {}): Promise<string> => run(process.execPath, [join(folder, name), ...args], directory, env);

beforeAll(async () => {
  await run(process.execPath, ['scripts/packing/packages-main.ts', '--out', tarballs], ROOT);
  mkdirSync(app);
  writeFileSync(join(app, 'package.json'), '{"name": "app", "private": true, "type": "module"}');
  const types = `@types/node@${manifestOf(ROOT).devDependencies['@types/node']}`;
  await run('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts', types, ...readdirSync(tarballs).map((name) => join(tarballs, name))], app);
  for (const name of readdirSync(EXAMPLES).filter((file) => file.endsWith('.ts'))) copyFileSync(join(EXAMPLES, name), join(app, name));
}, 300_000);
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the packages, installed by npm in an empty folder', () => {
  it('say what they are, and depend on each other’s versions', () => {
    const scope = join(app, 'node_modules/@ashlar');
    const manifests = readdirSync(scope).map((name) => manifestOf(join(scope, name)));
    expect(manifests.map(({ name }) => name)).toEqual(expect.arrayContaining(['@ashlar/client', '@ashlar/node-manager', '@ashlar/site', '@ashlar/nbd-client']));
    for (const manifest of manifests) {
      expect(manifest).toMatchObject({ version: manifestOf(ROOT).version, license: 'Apache-2.0', engines: { node: expect.stringMatching(/^>=\d/) as unknown }, exports: { '.': { types: './dist/index.d.ts' } } });
      for (const [name, version] of Object.entries(manifest.dependencies)) expect([name, version]).toEqual([name, name.startsWith('@ashlar/') ? manifest.version : expect.stringMatching(/^\d/)]);
      const files = readdirSync(join(scope, manifest.name.slice('@ashlar/'.length)), { recursive: true, encoding: 'utf8' });
      expect(files).toEqual(expect.arrayContaining(['README.md', 'LICENSE', 'CHANGELOG.md']));
      expect(files.filter((file) => /(?<!\.d)\.ts$|\.test\.|testing/.test(file))).toEqual([]);
    }
  });

  it('bring the text of their API', () => {
    const text = (name: string): string => readFileSync(join(app, 'node_modules/@ashlar', name, 'API.md'), 'utf8');
    expect(text('node-manager')).toMatch(/## Volume\n\n\*class\*\n\nA volume that is attached in this process\.[^]*writeZeroes\(offsetBytes: number/);
    expect(text('client')).toMatch(/## ApiCall[^]*## ApiCommand[^]*volume-create[^]*## VolumeView/);
    expect(text('site')).toMatch(/## Site\n[^]*static start\(options: SiteOptions\): Promise<Site>/);
    expect(text('nbd-client')).toMatch(/## NbdClient\n/);
    // What is only for us is in no declaration.
    expect(text('node-manager')).not.toMatch(/#private|quiesce|embed\(/);
  });

  it('have declarations that hold, down to those of their dependencies', async () => {
    writeFileSync(join(app, 'tsconfig.json'), JSON.stringify({ compilerOptions: { target: 'ES2024', module: 'NodeNext', strict: true, noEmit: true, skipLibCheck: false, types: ['node'] }, include: ['*.ts'] }));
    await run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], app);
    writeFileSync(join(app, 'wrong.ts'), "import { ApiClient } from '@ashlar/client';\nconst client = await ApiClient.connect('', '');\nawait client.call({ kind: 'volume-create', mirrors: 1 });\n");
    await expect(run(join(ROOT, 'node_modules/.bin/tsc'), ['-p', '.'], app)).rejects.toMatchObject({ stdout: expect.stringMatching(/wrong\.ts\(3,.*sizeBytes/s) as unknown });
    rmSync(join(app, 'wrong.ts'));
  });

  it('give a program a whole site: it creates a volume, writes, fails over, and reads back', async () => {
    expect(await example('embedded-site.ts', [join(directory, 'embedded')])).toMatch(/^vol-[0-9a-f]{17}: from server-\d to server-\d; read back the same\n$/);
    // The same directory again, with JavaScript from node_modules and with the checkout's TypeScript.
    expect(await example('embedded-site.ts', [join(directory, 'embedded')])).toContain('read back the same');
    expect(await example('embedded-site.ts', [join(directory, 'embedded')], EXAMPLES)).toContain('read back the same');
  });
});

describe('programs beside a running site of processes', () => {
  const SITE = join(directory, 'site');
  let site: Site;
  beforeAll(async () => { site = await Site.up(SITE, '--processes', '--servers', '3'); });
  afterAll(() => site.end());

  it('attach its volumes in their own process, and go on with them over runs and a killed primary', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1');
    expect(await example('attach.ts', [SITE, volumeId])).toBe('run number 1 of this program\n');
    process.kill((await site.primary(volumeId)).pid, 'SIGKILL');
    expect(await example('attach.ts', [SITE, volumeId])).toBe('run number 2 of this program\n');
    expect((await site.volume(volumeId)).attachments).toEqual([]);
  });

  it('are told when somebody else has the volume', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    await site.ask('volume', 'attach', volumeId, '--host', 'host-1');
    await expect(example('attach.ts', [SITE, volumeId])).rejects.toMatchObject({ stderr: expect.stringContaining('has a writer already, on host-1') as unknown });
    await expect(example('attach.ts', [SITE, 'vol-00000000000000000'])).rejects.toMatchObject({ stderr: expect.stringContaining('there is no volume vol-00000000000000000') as unknown });
    await site.ask('volume', 'detach', volumeId);
  });

  it('command it, and read block devices over NBD', async () => {
    const read = (name: string): string => readFileSync(join(SITE, name), 'utf8').trim();
    const said = await example('control.ts', [], app, { ASHLAR_ENDPOINT: read('endpoint'), ASHLAR_TOKEN: read('token') });
    expect(said).toMatch(/server-1 is up, server-2 is up, server-3 is up\nvol-[0-9a-f]{17} is healthy\nvolume-created asked for\n/);
    expect(said).toContain('invalid-argument: ');
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB');
    const { nbd } = await site.ask<{ nbd: string }>('volume', 'attach', volumeId, '--host', 'host-1');
    expect(await example('nbd.ts', [nbd])).toBe('67108864 bytes; block 1 begins with "over NBD."\n');
    await site.ask('volume', 'detach', volumeId);
  });
});

describe('a program beside a cluster of machines', () => {
  const cluster = new TestCluster(join(directory, 'cluster'));
  beforeAll(async () => {
    await cluster.found();
    await Promise.all(['s1', 's2'].map((machine) => cluster.add(machine, 'storage')));
    await cluster.until(() => cluster.servers(), (servers) => servers.filter(({ state }) => state === 'up').length === 2, 'two servers up');
  }, 240_000);
  afterAll(() => cluster.endAll());

  it('joins as a host with a certificate of its own, attaches a volume, and goes on with it in later runs', async () => {
    const { volumeId } = await cluster.ask<{ volumeId: string }>('volume', 'create', '--size', '64MiB', '--mirrors', '1');
    const { secret } = await cluster.ask<{ secret: string }>('cluster', 'invite', '--roles', 'host');
    const { ASHLAR_TOKEN } = cluster.env as { readonly ASHLAR_TOKEN: string };
    const run = (...more: readonly string[]): Promise<string> => example('attach-cluster.ts', [cluster.url, volumeId, ...more], app, { ASHLAR_TOKEN });
    await expect(run(`${secret.slice(0, -1)}${secret.endsWith('0') ? '1' : '0'}`)).rejects.toMatchObject({ stderr: expect.stringContaining('untrusted') as unknown });
    expect(await run(secret)).toBe('run number 1 of this program\n');
    const primary = (await cluster.volume(volumeId)).copies.find(({ role }) => role === 'primary')?.serverId as string;
    await cluster.end(primary, 'SIGKILL');
    expect(await run()).toBe('run number 2 of this program\n');
    expect((await cluster.machines()).map(({ machine }) => machine)).toContain('counting-program');
    await cluster.ask('machine', 'remove', 'counting-program');
    await expect(run()).rejects.toMatchObject({ code: 1 });
  });
});
