import type { ChildArgument } from './child-messages.ts';

/** The processes or the thread in which a site's servers and hosts run. */
export interface Workers {
  /** Resolves when it is ready. Rejects with what it refuses. It is restarted when it ends, until `stop`. */
  start(argument: ChildArgument): Promise<void>;
  /** Has one of this name that can be stopped on its own. */
  has(name: string): boolean;
  /** Has ready what the next start needs, while others go first. Never rejects. */
  prepare(): Promise<void>;
  /** Ends it, in order or by SIGKILL, and leaves it down. */
  hold(name: string, kill?: boolean): Promise<void>;
  /** Starts one that was held. */
  resume(name: string): Promise<void>;
  /** Ends it in order, for good. */
  remove(name: string): Promise<void>;
  /** Ends all of them in order, those started last first. */
  stop(): Promise<void>;
}
