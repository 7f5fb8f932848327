import { ClusterTrust } from '@ashlar/identity';
import { createLog, createRuntime } from '@ashlar/runtime';
import { handOver } from '@ashlar/storage';
import { AshlarError, errorCode, serverId } from '@ashlar/words';
import { COMPILE_ONLY, type ChildArgument, type ClusterArgument, type ToChild, type ToParent } from './child-messages.ts';
import { linkToCluster } from './cluster-links.ts';
import { place } from './parties.ts';
import { shiftedClock, surroundingsOf } from './surroundings.ts';

/** An orderly end may take so long when nobody waits for it any more. */
const ORPHAN_STOP_MS = 5000;

const name = process.argv[2] ?? 'child';
if (name === COMPILE_ONLY) process.exit(0);
// What `ps` shows.
process.title = `ashlard ${name}`;
/** Others take over from its servers. */
let leave: (() => Promise<unknown>) | null = null;
let stop: (() => Promise<void>) | null = null;
/** What was told last, also before there was anything here to follow it. */
let cluster: ClusterArgument | null = null;
let follow: ((cluster: ClusterArgument) => void) | null = null;
let ending = false;

function tell(message: ToParent): void {
  process.send?.(message, undefined, undefined, () => {});
}

async function start({ name: _name, logFile, linkToken, cluster: first, ...parties }: ChildArgument): Promise<void> {
  const log = createLog({ name, file: logFile });
  const trust = first === undefined ? null : new ClusterTrust(first.credentials, first.roster);
  const { clockShiftMs, bootId, links } = surroundingsOf(name, process.env);
  const runtime = createRuntime({ name, log, token: linkToken, ...(trust === null ? {} : { trust }), ...(clockShiftMs === 0 ? {} : { clock: shiftedClock(clockShiftMs) }) });
  const connect = parties.connect.map(({ party, address }) => ({ party, address: links[party] === undefined ? address : { path: links[party] } }));
  process.on('uncaughtException', (error) => {
    // State of unknown shape must not go on answering; the supervisor starts a process that reads it from disk.
    log.error({ error }, 'a defect outside of every actor; the process ends');
    process.exit(70);
  });
  stop = () => runtime.shutdown();
  leave = () => Promise.all(parties.servers.map((server) => handOver(runtime, serverId(server.serverId))));
  try {
    await place(runtime, { ...parties, connect }, bootId);
    if (trust !== null && first !== undefined) {
      follow = (newer) => {
        trust.update(newer.credentials, newer.roster);
        linkToCluster(runtime, { ...newer, roster: trust.roster });
      };
      follow(cluster ?? first);
    }
  } catch (error) {
    log.error({ error }, 'cannot start');
    tell({ kind: 'refused', code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
    setTimeout(() => process.exit(1), 100);
    return;
  }
  tell({ kind: 'ready' });
}

async function end(code: number): Promise<void> {
  if (ending) return;
  ending = true;
  await leave?.();
  const late = setTimeout(() => process.exit(code), ORPHAN_STOP_MS);
  await stop?.();
  clearTimeout(late);
  process.exit(code);
}

process.on('message', (message: ToChild) => {
  switch (message.kind) {
    case 'ping': return tell({ kind: 'pong' });
    case 'cluster':
      cluster = message.cluster;
      return follow?.(cluster);
    case 'start': return void start(message.argument);
    case 'stop': return void end(0);
  }
});
process.on('disconnect', () => void end(0));
// The terminal sends its interrupt to every process of the group; the parent decides.
process.on('SIGINT', () => {});
process.on('SIGTERM', () => void end(0));
