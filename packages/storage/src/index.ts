export { copyAddress } from './copy-actor.ts';
export * from './copy-driver.ts';
export { Directories } from './directories.ts';
export { NodeDisk } from './disk/node-disk.ts';
export * from './reply-memory.ts';
export { handOver, StorageNode, type StorageNodeOptions } from './storage-node.ts';
