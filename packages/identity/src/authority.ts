import { createHash, randomBytes, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { join } from 'node:path';
import type { PublicKey, X509Certificate as IssuedCertificate } from '@peculiar/x509';
import { AshlarError } from '@ashlar/words';
import { damaged, pemBlocks, readIfThere, replaceFile } from './files.ts';
import { AUTHORITY_YEARS, CLOCK_SKEW_MS, REQUEST_BYTES_MAX } from './limits.ts';
import { nameUri } from './names.ts';
import { KEY_ALGORITHM, loadX509, newKeyPair, privateKeyOf, privateKeyPem } from './x509.ts';

/** What a certificate is given for. */
export interface CertificateFor {
  readonly machine: string;
  readonly joining: number;
  /** Addresses of the API, for clients that look at those (the command line, `curl`): of the manager's machine. */
  readonly hosts: readonly string[];
  readonly lifetimeMs: number;
}


/** The certificate authority of a cluster. Its key is on the disk of the machine that founded the cluster, and nowhere else. */
export class Authority {
  readonly clusterId: string;
  readonly pem: string;
  readonly #key: CryptoKey;
  readonly #certificate: IssuedCertificate;

  private constructor(clusterId: string, pem: string, key: CryptoKey, certificate: IssuedCertificate) {
    this.clusterId = clusterId;
    this.pem = pem;
    this.#key = key;
    this.#certificate = certificate;
  }

  /** That of this directory, or a new one: a new cluster. `of`: of this cluster, or of none. Throws `corrupt`. */
  static async open(directory: string, of: string | null = null): Promise<Authority> {
    const path = join(directory, 'authority-key.pem');
    const known = readIfThere(path);
    if (known === null && of !== null) throw damaged(path, `it is not there, and this machine belongs to cluster ${of}; put back a copy of it`);
    if (known === null) replaceFile(path, await newAuthority());
    const text = known ?? (readIfThere(path) as string);
    const [key] = pemBlocks(text, 'PRIVATE KEY');
    const [pem] = pemBlocks(text, 'CERTIFICATE');
    if (key === undefined || pem === undefined) throw damaged(path, 'it holds no key and certificate; put back a copy of it');
    const { X509Certificate: Certificate } = await loadX509();
    const clusterId = /CN=Ashlar cluster ([0-9a-f]{16})/.exec(new X509Certificate(pem).subject)?.[1];
    if (clusterId === undefined) throw damaged(path, 'its certificate names no cluster');
    if (of !== null && of !== clusterId) throw damaged(path, `it is of cluster ${clusterId}, and this machine belongs to cluster ${of}; put back a copy of that one`);
    return new Authority(clusterId, pem, await privateKeyOf(key), new Certificate(pem));
  }

  get fingerprint(): string { return fingerprintOf(this.pem); }

  /** A certificate for the key that signed the request. Throws `invalid-argument`. */
  async issue(request: string, { machine, joining, hosts, lifetimeMs }: CertificateFor): Promise<string> {
    const x509 = await loadX509();
    const publicKey = await requestKey(request);
    const nowMs = Date.now();
    const names = [
      { type: 'url' as const, value: nameUri({ clusterId: this.clusterId, machine, joining }) },
      ...hosts.map((host) => ({ type: isIP(host) === 0 ? ('dns' as const) : ('ip' as const), value: host })),
    ];
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: randomBytes(16).toString('hex'), subject: `CN=${machine}`, issuer: this.#certificate.subject, publicKey, signingKey: this.#key, signingAlgorithm: KEY_ALGORITHM,
      notBefore: new Date(nowMs - CLOCK_SKEW_MS), notAfter: new Date(nowMs + lifetimeMs),
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]), new x509.SubjectAlternativeNameExtension(names),
        await x509.AuthorityKeyIdentifierExtension.create(this.#certificate.publicKey),
      ],
    });
    return `${certificate.toString('pem')}\n`;
  }
}

/** SHA-256 of the certificate, as in a join secret. */
export function fingerprintOf(pem: string): string {
  return createHash('sha256').update(new X509Certificate(pem).raw).digest('base64url');
}

/** Names the key of a request, so that the same joiner is known again when it asks twice. Throws `invalid-argument`. */
export async function requestKeyId(request: string): Promise<string> {
  return createHash('sha256').update(new Uint8Array((await requestKey(request)).rawData)).digest('base64url');
}

/** Whoever signed the request has the key. */
async function requestKey(request: string): Promise<PublicKey> {
  const x509 = await loadX509();
  try {
    if (request.length > REQUEST_BYTES_MAX) throw new Error('too long');
    const parsed = new x509.Pkcs10CertificateRequest(request);
    if (!(await parsed.verify())) throw new Error('its signature is wrong');
    return parsed.publicKey;
  } catch (cause) {
    throw new AshlarError('invalid-argument', 'not a certificate request', { cause });
  }
}

/** A request for a certificate, and the new key that it is for, which stays with whoever asks. */
export async function newRequest(machine: string): Promise<{ readonly key: string; readonly request: string }> {
  const x509 = await loadX509();
  const keys = await newKeyPair();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({ name: `CN=${machine}`, keys, signingAlgorithm: KEY_ALGORITHM });
  return { key: await privateKeyPem(keys.privateKey), request: request.toString('pem') };
}

async function newAuthority(): Promise<string> {
  const x509 = await loadX509();
  const keys = await newKeyPair();
  const nowMs = Date.now();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: randomBytes(16).toString('hex'), name: `CN=Ashlar cluster ${randomBytes(8).toString('hex')}`, keys, signingAlgorithm: KEY_ALGORITHM,
    notBefore: new Date(nowMs - CLOCK_SKEW_MS), notAfter: new Date(nowMs + AUTHORITY_YEARS * 365 * 86_400_000),
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true), new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return `${await privateKeyPem(keys.privateKey)}${certificate.toString('pem')}\n`;
}
