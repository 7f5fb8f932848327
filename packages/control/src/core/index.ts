export * from './authorize.ts';
export { ManagerCore } from './manager.ts';
export * from './manager-messages.ts';
export * from './memory-ledger.ts';
export * from './memory-store.ts';
export * from './metadata-store.ts';
export * from './records.ts';
