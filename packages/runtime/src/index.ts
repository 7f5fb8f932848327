export * from './api.ts';
export * from './directory-lock.ts';
export { newLinkToken } from './links.ts';
export { createLog, type LogOptions } from './log.ts';
export { createRuntime } from './runtime.ts';
export { createThreadPool } from './thread/thread-pool.ts';
export { placeByAffinity } from './thread/placement.ts';
export { createBulkPool, type BulkPool, type BulkPoolOptions } from './bulk/bulk-pool.ts';
export { ControlClient, serveControl, type ControlClientOptions } from './thread/control-call.ts';
