export * from './beacon.ts';
export { CopyCore } from './copy.ts';
export { newCopyState } from './durable.ts';
export * from './effects.ts';
export * from './history.ts';
export * from './limits.ts';
export { copiesInSync } from './status.ts';
export type { MissedAs } from './retiring.ts';
export type { Copy, CopyInput, Counts, Leader, OpenExtent, Peer, Session } from './state.ts';
