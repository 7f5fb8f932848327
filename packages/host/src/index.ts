export * from './host-node.ts';
export type { ListenNbd, NbdExports, NbdListener } from './nbd-port.ts';
