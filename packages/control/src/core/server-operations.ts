import type { ApiCommand } from '@ashlar/protocol';
import { AshlarError, type ServerId } from '@ashlar/words';
import { onlyCopies } from './cluster-views.ts';
import { rebuildBudget } from './rebuilds.ts';
import type { ServerRecord } from './records.ts';
import { note, save } from './store-access.ts';
import { eventOf, unsettle, wallMs, type Manager, type Server } from './state.ts';
import { serverViews } from './views.ts';

type Of<K extends ApiCommand['kind']> = ApiCommand & { readonly kind: K };

const REBUILDS_MAX = 1000;

function known(m: Manager, id: ServerId): Server & { record: ServerRecord } {
  const server = m.servers.get(id);
  if (server?.record === undefined || server.record === null) throw new AshlarError('not-found', `there is no server ${id}`);
  return server as Server & { record: ServerRecord };
}

export function serverLost(m: Manager, requestId: number, { serverId }: Of<'server-lost'>): void {
  const server = known(m, serverId);
  server.lost = true;
  note(m, [eventOf(m, 'server-lost', serverId, 'its disks are lost, says the operator', {}, 'operator')]);
  unsettle(m, server.volumes);
  m.fx.answer(requestId, { ok: true, value: { serverId, volumes: server.volumes.size } });
}

/** Whether its process may be restarted now; the supervisor of processes carries it out. */
export function checkRestart(m: Manager, { serverId, anyway }: Of<'server-restart'>): { readonly serverId: ServerId } {
  const [first, ...others] = anyway ? [] : onlyCopies(m, known(m, serverId));
  if (first === undefined) return { serverId };
  const which = others.length === 0 ? first : `${first} and ${others.length} more`;
  throw new AshlarError('busy', `${serverId} has the only copy in sync of ${which}: programs would wait for its return; try again when they are healthy, or say --anyway`, { retry: 'later' });
}

/** It takes no copies from now on, and those that it has go elsewhere while they are in use. Stays so until it is removed, or `cancel`. */
export function drainServer(m: Manager, requestId: number, { serverId, cancel }: Of<'server-drain'>): void {
  const server = known(m, serverId);
  const draining = cancel !== true;
  const name = draining ? 'server-draining' : 'server-drain-ended';
  // First here: whatever else is saved of it meanwhile must not take it back.
  server.record = { ...server.record, draining };
  save(m, { kind: 'server', id: serverId, value: server.record }, [eventOf(m, name, serverId, 'asked for', { copies: server.volumes.size }, 'operator')], (applied) => {
    if (!applied) return m.fx.answer(requestId, { ok: false, code: 'unavailable', message: 'the metadata store did not answer; ask again' });
    unsettle(m, server.volumes);
    m.fx.answer(requestId, { ok: true, value: serverViews(m).find((view) => view.serverId === serverId) });
  });
}

/** Refused while it holds anything. `check`: says only whether it would be. */
export function removeServer(m: Manager, requestId: number, { serverId, check }: Of<'server-remove'>): void {
  const server = known(m, serverId);
  const holds = server.volumes.size;
  if (holds > 0) throw new AshlarError('in-use', `${serverId} holds ${holds} ${holds === 1 ? 'copy' : 'copies'}; \`ashlar server drain ${serverId}\` moves them away`);
  if (!server.record.draining) throw new AshlarError('in-use', `${serverId} may be given copies at any moment; \`ashlar server drain ${serverId}\` first`);
  const others = [...m.servers.values()].filter((other) => other !== server && other.record !== null).length;
  if (others === 0) throw new AshlarError('invalid-argument', `${serverId} is the last server`);
  if (check === true) return m.fx.answer(requestId, { ok: true, value: { serverId } });
  // First here: whatever else is saved of it meanwhile must not take it back.
  server.record = { ...server.record, removed: true };
  save(m, { kind: 'server', id: serverId, value: { ...server.record, state: 'down' } }, [eventOf(m, 'server-removed', serverId, 'asked for', {}, 'operator')], (applied) => {
    if (!applied) {
      server.record = { ...server.record, removed: false };
      return m.fx.answer(requestId, { ok: false, code: 'unavailable', message: 'the metadata store did not answer; try again' });
    }
    m.servers.delete(serverId);
    m.knownServers.delete(serverId);
    m.removedServers.add(serverId);
    m.fx.answer(requestId, { ok: true, value: { serverId } });
  });
}

export function modifyCluster(m: Manager, requestId: number, { rebuildBudgetBytes, rebuildsAtOnce }: Of<'cluster-modify'>): void {
  const before = rebuildBudget(m);
  const rebuilds = { bytesPerSecond: rebuildBudgetBytes ?? before.bytesPerSecond, atOnce: rebuildsAtOnce ?? before.atOnce };
  if (!(Number.isSafeInteger(rebuilds.bytesPerSecond) && rebuilds.bytesPerSecond >= 0)) throw new AshlarError('invalid-argument', '--rebuild-budget is a number of bytes a second, 0 for no limit');
  if (!(Number.isSafeInteger(rebuilds.atOnce) && rebuilds.atOnce >= 1 && rebuilds.atOnce <= REBUILDS_MAX)) throw new AshlarError('invalid-argument', `--rebuilds-at-once is between 1 and ${REBUILDS_MAX}`);
  const { siteId } = m.options;
  save(m, { kind: 'site', id: siteId, value: { siteId, createdAtMs: wallMs(m), rebuilds } }, [eventOf(m, 'cluster-modified', siteId, 'asked for', { ...rebuilds }, 'operator')], (applied) => {
    if (!applied) return m.fx.answer(requestId, { ok: false, code: 'unavailable', message: 'the metadata store did not answer; look at the state before trying again' });
    m.rebuildBudget = rebuilds;
    m.fx.answer(requestId, { ok: true, value: { siteId, rebuilds } });
  });
}
