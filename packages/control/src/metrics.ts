import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { ActorLog } from '@ashlar/actor';
import { AshlarError } from '@ashlar/words';

/** Where figures come from, and who may have them. */
export interface MetricsSource {
  /** True if these credentials are those of somebody who may use the API. */
  readonly knows: (authorization: string | undefined) => boolean;
  readonly text: () => Promise<string>;
  readonly log: ActorLog;
}

/** Answers `GET /metrics` with the site's token; everything else is refused. */
export async function answerMetrics({ knows, text, log }: MetricsSource, request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!knows(request.headers.authorization)) return refuse(response, 401, { 'www-authenticate': 'Bearer' });
  if (request.method !== 'GET') return refuse(response, 405, { allow: 'GET' });
  if (request.url !== '/metrics') return refuse(response, 404);
  try {
    const body = await text();
    response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8', 'cache-control': 'no-store' }).end(body);
  } catch (error) {
    log.error({ error }, 'the figures could not be collected');
    refuse(response, 500);
  }
}

function refuse(response: ServerResponse, status: number, headers: Readonly<Record<string, string>> = {}): void {
  response.writeHead(status, { ...headers, 'connection': 'close', 'content-type': 'text/plain; charset=utf-8' }).end(`${status}\n`);
}

/** Figures alone, on a port of loopback that stays the same: for a Prometheus, which is configured once. The API's own port answers them too. */
export class MetricsServer {
  readonly #http: Server;

  private constructor(source: MetricsSource) {
    this.#http = createServer((request, response) => void answerMetrics(source, request, response));
  }

  /** Throws `io-error`: a port that was asked for is taken. */
  static async listen(port: number, source: MetricsSource): Promise<MetricsServer> {
    const server = new MetricsServer(source);
    await new Promise<void>((resolve, reject) => {
      server.#http.once('error', (cause) => reject(new AshlarError('io-error', `cannot listen for Prometheus on port ${port}`, { cause })));
      server.#http.listen({ host: '127.0.0.1', port }, resolve);
    });
    return server;
  }

  get url(): string {
    const address = this.#http.address();
    return `http://127.0.0.1:${typeof address === 'object' && address !== null ? address.port : 0}/metrics`;
  }

  async close(): Promise<void> {
    this.#http.closeAllConnections();
    await new Promise<void>((resolve) => this.#http.close(() => resolve()));
  }
}
