import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { siteLayout } from './layout.ts';
import { saveSite, serverNames, siteFor, withoutServer, withServer } from './site-file.ts';

const root = mkdtempSync(join(tmpdir(), 'ashlar-site-file-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const layout = (): ReturnType<typeof siteLayout> => siteLayout(join(root, `site-${++count}`));

describe('what a site consists of', () => {
  it('is what was asked for at first, and the same afterwards, also where a first version wrote it', () => {
    const at = layout();
    expect(siteFor(at, { servers: 2, disks: 3 })).toEqual({ format: 1, servers: 2, disks: 3, apiPort: 0 });
    writeFileSync(at.siteFile, '{"format":1,"servers":4,"disks":2,"apiPort":7}\n');
    expect(siteFor(at, {})).toEqual({ format: 1, servers: 4, disks: 2, apiPort: 7 });
    expect(serverNames(siteFor(at, { servers: 5 }))).toEqual(['server-1', 'server-2', 'server-3', 'server-4', 'server-5']);
    expect(() => siteFor(at, { servers: 3 })).toThrow(/server drain/);
    expect(() => siteFor(at, { disks: 3 })).toThrow(/striped/);
  });

  it('never gives a number twice, and counts only those that are left', () => {
    const at = layout();
    const grown = withServer(siteFor(at, { servers: 3 }), { rack: 'd' });
    expect(grown.name).toBe('server-4');
    const left = withoutServer(withoutServer(grown.site, 'server-4'), 'server-2');
    expect(serverNames(left)).toEqual(['server-1', 'server-3']);
    saveSite(at, left);
    expect(serverNames(siteFor(at, {}))).toEqual(['server-1', 'server-3']);
    expect(serverNames(siteFor(at, { servers: 2 }))).toEqual(['server-1', 'server-3']);
    expect(serverNames(siteFor(at, { servers: 3 }))).toEqual(['server-1', 'server-3', 'server-5']);
    expect(withServer(siteFor(at, {}), {}).name).toBe('server-5');
  });

  it('keeps where servers stand until told otherwise', () => {
    const at = layout();
    saveSite(at, siteFor(at, { servers: 3, places: [{ rack: 'a', disk: 'ssd' }, { rack: 'b' }] }));
    expect(siteFor(at, {}).places).toEqual({ 'server-1': { rack: 'a', disk: 'ssd' }, 'server-2': { rack: 'b' } });
    expect(siteFor(at, { places: [{ rack: 'z' }] }).places).toEqual({ 'server-1': { rack: 'z' }, 'server-2': { rack: 'b' } });
  });
});
