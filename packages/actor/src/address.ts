import { AshlarError } from '@ashlar/words';

/**
 * Where an actor is: the named party it belongs to, and its name there. `server-1/copy/vol-0123456789abcdef0`, `host-1/beacon`.
 * The same for an actor in this thread, in this process or on another machine.
 * Build an address once and keep it: a fresh string must be hashed at every send.
 */
export type Address = `${string}/${string}`;

/** A named group of actors that lives in one thread: `server-1`, `host-1`, `manager`. What a link connects. */
export type Party = string;

/** Sender of what no actor sent: drivers, timers, the kernel. */
export const KERNEL: Address = '-/kernel';

const ADDRESS = /^[a-z0-9-]{1,63}\/[A-Za-z0-9._:/@-]{1,191}$/;

/** Text from outside → address; `invalid-argument` if it is none. */
export function parseAddress(text: string): Address {
  if (!ADDRESS.test(text)) throw new AshlarError('invalid-argument', `"${text}" is not an address (party/actor)`);
  return text as Address;
}

export function isAddress(text: string): text is Address {
  return ADDRESS.test(text);
}

export function partyOf(address: Address): Party {
  return address.slice(0, address.indexOf('/'));
}

/** The part after the party: `copy/vol-0123456789abcdef0`. */
export function nameOf(address: Address): string {
  return address.slice(address.indexOf('/') + 1);
}
