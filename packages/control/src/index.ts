export * from './core/index.ts';
export { CLUSTER_ADDRESS, type MachineHello, type RosterMessage } from './cluster-actor.ts';
export { MANAGER_ADDRESS, MANAGER_PARTY } from './manager-actor.ts';
export { ManagerNode, type Machine, type ManagerClusterOptions, type ManagerNodeOptions, type ServerPlace } from './manager-node.ts';
export { SqliteStore } from './sqlite-store.ts';
