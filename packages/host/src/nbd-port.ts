import type { NbdBackend } from '@ashlar/nbd';
import type { LinkAddress, Runtime } from '@ashlar/runtime';

/** What a listener shows. Asked anew for every connection. */
export interface NbdExports {
  find(name: string): NbdBackend | undefined;
  list(): readonly string[];
}

export interface NbdListener {
  /** The address in use: the port that was given out, for port 0. */
  readonly address: LinkAddress;
  /** Drops every connection of an export at once. */
  disconnect(name: string): void;
  connections(): number;
  close(): Promise<void>;
}

/** Accepts NBD clients. The NBD server in production, a fake in tests. */
export type ListenNbd = (options: { readonly runtime: Runtime; readonly exports: NbdExports; readonly address: LinkAddress }) => Promise<NbdListener>;
