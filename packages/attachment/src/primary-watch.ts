import { LATE_MS, PROBE_MS, PROBE_SLOWER, SILENT_MS, SILENT_REPEAT_MS } from './limits.ts';

export const NEVER = Number.POSITIVE_INFINITY;

/** Whether the primary is there: since when it owes an answer, when to ask it, when to complain. */
export class PrimaryWatch {
  #heardMs = 0;
  #probedMs = 0;
  #submittedMs = 0;
  /** Since when it owes us an answer. */
  #owesSinceMs = NEVER;
  #toldMs = -NEVER;

  /** Another primary is asked from now on. */
  begin(nowMs: number): void {
    this.#heardMs = nowMs;
    this.#submittedMs = Math.max(this.#submittedMs, nowMs);
    this.#owesSinceMs = nowMs;
    this.#toldMs = -NEVER;
  }

  /** A client wants something: until long after that, an idle primary is asked often. */
  submitted(nowMs: number): void {
    this.#submittedMs = nowMs;
  }

  /** Something was sent that must be answered. */
  asked(nowMs: number): void {
    if (this.#owesSinceMs === NEVER) this.#owesSinceMs = nowMs;
  }

  probed(nowMs: number): void {
    this.#probedMs = nowMs;
    this.asked(nowMs);
  }

  /** It said something. `owes`: other things are still unanswered. */
  heard(nowMs: number, owes: boolean): void {
    this.#heardMs = nowMs;
    this.#owesSinceMs = owes ? nowMs : NEVER;
  }

  /** A timer came late: who was frozen, or starved of its processor, has not heard, and that says nothing about the primary. */
  late(nowMs: number, lateMs: number): void {
    if (lateMs > LATE_MS && this.#owesSinceMs !== NEVER) this.#owesSinceMs = Math.min(nowMs, this.#owesSinceMs + lateMs);
  }

  probeDueMs(nowMs: number): number {
    const last = Math.max(this.#heardMs, this.#probedMs);
    if (this.#owesSinceMs !== NEVER) return last + PROBE_MS;
    const idleMs = nowMs - this.#submittedMs;
    for (const slower of PROBE_SLOWER) if (idleMs >= slower.idleMs) return Math.ceil((last + slower.everyMs) / slower.slotMs) * slower.slotMs;
    return last + PROBE_MS;
  }

  silentMs(nowMs: number): number {
    return nowMs - this.#owesSinceMs;
  }

  /** True: the silence is to be told now, for the first time or again. */
  complains(nowMs: number): 'first' | 'again' | 'no' {
    if (this.silentMs(nowMs) < SILENT_MS || nowMs - this.#toldMs < SILENT_REPEAT_MS) return 'no';
    const first = this.#toldMs === -NEVER;
    this.#toldMs = nowMs;
    return first ? 'first' : 'again';
  }

  /** When to look again for silence. */
  nextMs(nowMs: number): number {
    if (this.#owesSinceMs === NEVER) return NEVER;
    return Math.max(this.#owesSinceMs + SILENT_MS, this.#toldMs + SILENT_REPEAT_MS, nowMs + 1);
  }
}
