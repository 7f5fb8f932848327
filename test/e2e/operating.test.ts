// needs: root, unshare, nsenter, ip, /lib/systemd/systemd, systemd-analyze, dbus-daemon, dpkg-deb, man
import { mkdtempSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from './nbd-clients.ts';
import { SystemdMachine } from './support/machine.ts';

const ROOT = join(import.meta.dirname, '../..');
const UNIT = join(ROOT, 'packaging/ashlard.service');
const directory = mkdtempSync(join(tmpdir(), 'ashlar-operating-'));

it('the unit is hardened', async () => {
  const [, exposure = 'none'] = /Overall exposure level for ashlard.service: ([\d.]+)/.exec(await run('systemd-analyze', 'security', '--offline=true', '--no-pager', UNIT)) ?? [];
  expect(Number(exposure)).toBeLessThanOrEqual(3);
});

describe('the Debian package, on a machine under systemd', () => {
  let machine: SystemdMachine;
  let file = '';
  /** A shell of root as docs/operating.md has it. */
  const shell = (script: string): Promise<string> => machine.shell(`export ASHLAR_ENDPOINT=$(cat /var/lib/ashlar/endpoint) ASHLAR_TOKEN=$(cat /var/lib/ashlar/token)\n${script}`);
  const status = async (): Promise<Record<string, string>> => Object.fromEntries((await machine.run('systemctl', 'show', 'ashlard', '-p', 'ActiveState,MainPID,StatusText,NRestarts')).trim().split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)));

  beforeAll(async () => {
    file = (await run(process.execPath, join(ROOT, 'scripts/deb/main.ts'), directory)).trim();
    machine = await SystemdMachine.boot(directory, `ashlar-test-${process.pid}`);
    await copyFile(file, join(machine.shared, basename(file)));
  }, 240_000);
  afterAll(async () => {
    await machine.end();
    rmSync(directory, { recursive: true, force: true });
  });

  it('installs, and starts nothing by itself', async () => {
    await machine.run('dpkg', '-i', `/mnt/${basename(file)}`);
    expect(await status()).toMatchObject({ ActiveState: 'inactive' });
    expect(await machine.run('systemd-analyze', 'verify', 'ashlard.service')).toBe('');
    expect(await machine.shell('systemd-analyze verify ashlard.service 2>&1')).toBe('');
    expect(await machine.run('ashlar', '--version')).toMatch(/^0\.1\.0\+[0-9a-f]{12}(\.changed)?\n$/);
    expect(await machine.shell('MANPAGER=cat man ashlar 2>/dev/null | col -b')).toContain('ashlar volume create');
    expect(await machine.shell('. /usr/share/bash-completion/completions/ashlar; complete -p ashlar')).toContain('_ashlar');
    // All that it links to is its own.
    expect(await machine.shell('find /usr/lib/ashlar -type l | xargs readlink -f | grep -v ^/usr/lib/ashlar || true')).toBe('');
  });

  it('is ready when systemctl returns, runs as its own user, and serves', async () => {
    await machine.run('systemctl', 'enable', '--now', 'ashlard');
    const { MainPID = '', StatusText } = await status();
    expect(StatusText).toMatch(/^a site with its API at ws:/);
    expect((await machine.run('ps', '-o', 'user=', '-p', MainPID)).trim()).toBe('ashlar');
    expect((await machine.shell('stat -c "%a %U" /var/lib/ashlar /var/lib/ashlar/token')).trim().split('\n')).toEqual(['700 ashlar', '600 ashlar']);
    const { violationCount, errorCount } = JSON.parse(await shell('ashlar load --size 16MiB --duration 2s --json')) as { violationCount: number; errorCount: number };
    expect([violationCount, errorCount]).toEqual([0, 0]);
  });

  it('logs to the journal with its levels, and no secret', async () => {
    const lines = (await machine.shell('journalctl -u ashlard -o json --no-pager --output-fields=PRIORITY,MESSAGE')).trim().split('\n').map((line) => JSON.parse(line) as { PRIORITY: string; MESSAGE: string });
    const own = lines.filter(({ MESSAGE }) => MESSAGE.startsWith('{'));
    expect(new Set(own.map(({ MESSAGE }) => (JSON.parse(MESSAGE) as { name: string }).name))).toEqual(new Set(['manager', 'server-1', 'server-2', 'server-3', 'host-1']));
    expect(own.every(({ PRIORITY, MESSAGE }) => PRIORITY === { 30: '6', 40: '4', 50: '3' }[(JSON.parse(MESSAGE) as { level: number }).level])).toBe(true);
    const token = (await machine.run('cat', '/var/lib/ashlar/token')).trim();
    expect(lines.filter(({ MESSAGE }) => MESSAGE.includes(token))).toEqual([]);
  });

  it('keeps volumes over a restart, and over the end of its main process', async () => {
    const { volumeId } = JSON.parse(await shell('ashlar volume create --size 16MiB --json')) as { volumeId: string };
    const nbd = (await shell(`ashlar volume attach ${volumeId}`)).trim();
    await shell(`ashlar load '${nbd}' --size 4MiB --duration 1s`);
    await machine.run('systemctl', 'restart', 'ashlard');
    await shell(`ashlar load '${nbd}' --size 4MiB --duration 1s`);
    const { MainPID = '' } = await status();
    await machine.run('kill', '-KILL', MainPID);
    await expect.poll(async () => { const { ActiveState, MainPID: now } = await status(); return ActiveState === 'active' && now !== MainPID; }, { timeout: 60_000, interval: 200 }).toBe(true);
    await shell(`ashlar load '${nbd}' --size 4MiB --duration 1s`);
    expect((JSON.parse(await shell(`ashlar volume describe ${volumeId} --json`)) as { health: string }).health).toBe('healthy');
  });

  it('is found to be well by its own doctor', async () => {
    const { findings } = JSON.parse(await shell('ashlar doctor --dir /var/lib/ashlar --json || true')) as { findings: readonly { check: string; severity: string }[] };
    // The machine's own disk is a memory, and what else there is of resources is the test machine's.
    const own = findings.filter(({ check }) => !['in-memory', 'space', 'memory', 'clock', 'sync', 'open-files'].includes(check));
    expect(own.filter(({ severity }) => severity !== 'note')).toEqual([]);
  });

  it('is restarted when it is installed again, and leaves the data when it is purged', async () => {
    const before = (await status())['MainPID'];
    await machine.run('dpkg', '-i', `/mnt/${basename(file)}`);
    const after = await status();
    expect(after['ActiveState']).toBe('active');
    expect(after['MainPID']).not.toBe(before);
    await machine.run('dpkg', '--purge', 'ashlar');
    expect(await machine.shell('systemctl is-active ashlard || true')).toBe('inactive\n');
    expect(await machine.shell('ls /var/lib/ashlar')).toContain('servers');
    expect(await machine.shell('pgrep -u ashlar || true')).toBe('');
  });
});
