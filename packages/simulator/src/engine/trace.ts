import type { SimEvent } from './scheduler.ts';

const RING = 512;

/**
 * What happened, as a running hash (two runs of one seed must agree on it) and as the lines of the last events.
 * Lines are made only when somebody asks for them: a run without a violation pays for the hash alone.
 */
export class Trace {
  #a = 0x811c9dc5;
  #b = 0x9e3779b9;
  #lines: string[] = [];
  #next = 0;
  /** Writes each line as it is made; null when nobody listens. */
  readonly onLine: ((line: string) => void) | null;
  readonly keepLines: boolean;

  constructor(keepLines: boolean, onLine: ((line: string) => void) | null = null) {
    this.keepLines = keepLines;
    this.onLine = onLine;
  }

  get verbose(): boolean {
    return this.keepLines || this.onLine !== null;
  }

  /** Folds an event in: when, for whom, and what the message says of itself. */
  event(event: SimEvent, digest: number): void {
    this.fold(Math.floor(event.atMs * 1000) | 0);
    this.fold((event.to.traceId << 8) ^ event.kind);
    this.fold(digest);
  }

  fold(value: number): void {
    const v = value | 0;
    this.#a = Math.imul(this.#a ^ v, 0x01000193);
    this.#a ^= this.#a >>> 15;
    this.#b = Math.imul(this.#b + v, 0x85ebca6b);
    this.#b ^= this.#b >>> 13;
  }

  get hash(): string {
    return (this.#a >>> 0).toString(16).padStart(8, '0') + (this.#b >>> 0).toString(16).padStart(8, '0');
  }

  line(text: string): void {
    if (this.onLine !== null) this.onLine(text);
    if (!this.keepLines) return;
    this.#lines[this.#next++ % RING] = text;
  }

  /** The last lines, oldest first. */
  tail(count = RING): string[] {
    const total = Math.min(this.#next, RING, count);
    const lines: string[] = [];
    for (let i = this.#next - total; i < this.#next; i++) lines.push(this.#lines[i % RING]);
    return lines;
  }
}
