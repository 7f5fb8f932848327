import { BUILD } from '@ashlar/runtime';
import { Machine, readConfig } from '@ashlar/site';
import { AshlarError, errorCode } from '@ashlar/words';
import { Command } from 'commander';
import { tellReady } from './cli/service.ts';

const program = new Command('ashlard').description('one machine of a cluster: what its configuration says of manager, storage and host')
  .version(BUILD)
  .requiredOption('--config <file>', 'its configuration', '/etc/ashlar/ashlard.yaml')
  .option('--json', 'one JSON document when it is ready')
  .parse();
const options = program.opts<{ config: string; json?: boolean }>();

try {
  const ended = new Promise<void>((resolve) => {
    process.once('SIGINT', resolve);
    process.once('SIGTERM', resolve);
  });
  const machine = await Machine.start(readConfig(options.config));
  const { endpoint, tokenFile, authorityFile } = machine;
  const lines = endpoint === null ? ['ready'] : ['ready. Elsewhere, with copies of these files:', '', `  export ASHLAR_ENDPOINT=${endpoint}`, `  export ASHLAR_TOKEN=$(cat ${tokenFile})`, `  export ASHLAR_CA=${authorityFile}`];
  // The token itself is not printed: what a daemon prints is kept in a journal that many may read.
  process.stdout.write(options.json === true ? `${JSON.stringify({ ready: true, endpoint, tokenFile, authorityFile })}\n` : `${lines.join('\n')}\n`);
  await tellReady(endpoint === null ? 'a machine of a cluster' : `the manager of a cluster, with its API at ${endpoint}`);
  await ended;
  await machine.stop();
  process.exitCode = 0;
} catch (error) {
  const message = error instanceof AshlarError ? error.explain() : error instanceof Error ? (error.stack ?? error.message) : String(error);
  process.stderr.write(`ashlard: ${message}\n`);
  process.exitCode = errorCode(error) === 'invalid-argument' ? 2 : 1;
}
