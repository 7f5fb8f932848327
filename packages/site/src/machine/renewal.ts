import type { ActorLog } from '@ashlar/actor';
import type { Credentials, MachineIdentity } from '@ashlar/identity';
import { errorCode } from '@ashlar/words';

/** A renewal that failed is tried again after a tenth of the time that is left, within these. */
const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 10 * 60_000;
/** One that has expired is not renewed by itself: only a clock that is set right helps, and each try is a line in both logs. */
const RETRY_EXPIRED_MS = 60_000;
/** The clock is looked at so often: timers do not notice that it was set, nor how long the machine has slept. */
const LOOK_MS_MAX = 10 * 60_000;

/** Renews a machine's certificate when half of its life is over. Open links go on with the old one; new ones use the new. */
export class Renewal {
  readonly #identity: MachineIdentity;
  readonly #renew: () => Promise<Credentials>;
  readonly #log: ActorLog;
  readonly #renewed: (credentials: Credentials) => void;
  #timer: NodeJS.Timeout | null = null;
  #stopped = false;

  constructor(identity: MachineIdentity, renew: () => Promise<Credentials>, log: ActorLog, renewed: (credentials: Credentials) => void) {
    this.#identity = identity;
    this.#renew = renew;
    this.#log = log;
    this.#renewed = renewed;
    this.#plan(identity.renewAtMs - Date.now());
  }

  stop(): void {
    this.#stopped = true;
    if (this.#timer) clearTimeout(this.#timer);
  }

  #plan(inMs: number): void {
    if (!this.#stopped) this.#timer = setTimeout(() => void this.#look(), Math.min(Math.max(0, inMs), LOOK_MS_MAX));
  }

  async #look(): Promise<void> {
    const leftMs = this.#identity.renewAtMs - Date.now();
    if (leftMs > 0) return this.#plan(leftMs);
    try {
      const credentials = await this.#renew();
      if (this.#stopped) return;
      this.#renewed(credentials);
      this.#log.info({ until: new Date(this.#identity.expiresAtMs).toISOString() }, 'the certificate of this machine was renewed');
      this.#plan(this.#identity.renewAtMs - Date.now());
    } catch (error) {
      const expiresInMs = this.#identity.expiresAtMs - Date.now();
      this.#log.warn({ code: errorCode(error), error: (error as Error).message, expiresAt: new Date(this.#identity.expiresAtMs).toISOString() }, expiresInMs > 0 ? 'the certificate of this machine could not be renewed; it is tried again' : 'the certificate of this machine has expired: open links go on, no new ones are made; `ashlar cluster invite --machine NAME` lets it join again');
      this.#plan(expiresInMs > 0 ? Math.min(Math.max(expiresInMs / 10, RETRY_MS_MIN), RETRY_MS_MAX) : RETRY_EXPIRED_MS);
    }
  }
}
