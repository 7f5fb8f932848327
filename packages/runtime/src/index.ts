export * from './api.ts';
export * from './directory-lock.ts';
export { newLinkToken } from './links.ts';
export { createLog, type LogOptions } from './log.ts';
export { createRuntime } from './runtime.ts';
