// needs: root, unshare, nsenter, ip, curl, /lib/systemd/systemd, systemd-analyze, dbus-daemon, dpkg-deb, man
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from './nbd-clients.ts';
import { removeSwitch, SystemdMachine } from './support/machine.ts';

const ROOT = join(import.meta.dirname, '../..');
const UNIT = join(ROOT, 'packaging/ashlard.service');
const MANUAL = readFileSync(join(ROOT, 'docs/operating.md'), 'utf8');
const NAMES = ['a', 'b', 'c'] as const;
type Name = (typeof NAMES)[number];
/** Kept between the blocks of a machine, as in the shell of whoever follows the manual. */
const KEEP = 'export -p >/run/environment';
const RESTORE = '[ ! -e /run/environment ] || . /run/environment';

/** Blocks of the manual that can be run, in their order, with where. */
function blocks(): readonly { readonly where: string; readonly section: string; readonly script: string }[] {
  let section = '';
  return [...MANUAL.matchAll(/^## (.+)$|^```sh (\w+)\n([\s\S]*?)^```$/gm)].flatMap(([, heading, where = '', script = '']) => {
    if (heading === undefined) return [{ where, section, script }];
    section = heading;
    return [];
  });
}

it('the unit is hardened', async () => {
  const [, exposure = 'none'] = /Overall exposure level for ashlard.service: ([\d.]+)/.exec(await run('systemd-analyze', 'security', '--offline=true', '--no-pager', UNIT)) ?? [];
  expect(Number(exposure)).toBeLessThanOrEqual(3);
});

