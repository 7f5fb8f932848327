import { primaryOf, type Configuration, type CopyReport } from '@ashlar/protocol';
import type { Given } from './beacon.ts';
import type { DurableState } from './effects.ts';
import { LEASE_MS } from './limits.ts';
import type { Copy } from './state.ts';

/**
 * What a copy begins with. One that is made while a configuration is in force has promised it from its birth: its server may have held another copy, which
 * promised the same and is gone, and a primary of an earlier epoch that still counts on that one must be refused.
 */
export function newCopyState(configuration: Configuration, founding: boolean): DurableState {
  if (founding) return { promisedEpoch: 0, configuration: null, complete: true, fault: null };
  return { promisedEpoch: configuration.epoch, configuration, complete: false, fault: null };
}

/**
 * Promises an epoch: frames of lower ones are refused from this moment, and `then` runs when the promise is stable.
 * Answering before that would let a restart forget it.
 */
export function promise(c: Copy, configuration: Configuration, then: () => void): void {
  const leader = primaryOf(configuration);
  const given = c.leases.promise(c.volumeId, configuration.epoch, leader === c.self ? null : leader, c.nowMs);
  if (given && given.to !== c.self) c.lastLed = { by: given.to, heardMs: given.untilMs - LEASE_MS };
  if (given && given.to !== c.self && given.untilMs > c.nowMs && !wasReturned(c, given)) c.grants.set(given.to, given);
  c.returned = null;
  c.follower = null;
  save(c, { ...c.durable, promisedEpoch: configuration.epoch, configuration }, () => {
    if (c.durable.promisedEpoch !== configuration.epoch) return;
    growToSize(c);
    then();
  });
}

function wasReturned({ returned }: Copy, { to, epoch }: Given): boolean {
  return returned !== null && returned.by === to && returned.epoch === epoch;
}

/** After the promise, never before it: what fails drops all that was asked for after it. Asked for again with every answer that needs it. */
export function growToSize(c: Copy): void {
  const { configuration } = c.durable;
  if (configuration && configuration.sizeBytes > c.log.sizeBytes) c.fx.grow(configuration.sizeBytes);
}

/** `synced` comes once for each. */
export function sync(c: Copy): void {
  c.syncs.asked++;
  c.fx.sync();
}

export function save(c: Copy, state: DurableState, then: () => void): void {
  c.durable = state;
  const token = ++c.saveToken;
  c.saving.push({ token, then });
  c.fx.save(state, token);
}

/** Saves end in the order in which they were asked for. */
export function onSaved(c: Copy, token: number): void {
  while (c.saving.length > 0 && (c.saving[0] as { token: number }).token <= token) {
    const { then } = c.saving.shift() as { then: () => void };
    then();
  }
}

export function report(c: Copy): CopyReport {
  return {
    volumeId: c.volumeId, lineage: c.log.lineage, promisedEpoch: c.durable.promisedEpoch, incarnation: c.log.incarnation, lostCache: c.log.lostCache,
    complete: c.durable.complete, lastEpoch: c.log.lastEpoch, lastSeq: c.log.lastSeq, fault: c.durable.fault, attachNumber: c.log.session.attachNumber, asked: c.asked,
  };
}
