export * from './api.ts';
export * from './directory-lock.ts';
export { newLinkToken } from './links.ts';
export { createLog, type LogOptions } from './log.ts';
export { createRuntime } from './runtime.ts';
export { createThreadPool } from './thread/thread-pool.ts';
export { placeByAffinity } from './thread/placement.ts';