describe('a cluster by the manual, on three machines under systemd', () => {
  const directory = mkdtempSync(join(tmpdir(), 'ashlar-operating-'));
  const network = `ashlar-${process.pid}`;
  const machines = new Map<Name, SystemdMachine>();
  let file = '';

  const at = (name: Name): SystemdMachine => machines.get(name) as SystemdMachine;
  const shell = (script: string, name: Name = 'a'): Promise<string> => at(name).shell(`${RESTORE}\n${script}\n${KEEP}`);
  const status = async (name: Name): Promise<Record<string, string>> =>
    Object.fromEntries((await at(name).run('systemctl', 'show', 'ashlard', '-p', 'ActiveState,MainPID,StatusText')).trim().split('\n').map((line) => line.split(/=(.*)/s).slice(0, 2)));
  /** Follows a section of the manual; what its blocks printed. */
  const follow = async (section: string): Promise<string> => {
    let printed = '';
    const found = blocks().filter((block) => block.section === section);
    expect(found.length).toBeGreaterThan(0);
    for (const { where, script } of found) {
      for (const name of where === 'every' ? NAMES : where === 'first' ? ['a' as const] : [where as Name]) printed += await shell(`cd /mnt\n${script}`, name);
    }
    return printed;
  };
  const healthy = async (): Promise<boolean> => (JSON.parse(await shell('ashlar volume list --json')) as { health: string }[]).every(({ health }) => health === 'healthy');

  beforeAll(async () => {
    file = (await run(process.execPath, join(ROOT, 'scripts/deb/main.ts'), directory)).trim();
    for (const [i, name] of NAMES.entries()) {
      const machine = await SystemdMachine.boot(directory, `${network}-${name}`);
      machines.set(name, machine);
      await machine.connect(network, `10.0.0.${i + 1}`);
      await copyFile(file, join(machine.shared, basename(file)));
    }
  }, 300_000);
  afterAll(async () => {
    for (const machine of machines.values()) await machine.end();
    await removeSwitch(network);
    rmSync(directory, { recursive: true, force: true });
  });

  it('installs, and starts nothing by itself', async () => {
    expect(await follow('Install')).toMatch(/^0\.1\.0\+[0-9a-f]{12}(\.changed)?$/m);
    for (const name of NAMES) expect(await status(name)).toMatchObject({ ActiveState: 'inactive' });
    expect(await at('a').shell('systemd-analyze verify ashlard.service 2>&1')).toBe('');
    expect(await at('a').shell('MANPAGER=cat man ashlar 2>/dev/null | col -b')).toContain('ashlar volume create');
    expect(await at('a').shell('. /usr/share/bash-completion/completions/ashlar; complete -p ashlar')).toContain('_ashlar');
    // All that it links to is its own.
    expect(await at('a').shell('find /usr/lib/ashlar -type l | xargs readlink -f | grep -v ^/usr/lib/ashlar || true')).toBe('');
  }, 400_000);

  it('is founded, and joined by the others', async () => {
    expect(await follow('The first machine')).toMatch(/^a +up /m);
    expect((await status('a'))['StatusText']).toMatch(/^the manager of a cluster, with its API at wss:\/\/10\.0\.0\.1:7401/);
    for (const name of ['b', 'c'] as const) {
      const secret = (await shell('ashlar cluster invite --roles storage,host')).trim();
      const [block] = blocks().filter(({ section }) => section === 'More machines');
      const script = (block?.script ?? '').replace('name: b', `name: ${name}`).replace('10.0.0.2', name === 'b' ? '10.0.0.2' : '10.0.0.3');
      await at(name).shell(`SECRET=${secret}\n${script}`);
    }
    await expect.poll(async () => (JSON.parse(await shell('ashlar server list --json')) as { state: string }[]).map(({ state }) => state), { timeout: 60_000, interval: 500 }).toEqual(['up', 'up', 'up']);
  });

  it('runs as its own user, and serves volumes', async () => {
    for (const name of NAMES) {
      expect((await at(name).run('ps', '-o', 'user=', '-p', (await status(name))['MainPID'] ?? '')).trim()).toBe('ashlar');
      expect((await at(name).shell('stat -c "%a %U" /var/lib/ashlar')).trim()).toBe('700 ashlar');
    }
    const printed = await follow('Volumes');
    expect(printed).toMatch(/vol-[0-9a-f]{17}  in-use, healthy/);
    const nbd = /nbd\+unix:\S+/.exec(printed)?.[0] ?? '';
    await shell(`export NBD='${nbd}'; ashlar load "$NBD" --size 8MiB --duration 2s`);
  });

  it('is watched and backed up', async () => {
    expect(await follow('Watching')).toContain('ashlar_volumes_by_health{health="healthy"} 1');
    await follow('Backup of the metadata store');
    expect((await shell('stat -c %a /var/backups/ashlar; tar -tzf /var/backups/ashlar/identity.tar.gz')).split('\n')).toEqual(expect.arrayContaining(['700', './token', './identity/authority-key.pem']));
    const { findings } = JSON.parse(await shell('ashlar doctor --json || true')) as { findings: readonly { check: string; severity: string }[] };
    // The machines' disks are memory, and what there is of resources is the test machine's.
    expect(findings.filter(({ check, severity }) => severity !== 'note' && !['in-memory', 'space', 'memory', 'clock', 'sync', 'open-files'].includes(check))).toEqual([]);
  });

  it('logs to the journal with its levels, and no secret', async () => {
    const lines = (await shell('journalctl -u ashlard -o json --no-pager --output-fields=PRIORITY,MESSAGE')).trim().split('\n').map((line) => JSON.parse(line) as { PRIORITY: string; MESSAGE: string });
    const own = lines.filter(({ MESSAGE }) => MESSAGE.startsWith('{'));
    expect(new Set(own.map(({ MESSAGE }) => (JSON.parse(MESSAGE) as { name: string }).name))).toEqual(new Set(['a-daemon', 'a', 'a-host']));
    expect(own.filter(({ PRIORITY, MESSAGE }) => PRIORITY !== { 30: '6', 40: '4', 50: '3' }[(JSON.parse(MESSAGE) as { level: number }).level])).toEqual([]);
    const token = (await shell('cat /var/lib/ashlar/token')).trim();
    expect(lines.filter(({ MESSAGE }) => MESSAGE.includes(token) || MESSAGE.includes('PRIVATE KEY'))).toEqual([]);
  });

  it('goes on over the restart of each machine, and over the end of a daemon', async () => {
    for (const name of NAMES) {
      await at(name).run('systemctl', 'restart', 'ashlard');
      await expect.poll(healthy, { timeout: 60_000, interval: 500 }).toBe(true);
      await shell('ashlar load "$NBD" --size 8MiB --duration 1s');
    }
    const { MainPID = '' } = await status('b');
    await at('b').run('kill', '-KILL', MainPID);
    await expect.poll(async () => { const { ActiveState, MainPID: now } = await status('b'); return ActiveState === 'active' && now !== MainPID; }, { timeout: 60_000, interval: 200 }).toBe(true);
    await expect.poll(healthy, { timeout: 60_000, interval: 500 }).toBe(true);
  });

  it('is restarted when the package is installed again, and leaves the data when it is purged', async () => {
    const before = (await status('b'))['MainPID'];
    await at('b').run('dpkg', '-i', `/mnt/${basename(file)}`);
    const after = await status('b');
    expect(after['ActiveState']).toBe('active');
    expect(after['MainPID']).not.toBe(before);
    await expect.poll(healthy, { timeout: 60_000, interval: 500 }).toBe(true);
    await at('b').run('dpkg', '--purge', 'ashlar');
    expect(await at('b').shell('systemctl is-active ashlard || true')).toBe('inactive\n');
    expect(await at('b').shell('ls /var/lib/ashlar /srv/ashlar/disk-1')).toContain('identity');
    expect(await at('b').shell('pgrep -u ashlar || true')).toBe('');
    await shell('ashlar load "$NBD" --size 8MiB --duration 1s');
  });
});
