import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { diskKindOf, slowest } from './disk-kind.ts';

const directory = mkdtempSync(join(tmpdir(), 'ashlar-kind-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
let count = 0;

/** A /sys in which the device of `directory` is this one. */
function sysWith(device: string | null, rotational: string): string {
  const sys = join(directory, `sys-${++count}`);
  mkdirSync(join(sys, 'dev/block'), { recursive: true });
  const { dev } = statSync(directory);
  const number = `${Math.floor(dev / 256) % 4096}:${dev % 256}`;
  if (device === null) return sys;
  const [disk, partition] = device.split('/') as [string, string?];
  const path = join(sys, 'devices', disk);
  mkdirSync(join(path, 'queue'), { recursive: true });
  writeFileSync(join(path, 'queue/rotational'), `${rotational}\n`);
  if (partition !== undefined) {
    mkdirSync(join(path, partition));
    writeFileSync(join(path, partition, 'partition'), '1\n');
  }
  symlinkSync(join(sys, 'devices', device), join(sys, 'dev/block', number));
  return sys;
}

describe('diskKindOf', () => {
  it.each([
    ['nvme0n1', '0', 'nvme'], ['nvme0n1/nvme0n1p2', '0', 'nvme'], ['sda', '0', 'ssd'], ['sda/sda1', '1', 'hdd'], ['vda', '1', 'unknown'], ['dm-0', '0', 'unknown'], [null, '', 'unknown'],
  ] as const)('%s, rotational %s: %s', (device, rotational, kind) => {
    expect(diskKindOf(directory, sysWith(device, rotational))).toBe(kind);
  });

  it('says something of every directory there is', () => {
    expect(['nvme', 'ssd', 'hdd', 'unknown']).toContain(diskKindOf(directory));
  });
});

describe('slowest', () => {
  it('is what copies striped over all of them are like', () => {
    expect(slowest(['ssd', 'hdd', 'nvme'])).toBe('hdd');
    expect(slowest(['ssd', 'unknown'])).toBe('unknown');
    expect(slowest(['nvme'])).toBe('nvme');
  });
});
