export * from './blocks.ts';
export * from './copy-store.ts';
export * from './disk.ts';
export * from './limits.ts';
export { DestageBuffer, PageCache } from './resources.ts';
