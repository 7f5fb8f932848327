import { createPrivateKey, X509Certificate } from 'node:crypto';
import { request, type RequestOptions } from 'node:https';
import { AshlarError, ERROR_CODES, type ErrorCode } from '@ashlar/words';
import { fingerprintOf, newRequest } from './authority.ts';
import type { Credentials } from './cluster-trust.ts';
import { pemBlocks } from './files.ts';
import { ANSWER_BYTES_MAX, ANSWER_MS } from './limits.ts';
import type { JoinSecret } from './join-secret.ts';
import { certifiedName } from './names.ts';
import { parseRoster, type MemberParty, type Role, type Roster } from './roster.ts';

/** What a machine asks for when it joins. */
export interface JoinRequest {
  readonly inviteId: string;
  readonly secret: string;
  readonly machine: string;
  readonly roles: readonly Role[];
  readonly parties: readonly MemberParty[];
  /** PKCS #10, in PEM. */
  readonly request: string;
}

export interface JoinAnswer {
  readonly certificate: string;
  readonly roster: Roster;
}

/**
 * Joins the cluster behind a URL with a secret. The secret is shown only to what proves to be the cluster that the secret is of; the key of the
 * certificate stays here. `keep`: the key and its request, so that a joining whose answer was lost can be asked for again with the same.
 * Throws `untrusted` (wrong, used or expired secret; another cluster), `already-exists`, `unavailable`.
 */
export async function join(url: string, secret: JoinSecret, asked: Pick<JoinRequest, 'machine' | 'roles' | 'parties'>, keep: { readonly key: string; readonly request: string }): Promise<{ readonly credentials: Credentials; readonly roster: Roster }> {
  const ca = await fetchAuthority(url, secret.fingerprint);
  const { inviteId } = secret;
  const body: JoinRequest = { ...asked, inviteId, secret: secret.secret, request: keep.request };
  const answer = JSON.parse(await ask(url, '/join', { ca, checkServerIdentity: managerOnly }, body)) as JoinAnswer;
  const credentials = { key: keep.key, cert: checkedCertificate(answer.certificate, ca, keep.key), ca };
  return { credentials, roster: parseRoster(answer.roster) };
}

/** A new certificate for a new key, in exchange for one that still counts. */
export async function renew(url: string, credentials: Credentials, machine: string): Promise<Credentials> {
  const { key, request: asked } = await newRequest(machine);
  const answer = JSON.parse(await ask(url, '/renew', { ...credentials, checkServerIdentity: managerOnly }, { request: asked })) as { certificate: string };
  return { key, cert: checkedCertificate(answer.certificate, credentials.ca, key), ca: credentials.ca };
}

/** Whoever answers there is not believed yet: what it sends counts if it has the fingerprint that is wanted. */
async function fetchAuthority(url: string, fingerprint: string): Promise<string> {
  const [pem] = pemBlocks(await ask(url, '/authority', { rejectUnauthorized: false }, null), 'CERTIFICATE');
  if (pem === undefined || fingerprintOf(pem) !== fingerprint) throw new AshlarError('untrusted', `what answers at ${url} is not the cluster that this secret is of`);
  return pem;
}

/** The authority has signed it; only the manager's names an address. Which address is not looked at: the URL may be of a way around. */
function managerOnly(_host: string, { raw }: { readonly raw: Buffer }): Error | undefined {
  const certificate = new X509Certificate(raw);
  const isManagers = certifiedName(certificate) !== null && /(?:^|, )(?:IP Address|DNS):/.test(certificate.subjectAltName ?? '');
  return isManagers ? undefined : new Error('its certificate is not that of the manager\'s machine');
}

/** It is kept in place of one that counts: what answers may be any member of the cluster, and a certificate for another key would be no use. */
function checkedCertificate(text: unknown, ca: string, key: string): string {
  const [pem] = typeof text === 'string' ? pemBlocks(text, 'CERTIFICATE') : [];
  const certificate = pem === undefined ? null : new X509Certificate(pem);
  if (pem === undefined || certificate?.verify(new X509Certificate(ca).publicKey) !== true || !certificate.checkPrivateKey(createPrivateKey(key))) throw new AshlarError('protocol', 'the manager sent no certificate of its authority for this machine\'s key');
  return pem;
}

function ask(url: string, path: string, options: RequestOptions, body: unknown): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (cause: Error): void => reject(new AshlarError('unavailable', `no manager answers at ${url}: ${cause.message}`, { retry: 'later', cause }));
    const asked = request(new URL(path, url), { ...options, method: body === null ? 'GET' : 'POST', minVersion: 'TLSv1.3', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
        if (text.length > ANSWER_BYTES_MAX) asked.destroy(new Error('its answer is too long'));
      });
      response.on('error', fail);
      response.on('end', () => (response.statusCode === 200 ? resolve(text) : reject(errorOf(text, response.statusCode ?? 0))));
    });
    // For all of it: whoever sends a byte now and then is not waited for.
    const late = setTimeout(() => asked.destroy(new Error(`no whole answer in ${ANSWER_MS / 1000} s`)), ANSWER_MS);
    asked.on('close', () => clearTimeout(late));
    asked.on('error', fail);
    asked.end(body === null ? undefined : JSON.stringify(body));
  });
}

function errorOf(text: string, status: number): AshlarError {
  try {
    const { code, message } = JSON.parse(text) as { code: string; message: string };
    if (code in ERROR_CODES) return new AshlarError(code as ErrorCode, message);
  } catch {
    // Not one of our answers: its status says what can be said.
  }
  return new AshlarError('unavailable', `the manager answered with status ${status}`, { retry: 'later' });
}
