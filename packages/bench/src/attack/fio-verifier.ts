import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';

/** The flags with which `test/e2e/nbd-interop.test.ts` shows fio to notice one dropped overwrite in 50. */
const ARGS = ['--name=verify', '--ioengine=nbd', '--rw=randwrite', '--bs=4k', '--iodepth=32', '--norandommap', '--randrepeat=0',
  '--verify=crc32c', '--do_verify=1', '--verify_backlog=64', '--verify_fatal=1', '--verify_state_save=0'];
/** Bytes written in one round to each byte of the region: only many overwrites of one block size let fio see a stale block. */
const OVERWRITES = 6;
/** Connections may be refused for so long: the time after which a volume's own requests fail. */
const REFUSED_MS_MAX = 60_000;
const REFUSED_REST_MS = 200;

export interface FioOptions {
  readonly regionBytes: number;
  /** Writes a second; 0: as fast as they are answered. */
  readonly rate: number;
}

export interface FioFindings {
  readonly rounds: number;
  readonly bytesPerRound: number;
  /** What fio said of the first round that failed, or null. */
  readonly failure: string | null;
}

/** fio, a verifier that is not ours, writing and checking round after round on a volume of its own until it is told to stop. */
export class FioVerifier {
  readonly #uri: string;
  readonly #options: FioOptions;
  readonly #ended: Promise<void>;
  #child: ChildProcess | null = null;
  #rounds = 0;
  #failure: string | null = null;
  #stopping = false;

  constructor(uri: string, options: FioOptions = { regionBytes: 64 * 2 ** 20, rate: 0 }) {
    this.#uri = uri;
    this.#options = options;
    this.#ended = this.#loop();
  }

  /** Waits for the end of the round that runs: fio checks what it wrote last only then. */
  async finish(): Promise<FioFindings> {
    this.#stopping = true;
    await this.#ended;
    return { rounds: this.#rounds, bytesPerRound: OVERWRITES * this.#options.regionBytes, failure: this.#failure };
  }

  get failure(): string | null { return this.#failure; }

  /** For a run that has failed anyway. */
  abandon(): void {
    this.#stopping = true;
    this.#child?.kill('SIGKILL');
  }

  async #loop(): Promise<void> {
    const { regionBytes, rate } = this.#options;
    const args = [...ARGS, `--size=${regionBytes}`, `--io_size=${OVERWRITES * regionBytes}`, ...(rate === 0 ? [] : [`--rate_iops=${rate}`]), `--uri=${this.#uri}`];
    let refusedSinceMs = Infinity;
    do {
      const child = spawn('fio', args, { stdio: ['ignore', 'pipe', 'pipe'] });
      this.#child = child;
      let output = '';
      const take = (text: string): void => { output = (output + text).slice(-4000); };
      child.stdout.setEncoding('utf8').on('data', take);
      child.stderr.setEncoding('utf8').on('data', take);
      const code = await new Promise<number | null>((resolve) => {
        child.once('error', (error) => { take(error.message); resolve(127); });
        child.once('close', resolve);
      });
      // What makes fio reconnect opens the volume anew for each connection, and tries that only once: the host may just be starting.
      if (code !== 0 && output.includes('nbd_connect_uri')) {
        refusedSinceMs = Math.min(refusedSinceMs, performance.now());
        if (performance.now() - refusedSinceMs < REFUSED_MS_MAX) {
          await delay(REFUSED_REST_MS);
          continue;
        }
      }
      refusedSinceMs = Infinity;
      if (code === 0) this.#rounds++;
      else this.#failure ??= `fio ended with ${code ?? 'a signal'}: ${output.trim()}`;
    } while (!this.#stopping && this.#failure === null);
  }
}
