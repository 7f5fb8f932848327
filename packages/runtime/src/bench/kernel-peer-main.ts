import { createLog } from '../log.ts';
import { createRuntime } from '../runtime.ts';
import { place } from './answering-group.ts';

/** The other process of the measurement: argument 2 is the socket to listen on. Ends with its parent. */
const runtime = createRuntime({ name: 'there', log: createLog({ name: 'there', level: 'warn' }), token: 'bench', parties: ['there'] });
place(runtime);
await runtime.links.listen({ path: process.argv[2] as string });
process.send?.('ready');
process.on('disconnect', () => void runtime.shutdown());
