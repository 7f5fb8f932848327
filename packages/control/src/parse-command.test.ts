import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { errorCode } from '@ashlar/words';
import { parseCommand } from './parse-command.ts';

const VOLUME = 'vol-00000000000000001';
const KINDS = ['volume-create', 'volume-list', 'volume-describe', 'volume-modify', 'volume-grow', 'volume-attach', 'volume-detach', 'volume-delete', 'volume-scrub', 'volume-failover', 'server-list', 'host-list', 'manager-describe', 'server-lost', 'server-stop', 'server-start', 'report', 'volume-move', 'server-add', 'server-drain', 'server-remove', 'cluster-modify', 'server-restart', 'cluster-status'];

describe('parseCommand', () => {
  it('fills in what was left out', () => {
    expect(parseCommand({ kind: 'volume-create', sizeBytes: 4096 })).toEqual({
      kind: 'volume-create', sizeBytes: 4096, mirrors: 1, minCopies: 1, durability: 'normal', limits: { ioTimeoutMs: 60_000, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {},
    });
    expect(parseCommand({ kind: 'volume-attach', volumeId: VOLUME })).toEqual({ kind: 'volume-attach', volumeId: VOLUME, readOnly: false, tcp: false });
    expect(parseCommand({ kind: 'volume-detach', volumeId: VOLUME })).toEqual({ kind: 'volume-detach', volumeId: VOLUME, force: false });
    expect(parseCommand({ kind: 'volume-detach', volumeId: VOLUME, hostId: 'host-1', force: true })).toEqual({ kind: 'volume-detach', volumeId: VOLUME, hostId: 'host-1', force: true });
    expect(parseCommand({ kind: 'server-stop', serverId: 'server-1' })).toEqual({ kind: 'server-stop', serverId: 'server-1', kill: false });
  });

  it('gives a command of the kind that was asked for, or refuses the argument, whatever comes', () => {
    const value = fc.oneof(fc.string(), fc.integer(), fc.double(), fc.boolean(), fc.constant(null), fc.constant(VOLUME), fc.object({ maxDepth: 1 }));
    const names = fc.constantFrom('volumeId', 'sizeBytes', 'mirrors', 'minCopies', 'durability', 'limits', 'tags', 'hostId', 'copy', 'to', 'giveUp', 'serverId', 'from', 'cancel', 'check', 'disk', 'explain', 'dryRun', 'rack', 'rebuildBudgetBytes', 'rebuildsAtOnce', 'readOnly', 'tcp', 'kill', 'force', 'anyway', 'clientToken', '__proto__');
    fc.assert(fc.property(fc.constantFrom(...KINDS), fc.dictionary(names, value), (kind, fields) => {
      try {
        expect(parseCommand({ ...fields, kind }).kind).toBe(kind);
      } catch (error) {
        expect(errorCode(error)).toBe('invalid-argument');
      }
    }), { numRuns: 500 });
  });
});
