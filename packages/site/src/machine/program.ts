import { join } from 'node:path';
import { MANAGER_ADDRESS } from '@ashlar/control';
import { ClusterTrust } from '@ashlar/identity';
import { controlAt, NodeManager } from '@ashlar/node-manager';
import { createLog, createRuntime, DirectoryLock, newLinkToken } from '@ashlar/runtime';
import { AshlarError, hostId } from '@ashlar/words';
import { linkToCluster } from '../cluster-links.ts';
import { daemonParty, partiesOf, type MachineConfig } from './config.ts';
import { DaemonActor } from './daemon-actor.ts';
import { membershipOf, unwrittenRoster } from './membership.ts';
import { Renewal } from './renewal.ts';

export interface ClusterProgramOptions {
  /** What outlives the program: its key and certificate, its attachments, its log. One running program each; never copied. */
  readonly directory: string;
  /** The name under which the cluster knows this program, as a machine of its own: 1 to 52 of a-z, 0-9 and -. */
  readonly name: string;
  /** Where the cluster is joined: `https://10.0.0.1:7401`. */
  readonly url: string;
  /** From `ashlar cluster invite --roles host`. Used the first time; later starts have a certificate. */
  readonly secret?: string;
  /** Of the cluster's API. */
  readonly token: string;
}

const SHUTDOWN_MS = 5000;

/**
 * Joins a cluster of machines with this program as a host: volumes are attached in this process, over links with certificates on both sides. Rejects with
 * `directory-locked`, `untrusted` (wrong, used or expired secret; removed), `unavailable`, `unauthorized`; nothing runs then.
 */
export async function joinCluster({ directory, name, url, secret, token }: ClusterProgramOptions): Promise<NodeManager> {
  const lock = DirectoryLock.acquire(directory);
  const config: MachineConfig = {
    name, directory, listen: 'nowhere', manager: null, storage: null, host: { id: hostId(`${name}-host`), directory: join(directory, 'host'), sockets: null },
    join: { url, secret: secret ?? null, secretFile: null }, frozenKillAfterMs: 0,
  };
  let release = (): Promise<void> => Promise.resolve(lock.release());
  try {
    const { identity, renewed } = await membershipOf(config);
    const trust = new ClusterTrust(identity.credentials, identity.roster);
    const party = daemonParty(config);
    const host = hostId(`${name}-host`);
    const log = createLog({ name: host, file: join(directory, 'node-manager.log') });
    // Nobody links to this process, so that its own token is nobody's.
    const runtime = createRuntime({ name: party, log, token: newLinkToken(), trust, parties: [party, host] });
    const apply = (): void => {
      trust.update(identity.credentials, identity.roster);
      linkToCluster(runtime, { machine: name, roster: identity.roster, local: {} });
    };
    const renewal = new Renewal(identity, renewed, log, (credentials) => {
      identity.renew(credentials);
      apply();
    });
    release = async () => {
      renewal.stop();
      await runtime.shutdown();
      lock.release();
    };
    const outcome = runtime.start({
      kind: 'actor', id: 'daemon', address: `${party}/daemon`, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
      start: (context) => new DaemonActor(context, partiesOf(config), () => identity.roster, (roster) => { if (identity.learn(roster, unwrittenRoster(log))) apply(); }),
    });
    if (outcome !== 'started') throw new AshlarError('internal', 'the actor of the program could not be started');
    apply();
    const control = controlAt(() => ({ endpoint: url.replace(/^https:/, 'wss:'), token, ca: identity.credentials.ca }));
    return await NodeManager.embed({ hostId: host, directory: join(directory, 'host'), runtime, managerAddress: MANAGER_ADDRESS, control }, release);
  } catch (error) {
    await release();
    throw error;
  }
}
