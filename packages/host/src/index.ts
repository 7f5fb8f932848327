export { exportName } from './export-name.ts';
export * from './host-node.ts';
export { DroppingBackend, MemoryBackend, type NbdAddress, NbdServer, type NbdServerOptions, type NbdTls } from './nbd-server/index.ts';
export type { AttachmentClient, LocalFailure } from '@ashlar/attachment';
export type { NbdBackend } from '@ashlar/nbd';
