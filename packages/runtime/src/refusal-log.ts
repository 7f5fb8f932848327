import type { ActorLog } from '@ashlar/actor';
import { REFUSAL_LOG_MS, REFUSAL_REASONS_MAX, REFUSALS_MAX } from './limits.ts';

const MANY_REASONS = 'again and again, each time for another reason';

/** One line for each stranger and reason in a while: one that keeps trying must not fill the disk, nor hide another. */
export class RefusalLog {
  readonly #log: ActorLog;
  readonly #nowMs: () => number;
  /** By stranger and reason, the one told of longest ago first. */
  readonly #told = new Map<string, { readonly atMs: number; unsaid: number }>();

  constructor(log: ActorLog, nowMs: () => number = () => performance.now()) {
    this.#log = log;
    this.#nowMs = nowMs;
  }

  /** `reason` goes on the line as it is: what is refused, and why. There may be words of the stranger in it. */
  refuse(remote: string, reason: string): void {
    const key = `${remote} ${reason}`;
    const known = this.#told.get(key);
    const nowMs = this.#nowMs();
    if (known && nowMs - known.atMs < REFUSAL_LOG_MS) {
      known.unsaid++;
      return;
    }
    if (!known && reason !== MANY_REASONS && this.#reasonsOf(remote, nowMs) >= REFUSAL_REASONS_MAX) return this.refuse(remote, MANY_REASONS);
    this.#told.delete(key);
    this.#told.set(key, { atMs: nowMs, unsaid: 0 });
    if (this.#told.size > REFUSALS_MAX) this.#told.delete(this.#told.keys().next().value as string);
    this.#log.warn({ remote, ...(known && known.unsaid > 0 ? { alsoRefused: known.unsaid } : {}) }, `refused: ${reason}`);
  }

  /** For which it was told of in this while. */
  #reasonsOf(remote: string, nowMs: number): number {
    let reasons = 0;
    for (const [key, { atMs }] of this.#told) if (nowMs - atMs < REFUSAL_LOG_MS && key.startsWith(`${remote} `)) reasons++;
    return reasons;
  }
}
