import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

/** A small Linux guest under QEMU, put together from Debian's packages by `test/e2e/guest/guest.sh`. */
const GUEST = new URL('../guest/guest.sh', import.meta.url).pathname;
const execute = promisify(execFile);
const BUILD_MS = 120_000;

export async function buildGuest(folder: string): Promise<void> {
  await execute('bash', [GUEST, 'build', folder], { timeout: BUILD_MS });
}

/** Boots, runs, and gives the console; throws if the commands failed. `onLine` sees the console as it comes. */
export async function guest(folder: string, commands: string, options: readonly string[] = [], onLine: (line: string) => void = () => undefined): Promise<string> {
  const child = spawn('bash', [GUEST, 'run', folder, commands, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit') as Promise<[number | null]>;
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line.replaceAll('\r', ''));
    onLine(line);
  }
  const [code] = await exited;
  if (code !== 0) throw new Error(`guest ended with ${code}:\n${lines.join('\n')}`);
  return lines.join('\n');
}

const SUMS = 'find bin modules -type f | sort | xargs sha256sum | sha256sum';

/** A file system with files on it; sums of them from memory and, caches dropped, from the disk; the clean disk in the end. */
export function guestFileSystem(disk: string): string {
  return [
    `mkfs.ext4 -q ${disk}; mount ${disk} /mnt`, 'cp -r /bin /modules /mnt/', `cd /; echo twin $(${SUMS})`, 'sync; echo 3 >/proc/sys/vm/drop_caches', `cd /mnt; echo disk $(${SUMS})`,
    'rm -r /mnt/bin; cd /; sync; umount /mnt', `e2fsck -fn ${disk}`,
  ].join('; ');
}

/** What the guest found in its memory, and on its disk. */
export function guestSums(console: string): { readonly twin: string | undefined; readonly volume: string | undefined } {
  return { twin: /^twin ([0-9a-f]{64})/m.exec(console)?.[1], volume: /^disk ([0-9a-f]{64})/m.exec(console)?.[1] };
}

/** Options that make an NBD export the guest's /dev/vda, through QEMU's own client, which comes back when it is cut off. */
export function diskThroughQemu(socket: string, name: string): readonly string[] {
  return ['-blockdev', `driver=nbd,node-name=d,server.type=unix,server.path=${socket},export=${name},reconnect-delay=60`, '-device', 'virtio-blk,drive=d'];
}
