export { DroppingBackend } from './dropping-backend.ts';
export type { NbdTls } from './connection.ts';
export { MemoryBackend, type MemoryBackendOptions } from './memory-backend.ts';
export { type NbdAddress, NbdServer, type NbdServerOptions } from './server.ts';
