export * from './core/index.ts';
export { MANAGER_ADDRESS, MANAGER_PARTY } from './manager-actor.ts';
export { ManagerNode, type Machine, type ManagerNodeOptions, type ServerPlace } from './manager-node.ts';
export { SqliteStore } from './sqlite-store.ts';
