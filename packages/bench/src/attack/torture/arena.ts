import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { VolumeView } from '@ashlar/client';
import { ChainWriter, type ChainFindings } from '@ashlar/load';
import { compareCopies } from '../../site/compare.ts';
import { endProcess } from '../../site/process.ts';
import { FioVerifier, type FioFindings } from '../fio-verifier.ts';
import { isMemberInSync, Rig, type Settled } from '../rig.ts';
import { linkSockets, LinkProxies, writeSurroundings } from './link-proxies.ts';

const SERVERS = ['server-1', 'server-2', 'server-3'] as const;
const HOST = 'host-1';
/** Each dials those before it. */
const PARTIES = ['manager', ...SERVERS, HOST] as const;
const CHAIN_BYTES = 16 * 2 ** 20;
const FIO_BYTES = 16 * 2 ** 20;
/** fio's region: a round ends in half a minute, and the run need not wait longer for its last. */
const FIO = { regionBytes: 8 * 2 ** 20, rate: 400 };
const POLL_MS = 25;
const READY_MS = 10_000;

export interface ArenaOptions {
  readonly directory: string;
  /** Short: sockets are in it. */
  readonly around: string;
  readonly sizeBytes: number;
  readonly rate: number;
  readonly seed: number;
}

export interface ArenaFindings extends Settled {
  readonly chain: ChainFindings;
  readonly fio: FioFindings;
  /** Of every volume, the main one included. */
  readonly epochs: number;
  readonly promotions: number;
}

/** A site whose processes find proxies for links and clocks of their own, with three verified volumes under load. */
export class Arena {
  readonly rig: Rig;
  readonly proxies: LinkProxies;
  readonly chain: ChainWriter;
  readonly fio: FioVerifier;
  readonly #around: string;
  readonly #others: readonly string[];
  readonly #gateway: ChildProcess;

  private constructor(rig: Rig, proxies: LinkProxies, chain: ChainWriter, fio: FioVerifier, around: string, others: readonly string[], gateway: ChildProcess) {
    this.rig = rig;
    this.proxies = proxies;
    this.chain = chain;
    this.fio = fio;
    this.#around = around;
    this.#others = others;
    this.#gateway = gateway;
  }

  static async start({ directory, around, sizeBytes, rate, seed }: ArenaOptions): Promise<Arena> {
    mkdirSync(around, { recursive: true, mode: 0o700 });
    const proxies = await LinkProxies.start(linkSockets(directory), around, PARTIES);
    for (const party of PARTIES.slice(1)) writeSurroundings(around, party, PARTIES, { clockShiftMs: 0, bootId: null });
    const rig = await Rig.start({
      directory, servers: SERVERS.length, mirrors: 1, sizeBytes, up: [], env: { ASHLAR_SURROUNDINGS: around },
      load: { readPercent: 40, bytesMin: 4096, bytesMax: 65_536, depth: 32, rate, flushEvery: 100, fuaPercent: 5, seed, reconnectTimeoutMs: 300_000 },
    });
    const options = ['--mirrors', '1', '--io-timeout', '5m'];
    const chained = await rig.site.createVolume(CHAIN_BYTES, ...options);
    const chain = await ChainWriter.start({ target: { volume: chained, uri: await rig.site.attach(chained) }, run: (seed | 1) >>> 0, reconnectTimeoutMs: 300_000 });
    const verified = await rig.site.createVolume(FIO_BYTES, ...options);
    const { gateway, uri } = await reconnecting(await rig.site.attach(verified), join(around, 'fio'));
    return new Arena(rig, proxies, chain, new FioVerifier(uri, FIO), around, [chained, verified], gateway);
  }

  /** What this server's or host's process finds at its next start. */
  surround(party: string, machine: { readonly clockShiftMs: number; readonly bootId: string | null }): void {
    writeSurroundings(this.#around, party, PARTIES, machine);
  }

  get servers(): readonly string[] { return SERVERS; }
  get host(): string { return HOST; }

  /** Waits until each volume has all copies in sync; throws with what is missing. */
  async healthy(timeoutMs: number): Promise<void> {
    await this.rig.healthy(timeoutMs);
    const giveUpMs = performance.now() + timeoutMs;
    for (const id of this.#others) {
      for (let volume = await this.rig.site.describe(id); !isWhole(volume); volume = await this.rig.site.describe(id)) {
        if (performance.now() > giveUpMs) throw new Error(`${id} is not whole after ${timeoutMs / 1000} s: ${JSON.stringify(volume.copies)}`);
        await delay(POLL_MS);
      }
    }
  }

  /** Wrong so far; null if nothing is. */
  wrong(): string | null {
    if (this.rig.load.violationCount > 0) return `${this.rig.load.violationCount} blocks were wrong`;
    if (this.chain.flawCount > 0) return 'the chain of dependent records has a flaw';
    return this.fio.failure;
  }

  /** Ends the load on every volume, checks it all once more, and compares the copies. */
  async settle(timeoutMs: number): Promise<ArenaFindings> {
    const [chain, fio, settled] = await Promise.all([this.chain.finish(), this.fio.finish(), this.rig.settle(timeoutMs)]);
    await this.healthy(timeoutMs);
    let { difference } = settled;
    let { epoch: epochs } = settled.volume;
    let promotions = await this.#promotions(settled.volume.volumeId);
    for (const id of this.#others) {
      const volume = await this.rig.site.describe(id);
      difference ??= await compareCopies(this.rig.site, volume);
      epochs += volume.epoch;
      promotions += await this.#promotions(id);
    }
    return { ...settled, difference, chain, fio, epochs, promotions };
  }

  async #promotions(volumeId: string): Promise<number> {
    return (await this.rig.site.events(volumeId)).filter(({ name }) => name === 'promoted').length;
  }

  async stop(): Promise<void> {
    this.fio.abandon();
    await endProcess(this.#gateway);
    await this.rig.site.stop();
    this.proxies.close();
    rmSync(this.#around, { recursive: true, force: true });
  }
}

function isWhole(volume: VolumeView): boolean {
  return volume.health === 'healthy' && volume.copies.filter(isMemberInSync).length >= 2;
}

/** fio does not reconnect: nbdkit before it does, and sends again what was not answered. */
async function reconnecting(uri: string, socket: string): Promise<{ readonly gateway: ChildProcess; readonly uri: string }> {
  const gateway = spawn('nbdkit', ['-f', '-U', socket, '--filter=retry', 'nbd', `uri=${uri}`, 'retries=300', 'retry-delay=1', 'retry-exponential=no'], { stdio: 'ignore' });
  for (const endMs = performance.now() + READY_MS; !existsSync(socket);) {
    if (performance.now() > endMs || gateway.exitCode !== null) throw new Error('nbdkit, through which fio reconnects, did not start');
    await delay(POLL_MS);
  }
  return { gateway, uri: `nbd+unix:///?socket=${socket}` };
}
