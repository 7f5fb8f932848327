export * from './host-node.ts';
