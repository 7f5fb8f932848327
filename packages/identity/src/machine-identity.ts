import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import type { Credentials } from './cluster-trust.ts';
import { CLOCK_SKEW_MS } from './limits.ts';
import { damaged, pemBlocks, readIfThere, replaceFile } from './files.ts';
import { certifiedName, type CertifiedName } from './names.ts';
import { parseRoster, type Roster } from './roster.ts';

const ROSTER = 'roster.json';

/** A machine's own key and certificate, and the roster it knows; docs/formats/identity.md. */
export class MachineIdentity {
  readonly #directory: string;
  #credentials: Credentials;
  #roster: Roster;

  private constructor(directory: string, credentials: Credentials, roster: Roster) {
    this.#directory = directory;
    this.#credentials = credentials;
    this.#roster = roster;
  }

  /** The roster that is there, with or without a certificate. Throws `corrupt`. */
  static rosterIn(directory: string): Roster | null { return readIfThere(join(directory, ROSTER)) === null ? null : readRoster(directory); }

  /** Null: this machine has not joined yet. Throws `corrupt`. */
  static open(directory: string): MachineIdentity | null {
    const path = join(directory, 'machine.pem');
    const text = readIfThere(path);
    if (text === null) return null;
    const [key] = pemBlocks(text, 'PRIVATE KEY');
    const [cert, ca] = pemBlocks(text, 'CERTIFICATE');
    if (key === undefined || cert === undefined || ca === undefined) throw damaged(path, 'it holds no key and certificates; remove the machine and let it join again');
    return new MachineIdentity(directory, { key, cert, ca }, readRoster(directory));
  }

  /** The roster first: a machine that has a certificate has a roster. */
  static create(directory: string, credentials: Credentials, roster: Roster): MachineIdentity {
    const identity = new MachineIdentity(directory, credentials, roster);
    identity.#saveRoster();
    identity.#save(credentials);
    return identity;
  }

  get credentials(): Credentials { return this.#credentials; }
  get roster(): Roster { return this.#roster; }
  get name(): CertifiedName {
    const name = certifiedName(new X509Certificate(this.#credentials.cert));
    if (name === null) throw damaged(join(this.#directory, 'machine.pem'), 'its certificate names no machine');
    return name;
  }

  /** When half of its certificate's life is over: there is then as long again to find the manager. */
  get renewAtMs(): number {
    const { validFromDate, validToDate } = new X509Certificate(this.#credentials.cert);
    return validToDate.getTime() - (validToDate.getTime() - validFromDate.getTime() - CLOCK_SKEW_MS) / 2;
  }

  get expiresAtMs(): number { return new X509Certificate(this.#credentials.cert).validToDate.getTime(); }

  /** Throws what the disk says; the former ones count on then. */
  renew(credentials: Credentials): void {
    this.#save(credentials);
    this.#credentials = credentials;
  }

  /** False if it is not newer. `unwritten`: the disk did not take it; it counts all the same, or a full disk would keep who was removed. */
  learn(roster: Roster, unwritten: (error: unknown) => void): boolean {
    if (roster.clusterId !== this.#roster.clusterId || roster.number <= this.#roster.number) return false;
    this.#roster = roster;
    try {
      this.#saveRoster();
    } catch (error) {
      unwritten(error);
    }
    return true;
  }

  #save({ key, cert, ca }: Credentials): void {
    replaceFile(join(this.#directory, 'machine.pem'), `${key}${cert}${ca}`);
  }

  #saveRoster(): void { replaceFile(join(this.#directory, ROSTER), `${JSON.stringify(this.#roster)}\n`); }
}

function readRoster(directory: string): Roster {
  const path = join(directory, ROSTER);
  try {
    return parseRoster(JSON.parse(readIfThere(path) ?? ''));
  } catch (cause) {
    throw damaged(path, `it does not say any more who belongs to the cluster (${(cause as Error).message}); copy it from another machine of the cluster`);
  }
}
