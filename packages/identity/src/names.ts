import type { X509Certificate } from 'node:crypto';

/** The machine that a certificate names. */
export interface CertifiedName {
  readonly clusterId: string;
  readonly machine: string;
  /** Which joining of that name: one that was removed and joined again is another. */
  readonly joining: number;
}

/** As a URI among the certificate's alternative names; docs/formats/identity.md. */
export function nameUri({ clusterId, machine, joining }: CertifiedName): string {
  return `ashlar://${clusterId}/machine/${machine}/${joining}`;
}

const NAME_URI = /(?:^|, )URI:ashlar:\/\/([0-9a-f]{16})\/machine\/([a-z0-9][a-z0-9-]{0,61})\/([1-9][0-9]{0,9})(?=,|$)/;

/** Null: it names no machine of any cluster. */
export function certifiedName(certificate: X509Certificate): CertifiedName | null {
  const [, clusterId, machine, joining] = NAME_URI.exec(certificate.subjectAltName ?? '') ?? [];
  return clusterId === undefined || machine === undefined ? null : { clusterId, machine, joining: Number(joining) };
}

/** Short enough that the parties named after it are names of parties as well. */
const MACHINE_NAME = /^[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?$/;

export function isMachineName(text: string): boolean { return MACHINE_NAME.test(text); }
