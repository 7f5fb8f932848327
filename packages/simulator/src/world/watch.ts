import type { Frame } from '@ashlar/protocol';
import type { CopyStore } from '@ashlar/store';
import type { ServerId } from '@ashlar/words';
import type { Ghost } from '../checks/ghost.ts';

const watched = new WeakSet<CopyStore>();

/** Lets the checks see everything that a store was asked and did. The store itself stays as it is in production. */
export function watchStore(store: CopyStore, serverId: ServerId, ghost: Ghost, leads: () => boolean): void {
  if (watched.has(store)) return;
  watched.add(store);
  const append = store.append.bind(store);
  store.append = (frame: Frame, verify?: boolean) => {
    const result = append(frame, verify);
    if (result === 'ok') ghost.appended(serverId, frame);
    return result;
  };
  const truncate = store.truncate.bind(store);
  store.truncate = (afterSeq) => {
    const result = truncate(afterSeq);
    if (result === 'ok') ghost.truncated(serverId, afterSeq, store.durableSeq);
    return result;
  };
  const restartLog = store.restartLog.bind(store);
  store.restartLog = (lineage, position, epochStarts, session, commonSeq) => {
    const result = restartLog(lineage, position, epochStarts, session, commonSeq);
    if (result === 'ok') ghost.logRestarted(serverId, position.seq, position.chain);
    return result;
  };
  const commit = store.commit.bind(store);
  store.commit = (seq) => {
    commit(seq);
    if (leads()) ghost.committed(serverId, seq);
  };
  const sync = store.sync.bind(store);
  store.sync = (done) => sync((failed) => {
    if (failed === null) ghost.durable(serverId, store.durableSeq);
    done(failed);
  });
  const saveState = store.saveState.bind(store);
  store.saveState = (state, done) => saveState(state, (failed) => {
    if (failed === null) ghost.saved(serverId, state.promisedEpoch, state.complete);
    done(failed);
  });
}
