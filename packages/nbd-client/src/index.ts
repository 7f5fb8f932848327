export { listExports, NbdClient, type NbdClientOptions, type RequestOptions, type WriteOptions, type ZeroOptions } from './client.ts';
export { NbdRequestError } from './errors.ts';
export type { ExportInfo, ListedExport } from './negotiate.ts';
export type { Extent } from './request.ts';
export { type NbdTarget, parseNbdUri } from './uri.ts';
