export * from './assert.ts';
export * from './checksum.ts';
export * from './errors.ts';
export * from './geometry.ts';
export * from './ids.ts';
export * from './limits.ts';
export * from './prng.ts';
export * from './sizes.ts';
