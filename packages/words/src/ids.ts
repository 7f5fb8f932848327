import { AshlarError } from './errors.ts';
import type { Prng } from './prng.ts';

declare const brand: unique symbol;
type Branded<T, B extends string> = T & { readonly [brand]: B };

/** `vol-` and 17 hex digits, as EBS writes them. */
export type VolumeId = Branded<string, 'VolumeId'>;
/** A storage server, for example `server-1`; at most 63 of `a-z 0-9 -`. */
export type ServerId = Branded<string, 'ServerId'>;
/** The machine whose node manager attaches volumes, for example `host-1`. */
export type HostId = Branded<string, 'HostId'>;

const VOLUME_ID = /^vol-[0-9a-f]{17}$/;
const NAME = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

export function volumeId(text: string): VolumeId {
  if (!VOLUME_ID.test(text)) throw new AshlarError('invalid-argument', `"${text}" is not a volume id (vol- and 17 hex digits)`);
  return text as VolumeId;
}

export function serverId(text: string): ServerId {
  if (!NAME.test(text)) throw new AshlarError('invalid-argument', `"${text}" is not a server id (1 to 63 of a-z, 0-9 and -)`);
  return text as ServerId;
}

export function hostId(text: string): HostId {
  if (!NAME.test(text)) throw new AshlarError('invalid-argument', `"${text}" is not a host id (1 to 63 of a-z, 0-9 and -)`);
  return text as HostId;
}

export function newVolumeId(prng: Prng): VolumeId {
  let digits = '';
  while (digits.length < 17) digits += prng.next32().toString(16).padStart(8, '0');
  return `vol-${digits.slice(0, 17)}` as VolumeId;
}
