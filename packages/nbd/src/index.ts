export type { NbdBackend, NbdBackendLimits, NbdDevice, NbdReplies } from './backend.ts';
export * from './constants.ts';
export { type ExportDirectory, NbdExport } from './export.ts';
export type { TlsMode } from './handshake.ts';
export { RequestBatch } from './request-batch.ts';
export { ServerSession, type SessionPort } from './session.ts';
export { decodeUtf8, encodeUtf8 } from './text.ts';
