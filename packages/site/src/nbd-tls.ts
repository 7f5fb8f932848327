import { readFileSync } from 'node:fs';
import type { NbdTls } from '@ashlar/host';
import { AshlarError } from '@ashlar/words';

/**
 * The certificate that NBD clients over TCP are shown, as files in PEM: ASHLAR_NBD_TLS_CERT and ASHLAR_NBD_TLS_KEY, and ASHLAR_NBD_TLS_CA if clients must show one
 * of that authority's. From the environment, because every process of a site has it from the first.
 */
export function nbdTls(environment: Readonly<Record<string, string | undefined>>): NbdTls | undefined {
  const { ASHLAR_NBD_TLS_CERT: cert, ASHLAR_NBD_TLS_KEY: key, ASHLAR_NBD_TLS_CA: ca } = environment;
  if (cert === undefined && key === undefined && ca === undefined) return undefined;
  if (cert === undefined || key === undefined) throw new AshlarError('invalid-argument', 'ASHLAR_NBD_TLS_CERT and ASHLAR_NBD_TLS_KEY belong together');
  return { cert: read(cert), key: read(key), required: true, ...(ca === undefined ? {} : { ca: read(ca) }) };
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new AshlarError('invalid-argument', `${path} cannot be read: ${(error as Error).message}`, { path, cause: error });
  }
}
