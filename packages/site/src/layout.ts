import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { AshlarError } from '@ashlar/words';

/** @hidden Where everything of a site on one machine lies. docs/formats/directories.md */
export interface SiteLayout {
  readonly root: string;
  /** Metadata store of the system manager. */
  readonly manager: string;
  readonly log: string;
  /** Compiled code of this program; may be removed at any time. */
  readonly codeCache: string;
  readonly tokenFile: string;
  /** What the site consists of, so that it is the same when it is started again. */
  readonly siteFile: string;
  /** How other processes of this user link to the site. */
  readonly linksFile: string;
  /** Where the running site's API is. */
  readonly endpointFile: string;
  /** Short, because a unix socket's path may have 107 bytes; derived from the root, so that it is the same after a restart. */
  readonly sockets: string;
  serverDirectories(server: string, disks: number): readonly string[];
  hostDirectory(host: string): string;
  linkSocket(party: string): string;
}

export function defaultRoot(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const dataHome = env['XDG_DATA_HOME'] || join(homedir(), '.local', 'share');
  return join(dataHome, 'ashlar');
}

/** The site in the default directory, as it was when it was last started; null if there is none, or it is somebody else's. */
export function defaultSite(env: Readonly<Record<string, string | undefined>>): { readonly endpoint: string; readonly token: string } | null {
  const root = defaultRoot(env);
  try {
    return { endpoint: readFileSync(join(root, 'endpoint'), 'utf8').trim(), token: readFileSync(join(root, 'token'), 'utf8').trim() };
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === 'ENOENT' || code === 'EACCES' || code === 'ENOTDIR') return null;
    throw error;
  }
}

export function siteLayout(directory: string): SiteLayout {
  const root = resolve(directory);
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const sockets = socketDirectory(root);
  return {
    root, sockets,
    manager: join(root, 'manager'),
    log: join(root, 'log'),
    codeCache: join(root, 'code-cache'),
    tokenFile: join(root, 'token'),
    siteFile: join(root, 'site.json'),
    linksFile: join(root, 'links.json'),
    endpointFile: join(root, 'endpoint'),
    serverDirectories: (server, disks) => Array.from({ length: disks }, (_, i) => join(root, 'servers', server, `disk-${i + 1}`)),
    hostDirectory: (host) => join(root, 'hosts', host),
    linkSocket: (party) => join(sockets, `${party}.link`),
  };
}

/** Where sockets of the site in this directory are. */
export function socketDirectoryOf(root: string): string {
  return join(tmpdir(), `ashlar-${userInfo().uid}`, createHash('sha256').update(root).digest('hex').slice(0, 12));
}

/** Only its owner may enter: whoever can connect to a socket in it may read volumes. */
function socketDirectory(root: string): string {
  const { uid } = userInfo();
  const path = socketDirectoryOf(root);
  mkdirSync(path, { recursive: true, mode: 0o700 });
  for (const directory of [dirname(path), path]) {
    const stat = statSync(directory);
    if (stat.uid !== uid) throw new AshlarError('directory-foreign', `${directory} belongs to another user`, { path: directory });
    chmodSync(directory, 0o700);
  }
  return path;
}
