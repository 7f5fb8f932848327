import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { AshlarError } from '@ashlar/words';

/** What `ashlar cluster invite` prints: lets a machine join, and lets that machine know that it talks to this cluster. */
export interface JoinSecret {
  /** Names the invitation; no secret. */
  readonly inviteId: string;
  readonly secret: string;
  /** Of the cluster's authority. */
  readonly fingerprint: string;
}

const PREFIX = 'ashlar-join-1';
const TEXT = /^ashlar-join-1\.([0-9a-f]{16})\.([\w-]{32})\.([\w-]{43})$/;

export function newJoinSecret(fingerprint: string): JoinSecret {
  return { inviteId: randomBytes(8).toString('hex'), secret: randomBytes(24).toString('base64url'), fingerprint };
}

export function showJoinSecret({ inviteId, secret, fingerprint }: JoinSecret): string {
  return [PREFIX, inviteId, secret, fingerprint].join('.');
}

/** Throws `invalid-argument`. */
export function parseJoinSecret(text: string): JoinSecret {
  const [, inviteId, secret, fingerprint] = TEXT.exec(text.trim()) ?? [];
  if (inviteId === undefined || secret === undefined || fingerprint === undefined) throw new AshlarError('invalid-argument', `not a join secret: it begins with ${PREFIX}. and is printed by \`ashlar cluster invite\``);
  return { inviteId, secret, fingerprint };
}

/** What is kept of it. It has 192 random bits, so that a plain hash tells nothing. */
export function hashSecret(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url');
}

export function matchesSecret(secret: string, hash: string): boolean {
  const [given, known] = [Buffer.from(hashSecret(secret)), Buffer.from(hash)];
  return given.length === known.length && timingSafeEqual(given, known);
}
