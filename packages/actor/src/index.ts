export * from './actor.ts';
export * from './address.ts';
export * from './child-spec.ts';
export * from './limits.ts';
export * from './restart-history.ts';
export * from './supervisor.ts';
