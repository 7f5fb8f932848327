export * from './copy-driver.ts';
export * from './reply-memory.ts';
