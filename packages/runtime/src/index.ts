export * from './api.ts';
export * from './directory-lock.ts';
