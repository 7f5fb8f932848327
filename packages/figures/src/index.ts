export * from './definitions.ts';
export * from './histogram.ts';
export * from './samples.ts';
export { prometheusText } from './text.ts';
