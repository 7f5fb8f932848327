import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cli, Site, type Outcome } from './support/site.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-doctor-'));
const SITE = join(directory, 'site');

interface Finding { readonly severity: string; readonly check: string; readonly subject: string; readonly message: string; readonly effect: string; readonly action: string }
interface Report { readonly site: { readonly servers: number; readonly volumes: number } | null; readonly findings: readonly Finding[] }

/** Of the machine that the test happens to run on. */
const MACHINE = new Set(['space', 'memory', 'clock', 'open-files', 'kernel', 'sync', 'in-memory']);

let site: Site;
beforeAll(async () => { site = await Site.up(SITE, '--processes', '--servers', '2', '--rebuild-delay', '60s'); });
afterAll(async () => {
  await site.end();
  rmSync(directory, { recursive: true, force: true });
});

function found({ json }: Outcome): readonly string[] {
  return (json as Report).findings.filter(({ check }) => !MACHINE.has(check)).map(({ severity, check, subject }) => `${severity} ${check} ${subject}`);
}

const doctor = (): Promise<Outcome> => site.run('doctor', '--dir', SITE);

describe('ashlar doctor', () => {
  it('finds nothing at a site that is well', async () => {
    const outcome = await doctor();
    expect([outcome.errors, found(outcome), (outcome.json as Report).site]).toMatchObject(['', [], { servers: 2, volumes: 0 }]);
    const sick = (outcome.json as Report).findings.some(({ severity }) => severity !== 'note');
    expect(outcome.code).toBe(sick ? 1 : 0);
  });

  it('finds the volume that has one copy left, and the server that is away', async () => {
    const { volumeId } = await site.ask<{ volumeId: string }>('volume', 'create', '--size', '16MiB', '--mirrors', '1');
    await site.healthy(volumeId);
    expect(found(await doctor())).toEqual(['note one-machine servers']);
    const { serverId } = await site.primary(volumeId);
    await site.ask('server', 'stop', serverId);
    await site.until(volumeId, (volume) => volume.health === 'degraded', 30_000);
    const outcome = await doctor();
    expect(outcome.code).toBe(1);
    expect(found(outcome)).toEqual([`error servers ${serverId}`, `error one-copy ${volumeId}`, 'note one-machine servers']);
    const [server] = (outcome.json as Report).findings.filter(({ check }) => check === 'servers');
    expect(server).toMatchObject({ message: 'it is down', effect: expect.stringContaining('1 volumes lack a copy'), action: expect.stringContaining(`ashlar server lost ${serverId}`) });
    await site.ask('server', 'start', serverId);
    await site.healthy(volumeId);
    expect(found(await doctor())).toEqual(['note one-machine servers']);
  });

  it('finds a directory that others may enter', async () => {
    const disk = join(SITE, 'servers', 'server-1', 'disk-1');
    chmodSync(disk, 0o755);
    const outcome = await doctor();
    chmodSync(disk, 0o700);
    expect(outcome.code).toBe(1);
    expect(found(outcome)).toContain(`error permissions ${disk}`);
  });

  it('looks at the machine alone where no site is', async () => {
    const empty = join(directory, 'empty');
    mkdirSync(empty, { mode: 0o700 });
    const env = { ASHLAR_ENDPOINT: '', ASHLAR_TOKEN: '', XDG_DATA_HOME: empty };
    const unnamed = await cli(['doctor', '--dir', empty], env);
    expect([(unnamed.json as Report).site, found(unnamed)]).toEqual([null, ['note site system manager']]);
    expect(found(await cli(['doctor', '--machine', '--dir', empty], env))).toEqual([]);
    const gone = await cli(['doctor', '--dir', join(empty, 'gone'), '--endpoint', 'ws://127.0.0.1:1', '--token', 'x'], env);
    expect([gone.code, found(gone)]).toEqual([1, [`error directory ${join(empty, 'gone')}`, 'error site system manager']]);
  });
});
