export { type ChainFindings, ChainWriter } from './chain-writer.ts';
export { Histogram, type LatencySummary } from './histogram.ts';
export { Load, type LoadResult, runLoad } from './load.ts';
export type { LoadOptions, LoadTarget } from './options.ts';
export { type Stall, StallLog } from './stalls.ts';
export { type ReadTicket, Verifier, type VerifierOptions, type Violation, type WriteTicket } from './verifier.ts';
export type { RequestError } from './volume-load.ts';
