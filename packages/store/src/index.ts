export * from './blocks.ts';
export * from './copy-store.ts';
export * from './disk.ts';
export type { FillRead } from './fills.ts';
export * from './limits.ts';
export { DestageBuffer, PageCache } from './resources.ts';
export { MemoryDisk, type DiskFault, type DiskOperation, type RecordedChange } from './memory-disk.ts';
export { MemoryImage } from './memory-file.ts';
export { createCopy, openCopy } from './open.ts';
