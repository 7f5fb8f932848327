import type { MessagePort } from 'node:worker_threads';
import type { PlacedActors, RuntimeView } from '../api.ts';
import type { LogOptions } from '../log.ts';
import type { ThreadChannel } from './thread-link.ts';

/** What a thread of the pool is started with. */
export interface ThreadStart {
  readonly name: string;
  readonly log: Omit<LogOptions, 'name'>;
  readonly token: string;
  readonly control: MessagePort;
}

/** The control calls that the pool makes into each of its threads. */
export interface ThreadControl {
  /** Placing what is there already does nothing. */
  place(group: PlacedActors): Promise<void>;
  remove(id: string): Promise<void>;
  inspect(): RuntimeView;
  join(channel: ThreadChannel): void;
  shutdown(): Promise<void>;
}

export const CONTROL_METHODS = ['place', 'remove', 'inspect', 'join', 'shutdown'] as const satisfies readonly (keyof ThreadControl)[];
