import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../nbd-clients.ts';

const SOURCES = '/etc/apt/sources.list.d/debian.sources';

/**
 * The original tarball of a Debian source package, checked by apt against Debian's signatures. This machine's own lists stay as
 * they are: most have no source packages in them.
 */
export async function debianSource(name: string, folder: string): Promise<string> {
  const [lists, parts, into] = ['lists', 'parts', 'source'].map((part) => join(folder, `apt-${part}`)) as [string, string, string];
  for (const made of [join(lists, 'partial'), parts, into]) mkdirSync(made, { recursive: true });
  writeFileSync(join(parts, 'source.sources'), readFileSync(SOURCES, 'utf8').replaceAll(/^Types:.*$/gm, 'Types: deb-src'));
  const options = ['-qq', '-o', 'Dir::Etc::sourcelist=/dev/null', '-o', `Dir::Etc::sourceparts=${parts}`, '-o', `Dir::State::lists=${lists}`, '-o', 'APT::Sandbox::User=root'];
  await run('apt-get', 'update', ...options);
  await run('sh', '-c', 'cd "$1" && shift && apt-get source --download-only "$@"', 'fetch', into, ...options, name);
  const tarball = readdirSync(into).find((file) => file.startsWith(`${name}_`) && /\.orig\.tar\.\w+$/.test(file));
  if (tarball === undefined) throw new Error(`no tarball of ${name} among ${readdirSync(into).join(', ')}`);
  return join(into, tarball);
}
