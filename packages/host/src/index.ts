export * from './host-node.ts';
export { DroppingBackend, MemoryBackend, type NbdAddress, NbdServer, type NbdServerOptions, type NbdTls } from './nbd-server/index.ts';
export type { NbdBackend } from '@ashlar/nbd';
