import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import type { DiskFile } from '@ashlar/store';
import { Gauge } from './gauge.ts';
import { NodeDisk } from './node-disk.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-gauge-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

describe('the gauge of a directory', () => {
  it('is ok until something fails, suspect from then on, and failed after a sync that failed', () => {
    const gauge = new Gauge('/d');
    gauge.synced(3);
    gauge.failed({ code: 'ENOSPC', message: 'full' });
    gauge.syncFailed({ code: 'ENOSPC', message: 'full after all' });
    expect(gauge.health()).toMatchObject({ health: 'ok', ioErrors: 0, mismatches: 0 });
    gauge.mismatched(2);
    expect(gauge.health()).toMatchObject({ health: 'suspect', mismatches: 2 });
    gauge.failed({ code: 'EIO', message: 'read' });
    expect(gauge.health()).toMatchObject({ health: 'suspect', ioErrors: 1 });
    gauge.syncFailed({ code: 'EIO', message: 'sync' });
    expect(gauge.health()).toMatchObject({ health: 'failed', ioErrors: 2 });
  });

  it('is suspect when syncs are slow on average, not when one is', () => {
    const gauge = new Gauge('/d');
    gauge.synced(2000);
    expect(gauge.health().health).toBe('ok');
    for (let i = 0; i < 30; i++) gauge.synced(2000);
    expect(gauge.health().health).toBe('suspect');
  });

  it('is told by the files that lie there', () => {
    const gauge = new Gauge(directory);
    const file = new NodeDisk([directory], [gauge]).create('data-0') as DiskFile;
    expect(file.write([new Uint8Array(4096)], 0, true)).toBe(null);
    expect(file.syncNow()).toBe(null);
    expect(gauge.health()).toMatchObject({ path: directory, health: 'ok', ioErrors: 0 });
    expect(gauge.health().syncMs).toBeGreaterThan(0);
    // What should be a directory is a file.
    expect(new NodeDisk([join(directory, 'data-0')], [gauge]).create('journal-0000')).toMatchObject({ code: 'EIO' });
    expect(gauge.health()).toMatchObject({ health: 'suspect', ioErrors: 1 });
    file.close();
  });
});
