export * from './api-commands.ts';
export * from './api-messages.ts';
export * from './configuration.ts';
export * from './frame.ts';
export * from './messages.ts';
export * from './control-messages.ts';
export * from './receive-memory.ts';
export * from './keeping.ts';
