import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { ServerPlace } from '@ashlar/control';
import { siteLinks } from '@ashlar/node-manager';
import { newLinkToken, sealJson, unsealJson } from '@ashlar/runtime';
import { AshlarError } from '@ashlar/words';
import type { SiteLayout } from './layout.ts';

/** What a site consists of. Written at its first start; docs/formats/directories.md. */
export interface SiteFile {
  readonly format: 1;
  /** The highest number that a server has or had: `server-1` to this one, but for those that were removed. */
  readonly servers: number;
  /** Numbers of servers that were removed. They are not given again. */
  readonly removed?: readonly number[];
  /** By server's name; those that it leaves out are nowhere in particular. */
  readonly places?: Readonly<Record<string, ServerPlace>>;
  readonly disks: number;
  /** The port of the API, kept so that clients find it again. 0: none yet. */
  readonly apiPort: number;
}

/** Files of the first versions, without a checksum, had just these. */
const SITE_KEYS = ['format', 'servers', 'disks', 'apiPort'] as const satisfies readonly (keyof SiteFile)[];

export interface Asked {
  readonly servers?: number;
  readonly disks?: number;
  /** Of the first server, the second, and so on; as before where it is left out. */
  readonly places?: readonly ServerPlace[];
}

const SERVERS_DEFAULT = 3;
const SERVERS_MAX = 64;
const DISKS_MAX = 64;

/** The site as it is to be started. A smaller one than before is refused: the copies of the servers left out would be missing. */
export function siteFor(layout: SiteLayout, asked: Asked): SiteFile {
  const known = readSite(layout);
  const servers = asked.servers ?? (known === null ? SERVERS_DEFAULT : known.servers - (known.removed?.length ?? 0));
  const disks = asked.disks ?? known?.disks ?? 1;
  within('--servers', servers, SERVERS_MAX);
  within('--disks', disks, DISKS_MAX);
  const gone = known?.removed?.length ?? 0;
  if (known && servers < known.servers - gone) throw new AshlarError('invalid-argument', `this site has ${known.servers - gone} servers; --servers ${servers} would leave out the copies on the others (\`ashlar server drain\` and \`ashlar server remove\` make it smaller)`, { path: layout.root });
  if (known && disks !== known.disks) throw new AshlarError('invalid-argument', `this site's servers have ${known.disks} disks each; copies are striped over all of them, so that --disks cannot become ${disks}`, { path: layout.root });
  let site: SiteFile = known ?? { format: 1, servers, disks, apiPort: 0 };
  while (serverNames(site).length < servers) site = withServer(site, {}).site;
  const places = Object.fromEntries(serverNames(site).map((name, i) => [name, asked.places?.[i] ?? site.places?.[name] ?? {}]).filter(([, place]) => Object.keys(place as object).length > 0));
  return Object.keys(places).length === 0 ? site : { ...site, places };
}

export function serverNames({ servers, removed = [] }: SiteFile): string[] {
  return Array.from({ length: servers }, (_, i) => i + 1).filter((n) => !removed.includes(n)).map((n) => `server-${n}`);
}

/** One more, under a number that nobody had. */
export function withServer(site: SiteFile, place: ServerPlace): { readonly site: SiteFile; readonly name: string } {
  within('--servers', serverNames(site).length + 1, SERVERS_MAX);
  const name = `server-${site.servers + 1}`;
  const places = Object.keys(place).length === 0 ? site.places : { ...site.places, [name]: place };
  return { name, site: { ...site, servers: site.servers + 1, ...(places === undefined ? {} : { places }) } };
}

export function withoutServer(site: SiteFile, name: string): SiteFile {
  const { [name]: _gone, ...places } = site.places ?? {};
  return { ...site, removed: [...new Set([...(site.removed ?? []), Number(name.slice('server-'.length))])], ...(site.places === undefined ? {} : { places }) };
}

export function saveSite(layout: SiteLayout, site: SiteFile): void {
  replaceFile(layout.siteFile, sealJson(site));
}

/** The operator's token: made once, readable by the owner alone. */
export function operatorToken(layout: SiteLayout): string {
  if (!existsSync(layout.tokenFile)) replaceFile(layout.tokenFile, `${randomBytes(24).toString('base64url')}\n`);
  return readFileSync(layout.tokenFile, 'utf8').trim();
}

/** Kept, so that programs which are linked to the site find it again after it was started anew. */
export function linkTokenOf(layout: SiteLayout): string {
  return siteLinks(layout.root)?.linkToken ?? newLinkToken();
}

/** Whole or not at all, also if the machine stops in the middle. */
export function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true });
  renameSync(`${path}.new`, path);
}

function readSite({ siteFile }: SiteLayout): SiteFile | null {
  if (!existsSync(siteFile)) return null;
  // What an intact file says was checked before it was written.
  const site = unsealJson(readFileSync(siteFile, 'utf8'), SITE_KEYS) as SiteFile | null;
  if (site === null) throw new AshlarError('corrupt', `${siteFile} is damaged: it does not say any more how many servers and disks this site has`, { path: siteFile });
  if (site.format !== 1) throw new AshlarError('format-unsupported', `${siteFile} has format ${String(site.format)}; this version knows 1`, { path: siteFile });
  return site;
}

function within(option: string, value: number, max: number): void {
  if (!Number.isSafeInteger(value) || value < 1 || value > max) throw new AshlarError('invalid-argument', `${option} is a whole number from 1 to ${max}`);
}
