export * from './core.ts';
export * from './effects.ts';
export * from './limits.ts';
export * from './reservation.ts';
export { RequestTotals } from './totals.ts';
