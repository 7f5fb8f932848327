import type { ErrorCode } from '@ashlar/words';
import type { ApiCall } from './api-commands.ts';

/** The API's WebSocket: one JSON document a message. The token goes into the upgrade request's `authorization: Bearer …`. */
export type ApiRequest =
  | { readonly id: number; readonly command: ApiCall }
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

/** What happened, to whom, when, by whom and why. Appended with the change that it tells of, in one transaction. */
export interface EventRecord {
  /** Rising by one; the cursor of `events --follow`. */
  readonly sequence: number;
  /** Wall clock, milliseconds since 1970. */
  readonly atMs: number;
  readonly name: string;
  /** A volume, server, host or site id. */
  readonly subject: string;
  /** `manager`, `operator`, `supervisor`, or the id of the server or host that told of it. */
  readonly source: string;
  readonly reason: string;
  readonly detail: EventDetail;
}

export type EventDetail = Readonly<Record<string, string | number | boolean>>;
