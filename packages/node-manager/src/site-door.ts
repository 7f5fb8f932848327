import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Address, Party } from '@ashlar/actor';
import { sealJson, unsealJson } from '@ashlar/runtime';
import { AshlarError } from '@ashlar/words';

/** @hidden `links.json` in a site's directory: how other processes of this user link to the site (docs/formats/directories.md). */
export interface SiteFiles {
  readonly format: 1;
  /** Both ends of a link have it. */
  readonly linkToken: string;
  readonly managerParty: Party;
  readonly managerAddress: Address;
  /** The unix socket behind which the system manager is. */
  readonly managerPath: string;
}

const KEYS = ['format', 'linkToken', 'managerParty', 'managerAddress', 'managerPath'] as const satisfies readonly (keyof SiteFiles)[];
const FILE = 'links.json';

/** What a program needs to know of a site on this machine. Read anew each time: a site that is started again may have another port. */
export interface SiteDoor {
  readonly endpoint: string;
  readonly token: string;
  readonly links: SiteFiles;
}

/** Throws `unavailable` if no site was started in this directory. */
export function siteDoor(directory: string): SiteDoor {
  try {
    const text = (name: string): string => readFileSync(join(directory, name), 'utf8');
    const links = siteLinks(directory);
    if (links !== null) return { endpoint: text('endpoint').trim(), token: text('token').trim(), links };
  } catch (error) {
    if (error instanceof AshlarError) throw error;
    throw noSite(directory, error);
  }
  throw noSite(directory, undefined);
}

function noSite(directory: string, cause: unknown): AshlarError {
  return new AshlarError('unavailable', `${directory} is not the directory of a site that this user has started`, { path: directory, cause });
}

/** @hidden Null: there is no such file. Throws `corrupt` or `format-unsupported`. */
export function siteLinks(directory: string): SiteFiles | null {
  const path = join(directory, FILE);
  if (!existsSync(path)) return null;
  const links = unsealJson(readFileSync(path, 'utf8'), KEYS) as SiteFiles | null;
  if (links === null) throw new AshlarError('corrupt', `${path} is damaged; remove it, and the next start of the site writes it anew`, { path });
  if (links.format !== 1) throw new AshlarError('format-unsupported', `${path} has format ${String(links.format)}; this version knows 1`, { path });
  return links;
}

/** @hidden The file's contents, for who starts a site. */
export function siteLinksFile(files: SiteFiles): string { return sealJson(files); }
