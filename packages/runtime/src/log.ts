import { fstatSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ActorLog } from '@ashlar/actor';
import { pino, stdSerializers } from 'pino';

export interface LogOptions {
  /** The process or thread: a field of every line. */
  readonly name: string;
  /** Where lines of JSON go; standard error without it, and where that is systemd's journal. */
  readonly file?: string;
  readonly level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/** Names under which a secret could come into a log line by mistake. */
const SECRETS = ['token', 'linkToken', 'authorization', 'secret', 'password'];

/** Lines of JSON. Fields named like secrets are masked, at the top and up to two levels below. */
export function createLog({ name, file, level = 'info' }: LogOptions): ActorLog {
  return pino({
    name, level, redact: { paths: SECRETS.flatMap((field) => [field, `*.${field}`, `*.*.${field}`]), censor: '[redacted]' }, serializers: { error: stdSerializers.errWithCause },
    timestamp: pino.stdTimeFunctions.isoTime,
  }, isJournal(process.env) ? new JournalLines() : new LineFile(file ?? null));
}

/** Standard error leads to systemd's journal, by this process's surroundings: systemd.exec(5), JOURNAL_STREAM. */
export function isJournal(env: Readonly<Record<string, string | undefined>>, stat: (fd: number) => { readonly dev: number; readonly ino: number } = fstatSync): boolean {
  const stream = env['JOURNAL_STREAM'];
  if (stream === undefined) return false;
  const { dev, ino } = stat(2);
  return stream === `${dev}:${ino}`;
}

/** Before each line the journal takes its level in angle brackets: sd-daemon(3). */
export function journalLine(line: string): string {
  const level = Number(/^\{"level":(\d+)/.exec(line)?.[1] ?? 30);
  return `<${level >= 50 ? 3 : level >= 40 ? 4 : level >= 30 ? 6 : 7}>${line}`;
}

/** The journal has what was written before a SIGKILL, and bounds itself: nothing more is wanted of a log. */
class JournalLines {
  readonly #lines = new LineFile(null);

  write(line: string): void { this.#lines.write(journalLine(line)); }
}

/**
 * Writes each line at once, so that what was logged before a SIGKILL is there. A log must never end a server: what cannot be written is
 * dropped and counted. (pino's own destination tries for ever at the end of the process when the disk is full, and so never ends.)
 */
class LineFile {
  readonly #fd: number;
  readonly #file: string;
  #dropped = 0;

  constructor(file: string | null) {
    if (file !== null) mkdirSync(dirname(file), { recursive: true });
    this.#fd = file === null ? 2 : openSync(file, 'a', 0o600);
    this.#file = file ?? 'standard error';
  }

  write(line: string): void {
    try {
      if (this.#dropped > 0) {
        writeSync(this.#fd, `${JSON.stringify({ level: 50, time: new Date().toISOString(), msg: 'lines of this log could not be written', dropped: this.#dropped })}\n`);
        this.#dropped = 0;
      }
      writeSync(this.#fd, line);
    } catch (error) {
      if (this.#dropped++ === 0 && this.#fd !== 2) this.#say(error);
    }
  }

  #say(error: unknown): void {
    process.stderr.write(`${JSON.stringify({ level: 50, msg: 'the log cannot be written', file: this.#file, error: error instanceof Error ? error.message : 'unknown' })}\n`);
  }
}
