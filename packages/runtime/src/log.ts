import type { ActorLog } from '@ashlar/actor';
import { destination, pino, stdSerializers } from 'pino';

export interface LogOptions {
  /** The process or thread: a field of every line. */
  readonly name: string;
  /** Where lines of JSON go; standard error without it. */
  readonly file?: string;
  readonly level?: 'debug' | 'info' | 'warn' | 'error' | 'silent';
}

/** Names under which a secret could come into a log line by mistake. */
const SECRETS = ['token', 'linkToken', 'authorization', 'secret', 'password', '*.token', '*.linkToken', '*.authorization', '*.secret', '*.password'];

export function createLog({ name, file, level = 'info' }: LogOptions): ActorLog {
  const stream = file === undefined ? destination({ fd: 2, sync: true }) : destination({ dest: file, append: true, mkdir: true, mode: 0o600, sync: false });
  return pino({
    name, level, redact: { paths: SECRETS, censor: '[redacted]' }, serializers: { error: stdSerializers.errWithCause }, timestamp: pino.stdTimeFunctions.isoTime,
  }, stream);
}
