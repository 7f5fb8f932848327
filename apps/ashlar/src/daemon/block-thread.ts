import { parentPort, workerData } from 'node:worker_threads';
import { createLog, createRuntime } from '@ashlar/runtime';
import { AshlarError, errorCode } from '@ashlar/words';
import type { ChildArgument, ToChild, ToParent } from './child-messages.ts';
import { place } from './parties.ts';

/** The thread in which all copies and attachments of an embedded site live, so that a request crosses no thread. */

const { name, logFile, linkToken, ...parties } = workerData as ChildArgument;
const log = createLog({ name, file: logFile });
const runtime = createRuntime({ name, log, token: linkToken });

function tell(message: ToParent): void {
  parentPort?.postMessage(message);
}

parentPort?.on('message', (message: ToChild) => {
  if (message.kind === 'ping') return tell({ kind: 'pong' });
  if (message.kind === 'stop') void runtime.shutdown().finally(() => parentPort?.close());
});

try {
  await place(runtime, parties);
  tell({ kind: 'ready' });
} catch (error) {
  log.error({ error }, 'cannot start');
  tell({ kind: 'refused', code: errorCode(error), message: error instanceof AshlarError ? error.message : String(error) });
  await runtime.shutdown();
  parentPort?.close();
}
