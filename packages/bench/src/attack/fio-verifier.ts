import { spawn, type ChildProcess } from 'node:child_process';

/** Bytes of the region, and bytes written to it in one round: only many overwrites of one block size let fio see a stale block. */
const REGION_BYTES = 64 * 2 ** 20;
const ROUND_BYTES = 6 * REGION_BYTES;

/** The flags with which `test/e2e/nbd-interop.test.ts` shows fio to notice one dropped overwrite in 50. */
const ARGS = ['--name=verify', '--ioengine=nbd', '--rw=randwrite', '--bs=4k', '--iodepth=32', '--norandommap', '--randrepeat=0', `--size=${REGION_BYTES}`, `--io_size=${ROUND_BYTES}`,
  '--verify=crc32c', '--do_verify=1', '--verify_backlog=64', '--verify_fatal=1', '--verify_state_save=0'];

export interface FioFindings {
  readonly rounds: number;
  /** What fio said of the first round that failed, or null. */
  readonly failure: string | null;
}

/** fio, a verifier that is not ours, writing and checking round after round on a volume of its own until it is told to stop. */
export class FioVerifier {
  readonly #uri: string;
  readonly #ended: Promise<void>;
  #child: ChildProcess | null = null;
  #rounds = 0;
  #failure: string | null = null;
  #stopping = false;

  constructor(uri: string) {
    this.#uri = uri;
    this.#ended = this.#loop();
  }

  /** Waits for the end of the round that runs: fio checks what it wrote last only then. */
  async finish(): Promise<FioFindings> {
    this.#stopping = true;
    await this.#ended;
    return { rounds: this.#rounds, failure: this.#failure };
  }

  /** For a run that has failed anyway. */
  abandon(): void {
    this.#stopping = true;
    this.#child?.kill('SIGKILL');
  }

  async #loop(): Promise<void> {
    do {
      const child = spawn('fio', [...ARGS, `--uri=${this.#uri}`], { stdio: ['ignore', 'pipe', 'pipe'] });
      this.#child = child;
      let output = '';
      const take = (text: string): void => { output = (output + text).slice(-4000); };
      child.stdout.setEncoding('utf8').on('data', take);
      child.stderr.setEncoding('utf8').on('data', take);
      const code = await new Promise<number | null>((resolve) => {
        child.once('error', (error) => { take(error.message); resolve(127); });
        child.once('close', resolve);
      });
      if (code === 0) this.#rounds++;
      else this.#failure ??= `fio ended with ${code ?? 'a signal'}: ${output.trim()}`;
    } while (!this.#stopping && this.#failure === null);
  }
}
