import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { nbdTls } from './nbd-tls.ts';

const folder = mkdtempSync(join(tmpdir(), 'ashlar-tls-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('the certificate for NBD over TCP', () => {
  it('comes from the files that the environment names', () => {
    const [cert, key, ca] = ['cert', 'key', 'ca'].map((name) => {
      writeFileSync(join(folder, name), `the ${name}`);
      return join(folder, name);
    });
    expect(nbdTls({})).toBe(undefined);
    expect(nbdTls({ ASHLAR_NBD_TLS_CERT: cert, ASHLAR_NBD_TLS_KEY: key })).toEqual({ cert: 'the cert', key: 'the key', required: true });
    expect(nbdTls({ ASHLAR_NBD_TLS_CERT: cert, ASHLAR_NBD_TLS_KEY: key, ASHLAR_NBD_TLS_CA: ca })).toEqual({ cert: 'the cert', key: 'the key', ca: 'the ca', required: true });
  });

  it('is refused where a part is missing', () => {
    for (const wrong of [{ ASHLAR_NBD_TLS_CERT: 'x' }, { ASHLAR_NBD_TLS_CA: 'x' }, { ASHLAR_NBD_TLS_CERT: join(folder, 'none'), ASHLAR_NBD_TLS_KEY: join(folder, 'none') }]) {
      expect(() => nbdTls(wrong)).toThrow(expect.objectContaining({ code: 'invalid-argument' }));
    }
  });
});
