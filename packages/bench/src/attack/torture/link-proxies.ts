import { createHash } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect, type Server, type Socket } from 'node:net';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import type { Prng } from '@ashlar/words';

/** What is done to a link: closed; closed and not to be had again for a while; or what it carries is held for a while, in one direction or both, and comes late. */
export const CUTS = ['close', 'partition', 'hold', 'hold-one-way'] as const;
export type Cut = (typeof CUTS)[number];

interface Passage {
  readonly dialler: Socket;
  readonly listener: Socket;
  bytes: number;
}

interface Pair {
  readonly name: string;
  readonly target: string;
  readonly passages: Set<Passage>;
  refusing: boolean;
}

/** Stands between every two processes of a site: each dials the others through a socket of ours, so that its links can be cut. */
export class LinkProxies {
  readonly #pairs: readonly Pair[];
  readonly #servers: Server[] = [];

  private constructor(pairs: readonly Pair[]) {
    this.#pairs = pairs;
  }

  /** `sockets`: where the parties listen, in the order in which the later dials the earlier. `folder`: where each finds the others instead. */
  static async start(sockets: string, folder: string, parties: readonly string[]): Promise<LinkProxies> {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const pairs: Pair[] = [];
    const proxies = new LinkProxies(pairs);
    for (const [i, from] of parties.entries()) {
      for (const to of parties.slice(0, i)) {
        const pair: Pair = { name: `${from}–${to}`, target: join(sockets, `${to}.link`), passages: new Set(), refusing: false };
        pairs.push(pair);
        await proxies.#listen(pair, socketPath(folder, from, to));
      }
    }
    return proxies;
  }

  async #listen(pair: Pair, path: string): Promise<void> {
    rmSync(path, { force: true });
    const server = createServer((dialler) => this.#pass(pair, dialler));
    await new Promise<void>((done, failed) => {
      server.once('error', failed);
      server.listen(path, done);
    });
    this.#servers.push(server);
  }

  #pass(pair: Pair, dialler: Socket): void {
    if (pair.refusing) return void dialler.destroy();
    const passage: Passage = { dialler, listener: connect(pair.target), bytes: 0 };
    pair.passages.add(passage);
    const end = (): void => {
      pair.passages.delete(passage);
      passage.dialler.destroy();
      passage.listener.destroy();
    };
    for (const socket of [passage.dialler, passage.listener]) {
      socket.on('error', end).on('close', end).on('data', (bytes: Buffer) => { passage.bytes += bytes.length; });
    }
    passage.dialler.pipe(passage.listener);
    passage.listener.pipe(passage.dialler);
  }

  /** Does it to one link that is up and has carried something; null if there is none. Resolves when it is over. */
  cut(how: Cut, forMs: number, prng: Prng): { readonly link: string; readonly over: Promise<void> } | null {
    const candidates = this.#pairs.filter(({ refusing, passages }) => !refusing && [...passages].some(({ bytes }) => bytes > 0));
    const pair = candidates[prng.below(Math.max(1, candidates.length))];
    if (pair === undefined) return null;
    const passages = [...pair.passages];
    const close = (): void => passages.forEach(({ dialler }) => dialler.destroy());
    switch (how) {
      case 'close':
        close();
        return { link: pair.name, over: Promise.resolve() };
      case 'partition':
        pair.refusing = true;
        close();
        return { link: pair.name, over: later(forMs, () => { pair.refusing = false; }) };
      case 'hold':
      case 'hold-one-way': {
        const oneWay = prng.below(2);
        const held = passages.flatMap(({ dialler, listener }) => (how === 'hold' ? [[dialler, listener], [listener, dialler]] : oneWay === 0 ? [[dialler, listener]] : [[listener, dialler]]) as [Socket, Socket][]);
        for (const [from, to] of held) {
          from.unpipe(to);
          from.pause();
        }
        return { link: pair.name, over: later(forMs, () => held.forEach(([from, to]) => { if (!from.destroyed && !to.destroyed) from.pipe(to); })) };
      }
    }
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const { passages } of this.#pairs) for (const { dialler } of passages) dialler.destroy();
  }
}

function later(ms: number, act: () => void): Promise<void> {
  return new Promise((done) => { setTimeout(() => { act(); done(); }, ms); });
}

/** Short, as a socket's path has 107 bytes at most. */
export function socketPath(folder: string, from: string, to: string): string {
  return join(folder, `${from}.${to}`);
}

/** Where `ashlar up` has its sockets (packages/site/src/layout.ts). */
export function linkSockets(siteDirectory: string): string {
  return join(tmpdir(), `ashlar-${userInfo().uid}`, createHash('sha256').update(resolve(siteDirectory)).digest('hex').slice(0, 12));
}

/** What a process finds around it at its next start (`ASHLAR_SURROUNDINGS` is the folder). */
export function writeSurroundings(folder: string, party: string, parties: readonly string[], machine: { readonly clockShiftMs: number; readonly bootId: string | null }): void {
  const links = Object.fromEntries(parties.slice(0, parties.indexOf(party)).map((to) => [to, socketPath(folder, party, to)]));
  writeFileSync(join(folder, `${party}.json`), `${JSON.stringify({ ...machine, links })}\n`);
}
