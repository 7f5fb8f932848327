import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { copyClosure, sizeBytes } from './closure.ts';

/**
 * `pnpm deb [FOLDER]`: makes a package for Debian 12 and later, of the commit that is checked out, in FOLDER (default: dist). Prints its path.
 * Everything that is needed is inside: Node too, from the `node-linux-…` dependency.
 */

const ROOT = join(import.meta.dirname, '../..');
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', arm64: 'arm64' };
/** Where the program lies on the machine. */
const HOME = 'usr/lib/ashlar';
const NODE = `/${HOME}/node`;

const git = (...args: string[]): string => execFileSync('git', args, { cwd: ROOT, encoding: 'utf8' }).trim();
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

function write(path: string, text: string, mode = 0o644): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
}

/** A command of the program, by a Node that is given with it. */
function launcher(module: string): string {
  return `#!/bin/sh\nexec ${NODE} /${HOME}/apps/ashlar/src/${module} "$@"\n`;
}

function build(tree: string, commit: string): void {
  copyClosure(ROOT, 'apps/ashlar', join(tree, HOME));
  write(join(tree, HOME, 'packages/runtime/COMMIT'), `${commit}\n`);
  copyFileSync(realpathSync(join(ROOT, `node_modules/node-linux-${process.arch}/bin/node`)), join(tree, NODE));
  chmodSync(join(tree, NODE), 0o755);
  write(join(tree, 'usr/bin/ashlar'), launcher('main.ts'), 0o755);
  write(join(tree, 'usr/bin/ashlard'), launcher('ashlard-main.ts'), 0o755);
  write(join(tree, 'lib/systemd/system/ashlard.service'), read('packaging/ashlard.service'));
  write(join(tree, 'usr/lib/sysusers.d/ashlar.conf'), read('packaging/sysusers.conf'));
  const program = (...args: string[]): string => execFileSync(process.execPath, [join(ROOT, 'apps/ashlar/src/main.ts'), ...args], { encoding: 'utf8' });
  write(join(tree, 'usr/share/bash-completion/completions/ashlar'), program('completion', 'bash'));
  write(join(tree, 'usr/share/zsh/vendor-completions/_ashlar'), program('completion', 'zsh'));
  write(join(tree, 'usr/share/fish/vendor_completions.d/ashlar.fish'), program('completion', 'fish'));
  write(join(tree, 'usr/share/man/man1/ashlar.1'), program('__manual'));
  symlinkSync('ashlar.1', join(tree, 'usr/share/man/man1/ashlard.1'));
  for (const page of ['operating.md', 'metrics.md', 'GUARANTEES.md', 'runbooks']) cpSync(join(ROOT, 'docs', page), join(tree, 'usr/share/doc/ashlar', page), { recursive: true });
  write(join(tree, 'usr/share/doc/ashlar/copyright'), read('LICENSE'));
}

function control(tree: string, version: string, architecture: string): void {
  for (const script of ['postinst', 'prerm', 'postrm']) write(join(tree, 'DEBIAN', script), read(`packaging/${script}`), 0o755);
  write(join(tree, 'DEBIAN/control'), [
    'Package: ashlar', `Version: ${version}`, `Architecture: ${architecture}`, 'Maintainer: The Ashlar developers <ashlar@localhost>', 'Section: admin', 'Priority: optional',
    'Depends: libc6 (>= 2.28), libstdc++6, systemd (>= 252)', `Installed-Size: ${Math.ceil(sizeBytes(tree) / 1024)}`,
    'Description: block storage that outlives its servers', ' Volumes are block devices (NBD) whose copies lie on several storage servers: an', ' answered write is on each of them, and another takes over when one is lost.', '',
  ].join('\n'));
}

const architecture = ARCHITECTURES[process.arch];
if (architecture === undefined) throw new Error(`no package for ${process.arch}`);
const folder = process.argv[2] ?? join(ROOT, 'dist');
const changed = git('status', '--porcelain') === '' ? '' : '.changed';
const commit = `${git('rev-parse', '--short=12', 'HEAD')}${changed}`;
const { version } = JSON.parse(read('package.json')) as { version: string };
const madeAt = git('log', '-1', '--format=%ct');
const day = new Date(Number(madeAt) * 1000).toISOString().slice(0, 16).replaceAll(/[-:T]/g, '');
// Rises with the commits, so that apt takes the later one for newer.
const packageVersion = `${version}~git${day}.${commit}`;
const tree = mkdtempSync(join(tmpdir(), 'ashlar-deb-'));
try {
  chmodSync(tree, 0o755);
  process.umask(0o022);
  build(tree, commit);
  control(tree, packageVersion, architecture);
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `ashlar_${packageVersion}_${architecture}.deb`);
  execFileSync('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z6', '--build', tree, file], { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, SOURCE_DATE_EPOCH: madeAt } });
  process.stdout.write(`${file}\n`);
} finally {
  rmSync(tree, { recursive: true, force: true });
}
