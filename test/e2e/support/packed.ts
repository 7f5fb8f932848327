import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, brotliDecompressSync, constants } from 'node:zlib';

const TAR_BYTES_MAX = 256 * 2 ** 20;

function tar(args: readonly string[], input?: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync('tar', args, { maxBuffer: TAR_BYTES_MAX, ...(input === undefined ? {} : { input }) });
  if (status !== 0) throw new Error(`tar ended with ${status ?? 'a signal'}: ${stderr.toString()}`);
  return stdout;
}

/** Files of a directory as one small file; the same files give the same bytes. */
export function pack(directory: string, names: readonly string[], into: string, options: readonly string[] = []): void {
  const bytes = tar(['-C', directory, '--sparse', '--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mtime=@0', ...options, '-cf', '-', ...names]);
  writeFileSync(into, brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }));
}

export function unpack(packed: string, into: string): void {
  mkdirSync(into, { recursive: true, mode: 0o700 });
  tar(['-C', into, '--no-same-owner', '-xf', '-'], brotliDecompressSync(readFileSync(packed)));
}
