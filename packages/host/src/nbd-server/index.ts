export type { NbdTls } from './connection.ts';
export { DroppingBackend } from './dropping-backend.ts';
export { MemoryBackend } from './memory-backend.ts';
export { type NbdAddress, NbdServer, type NbdServerOptions } from './server.ts';
