import type { ErrorCode } from '@ashlar/words';
import type { RawData } from 'ws';
import type { ApiCommand, EventRecord } from './core/index.ts';

/** The API's WebSocket: one JSON document a message. The token goes into the upgrade request's `authorization: Bearer …`. */
export type ApiRequest =
  | { readonly id: number; readonly command: ApiCommand }
  | { readonly id: number; readonly events: { readonly after?: number; readonly subject?: string; readonly max?: number; readonly follow: boolean } };

export type ApiResponse =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: ApiError }
  /** One of the events asked for; `follow` goes on until the connection ends. */
  | { readonly id: number; readonly event: EventRecord };

export interface ApiError {
  readonly code: ErrorCode;
  /** What happened. */
  readonly message: string;
  /** What it means for the data. */
  readonly effect: string;
  /** What to do. */
  readonly action: string;
  readonly requestId: string;
}

/** A message of the WebSocket, which is text. */
export function messageText(data: RawData): string {
  if (Array.isArray(data)) return Buffer.concat(data).toString();
  return Buffer.isBuffer(data) ? data.toString() : Buffer.from(data).toString();
}
