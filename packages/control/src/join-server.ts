import type { IncomingMessage, ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { ActorLog } from '@ashlar/actor';
import type { ClusterTrust } from '@ashlar/identity';
import { faultOf, RefusalLog } from '@ashlar/runtime';
import { AshlarError, errorCode } from '@ashlar/words';
import type { Cluster } from './cluster.ts';

const BODY_BYTES_MAX = 64 * 1024;
const AT_ONCE_MAX = 16;

/**
 * What a cluster's manager answers over HTTPS besides the API's WebSocket: `GET /authority` to everybody, `POST /join` to who has a secret,
 * `POST /renew` to who has a certificate that counts. docs/formats/identity.md
 */
export class JoinServer {
  readonly #cluster: Cluster;
  readonly #trust: ClusterTrust;
  readonly #log: ActorLog;
  readonly #refusals: RefusalLog;
  #running = 0;

  constructor(cluster: Cluster, trust: ClusterTrust, log: ActorLog) {
    this.#cluster = cluster;
    this.#trust = trust;
    this.#log = log;
    this.#refusals = new RefusalLog(log);
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    void this.#answered(request, response);
  }

  async #answered(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const remote = request.socket.remoteAddress ?? 'unknown';
    const what = `${request.method ?? ''} ${request.url ?? ''}`;
    if (what === 'GET /authority') {
      response.writeHead(200, { 'content-type': 'application/x-pem-file' }).end(this.#trust.credentials().ca);
      return;
    }
    if (what !== 'POST /join' && what !== 'POST /renew') {
      response.writeHead(426).end('this is a WebSocket\n');
      return;
    }
    try {
      respond(response, 200, what === 'POST /join' ? await this.#join(request) : await this.#renew(request));
    } catch (error) {
      const code = errorCode(error);
      const message = error instanceof AshlarError ? error.message : 'something went wrong inside';
      if (code === 'internal') this.#log.error({ error }, 'a joining failed');
      else this.#refusals.refuse(remote, `${what === 'POST /join' ? 'a joining' : 'a renewal'}: ${message}`);
      respond(response, code === 'untrusted' ? 403 : code === 'invalid-argument' ? 400 : 503, { code, message });
    }
  }

  /** Only what has arrived whole counts as running: whoever sends slowly keeps nobody else from joining. */
  async #join(request: IncomingMessage): Promise<unknown> {
    const body = await bodyOf(request);
    if (this.#running >= AT_ONCE_MAX) throw new AshlarError('busy', 'too many machines join at once', { retry: 'later' });
    this.#running++;
    try {
      return await this.#cluster.join(body);
    } finally {
      this.#running--;
    }
  }

  async #renew(request: IncomingMessage): Promise<unknown> {
    const { socket } = request;
    if (!(socket instanceof TLSSocket)) throw new AshlarError('untrusted', 'not over TLS');
    const certificate = socket.getPeerX509Certificate();
    const judged = this.#trust.judge(certificate, faultOf(socket));
    if ('refused' in judged) throw new AshlarError('untrusted', judged.refused);
    const member = certificate && this.#trust.member(certificate);
    if (!member) throw new AshlarError('untrusted', 'its machine is not in the roster');
    return this.#cluster.renew(member, await bodyOf(request));
  }
}

async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const part of request as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > BODY_BYTES_MAX) throw new AshlarError('invalid-argument', `a request of more than ${BODY_BYTES_MAX} bytes`);
      parts.push(part);
    }
  } catch (cause) {
    // Whoever goes away in the middle has made no error of ours.
    throw cause instanceof AshlarError ? cause : new AshlarError('protocol', 'a request that did not arrive whole', { cause });
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString());
  } catch (cause) {
    throw new AshlarError('invalid-argument', 'a request that is no JSON', { cause });
  }
}

function respond(response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close' }).end(JSON.stringify(value));
}
