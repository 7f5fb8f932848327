export * from './host-node.ts';
export { DroppingBackend, MemoryBackend, type NbdAddress, NbdServer, type NbdServerOptions } from './nbd-server/index.ts';
