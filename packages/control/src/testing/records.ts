import { FOUNDING_INCARNATION } from '@ashlar/protocol';
import { serverId, volumeId, type VolumeId } from '@ashlar/words';
import type { VolumeRecord } from '../core/records.ts';
import { DEFAULT_LIMITS } from '../core/state.ts';

export const VOLUME: VolumeId = volumeId('vol-00000000000000001');

/** A volume with a primary on server-1 and a mirror on server-2. */
export function aVolume(id: VolumeId = VOLUME, change: Partial<VolumeRecord> = {}): VolumeRecord {
  const holders = [serverId('server-1'), serverId('server-2')];
  return {
    volumeId: id, siteId: 'site-1', owner: 'operator', accessList: [], tags: {}, state: 'available', createdAtMs: 0, limits: DEFAULT_LIMITS, attachments: [],
    configuration: {
      volumeId: id, lineage: 1, epoch: 1, members: holders.map((holder) => ({ serverId: holder, incarnation: FOUNDING_INCARNATION })), learners: [], attachNumber: 0,
      sizeBytes: 2 ** 30, minCopies: 1, copiesWanted: 2, durability: 'normal',
    },
    predecessorEnded: true, primaryInstance: 'life-1', holders, givenUp: [], disk: null, move: null, clientToken: '', ...change,
  };
}
