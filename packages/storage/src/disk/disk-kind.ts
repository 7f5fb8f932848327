import { readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { DiskKind } from '@ashlar/protocol';

/** Linux' device numbers, as `makedev` of glibc packs them. */
function deviceOf(path: string): { readonly major: number; readonly minor: number } {
  const device = BigInt(statSync(path).dev);
  return { major: Number(((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn)), minor: Number((device & 0xffn) | ((device >> 12n) & ~0xffn)) };
}

/**
 * What a directory lies on, by what the kernel says of its device. `unknown` for memory, networks, what is mapped over several devices, and the disks of a
 * virtual machine, which say they turn whatever they are.
 */
export function diskKindOf(path: string, sys = '/sys'): DiskKind {
  const { major, minor } = deviceOf(path);
  try {
    let device = realpathSync(join(sys, 'dev/block', `${major}:${minor}`));
    // A partition has no queue of its own.
    if (readOrNull(join(device, 'partition')) !== null) device = dirname(device);
    const name = basename(device);
    if (name.startsWith('nvme')) return 'nvme';
    if (!name.startsWith('sd')) return 'unknown';
    const rotational = readOrNull(join(device, 'queue/rotational'));
    return rotational === '0' ? 'ssd' : rotational === '1' ? 'hdd' : 'unknown';
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return 'unknown';
    throw error;
  }
}

function readOrNull(path: string): string | null {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return null;
    throw error;
  }
}

const SLOWEST_FIRST: readonly DiskKind[] = ['unknown', 'hdd', 'ssd', 'nvme'];

/** Copies are striped over all directories: they are as fast as the slowest. */
export function slowest(kinds: readonly DiskKind[]): DiskKind {
  return SLOWEST_FIRST.find((kind) => kinds.includes(kind)) ?? 'unknown';
}
