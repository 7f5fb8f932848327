import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';

/** Patches lie in the package whose part they are about. */
const DIRECTORIES = [resolve(import.meta.dirname, '../../planted'), resolve(import.meta.dirname, '../../../store/planted')];

/** What is to find the bug, as it stands in the tree. Nothing of the simulation and of the crash points is written for a patch; the tests of `unit` may play the run that shows its rule. */
export type Tier =
  | { readonly kind: 'sim'; readonly scenarios: string }
  | { readonly kind: 'crash' }
  | { readonly kind: 'unit'; readonly tests: string };

/** One bug, as a patch whose head says what it is. */
export interface Patch {
  readonly name: string;
  readonly text: string;
  readonly path: string;
  readonly what: string;
  /** Of the specification of the protocol, or the part of the product that it breaks. */
  readonly rule: string;
  readonly tier: Tier;
}

export function patches(): Patch[] {
  return DIRECTORIES.flatMap((directory) => readdirSync(directory).filter((file) => file.endsWith('.patch')).sort().map((file) => read(join(directory, file))));
}

function read(path: string): Patch {
  const text = readFileSync(path, 'utf8');
  const field = (name: string): string => {
    const found = new RegExp(`^${name}: (.*)$`, 'm').exec(text)?.[1];
    if (found === undefined) throw new Error(`${path} has no "${name}:"`);
    return found;
  };
  return { name: basename(path, '.patch'), text, path, what: field('Bug'), rule: field('Rule'), tier: tierOf(path, field) };
}

function tierOf(path: string, field: (name: string) => string): Tier {
  const kind = field('Tier');
  switch (kind) {
    case 'sim': return { kind, scenarios: field('Scenarios') };
    case 'crash': return { kind };
    case 'unit': return { kind, tests: field('Tests') };
    default: throw new Error(`${path} names no tier that there is: ${kind}`);
  }
}
