import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../site/site.ts';
import { startServer } from '../../site/process.ts';
import type { Target, TargetOptions } from './target.ts';

/** Our NBD front end over memory that keeps what is written: what the front end alone costs. */
export function memoryServer(options: TargetOptions & { readonly env?: Readonly<Record<string, string>> }): Target {
  return {
    name: 'ashlar-memory', title: 'Ashlar NBD front end over memory',
    start: async () => {
      mkdirSync(options.directory, { recursive: true });
      const socket = join(options.directory, 'memory.sock');
      const main = join(ROOT, 'packages/host/src/nbd-server/memory-main.ts');
      const server = await startServer(process.execPath, [main, '--socket', socket, '--size', String(options.sizeBytes)], socket, options.env);
      return {
        uri: `nbd+unix:///?socket=${socket}`, pids: () => [server.pid], note: async () => null, verify: async () => null, stop: () => server.stop(), farewell: () => null,
      };
    },
  };
}
