import type { DiskError, DiskErrorCode } from '@ashlar/store';

/** Quotas and file size limits are a full disk to us; everything that is not known is a failure of the disk. */
const CODES: Readonly<Record<string, DiskErrorCode>> = { ENOSPC: 'ENOSPC', EDQUOT: 'ENOSPC', EFBIG: 'ENOSPC', ENOENT: 'ENOENT', EEXIST: 'EEXIST' };

export function diskError(error: unknown): DiskError {
  const { code, message } = error as { code?: string; message?: string };
  return { code: CODES[code ?? ''] ?? 'EIO', message: message ?? String(error) };
}

export function attempt(run: () => void): DiskError | null {
  try {
    run();
    return null;
  } catch (error) {
    return diskError(error);
  }
}
