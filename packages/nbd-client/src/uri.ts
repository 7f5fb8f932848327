import { AshlarError } from '@ashlar/words';

/** Where an export is, as NBD's own URI scheme says it (NetworkBlockDevice/nbd, doc/uri.md). */
export interface NbdTarget {
  readonly exportName: string;
  readonly tls: boolean;
  readonly address: { readonly path: string } | { readonly host: string; readonly port: number };
}

const DEFAULT_PORT = 10_809;

/** `nbd://host:port/name`, `nbd+unix:///name?socket=/path`, and `nbds…` for TLS. */
export function parseNbdUri(text: string): NbdTarget {
  const match = /^(nbds?)(\+unix)?:/.exec(text);
  if (!match || !URL.canParse(text)) throw new AshlarError('invalid-argument', `"${text}" is not an NBD URI`);
  const url = new URL(text);
  const tls = match[1] === 'nbds';
  const exportName = decodeURIComponent(url.pathname.replace(/^\//, ''));
  if (match[2] === undefined) {
    if (url.hostname === '') throw new AshlarError('invalid-argument', `"${text}" names no host`);
    const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
    return { exportName, tls, address: { host, port: url.port === '' ? DEFAULT_PORT : Number(url.port) } };
  }
  // Not searchParams: they take a plus sign for a space.
  const path = url.search.slice(1).split('&').filter((pair) => pair.startsWith('socket=')).map((pair) => decodeURIComponent(pair.slice('socket='.length)))[0];
  if (path === undefined || path === '') throw new AshlarError('invalid-argument', `"${text}" names no socket`);
  return { exportName, tls, address: { path } };
}
