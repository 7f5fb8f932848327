import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ManagerNode, MANAGER_PARTY } from '@ashlar/control';
import { createLog, createRuntime } from '@ashlar/runtime';
import { serverId } from '@ashlar/words';

/** A system manager as a process of its own, for tests in which it comes and goes while servers and hosts stay. Arguments: directory, link socket, link token, API token, servers. */
const [directory, path, linkToken, token, servers] = process.argv.slice(2) as [string, string, string, string, string];
mkdirSync(directory, { recursive: true });
const log = createLog({ name: MANAGER_PARTY, file: join(directory, 'log') });
const runtime = createRuntime({ name: MANAGER_PARTY, log, token: linkToken });
await runtime.links.listen({ path });
const manager = await ManagerNode.start({ runtime, directory, token, apiPort: 0, timings: { rebuildDelayMs: 2000, expected: servers.split(',').map((name) => serverId(name)) } });
process.once('SIGTERM', () => {
  void manager.stop().then(() => runtime.shutdown()).then(() => process.exit(0));
});
process.stdout.write(`${JSON.stringify({ endpoint: manager.endpoint, token })}\n`);
