import { existsSync, readFileSync } from 'node:fs';
import type { Build } from '@ashlar/protocol';
import { BUILD_VERSION } from '@ashlar/words';
import { WIRE_VERSIONS } from './wire/versions.ts';

/** Written here by the packaging: the commit that the program was made of. */
const COMMIT_FILE = new URL('../COMMIT', import.meta.url);

/** Which program this is: `0.2.0`, and `0.2.0+0123456789ab` where it was packaged. */
export const BUILD = existsSync(COMMIT_FILE) ? `${BUILD_VERSION}+${readFileSync(COMMIT_FILE, 'utf8').trim()}` : BUILD_VERSION;

/** What a process of this build says of itself. `formats`: what it writes on disks, and in which version. */
export function thisBuild(formats: Build['formats']): Build {
  const [wireLowest, wireHighest] = WIRE_VERSIONS;
  return { version: BUILD, wireLowest, wireHighest, formats };
}
