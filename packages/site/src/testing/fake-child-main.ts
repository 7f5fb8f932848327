/** A child process for tests: does what its argument says. */
import { appendFileSync } from 'node:fs';
import type { ToChild, ToParent } from '../child-messages.ts';

const tell = (message: ToParent): void => { process.send?.(message, undefined, undefined, () => {}); };
let silent = false;

process.on('message', (message: ToChild) => {
  switch (message.kind) {
    case 'cluster': return;
    case 'ping': return silent ? undefined : tell({ kind: 'pong' });
    case 'stop': return process.exit(0);
    case 'start': {
      const { logFile, linkToken } = message.argument;
      appendFileSync(logFile, `${process.pid}\n`);
      if (linkToken === 'refuse') {
        tell({ kind: 'refused', code: 'directory-foreign', message: 'not mine' });
        return process.exit(1);
      }
      if (linkToken === 'silent') silent = true;
      return tell({ kind: 'ready' });
    }
  }
});
process.on('disconnect', () => process.exit(0));
