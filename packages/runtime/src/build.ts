import type { Build } from '@ashlar/protocol';
import { BUILD_VERSION } from '@ashlar/words';
import { WIRE_VERSIONS } from './wire/versions.ts';

/** What a process of this build says of itself. `formats`: what it writes on disks, and in which version. */
export function thisBuild(formats: Build['formats']): Build {
  const [wireLowest, wireHighest] = WIRE_VERSIONS;
  return { version: BUILD_VERSION, wireLowest, wireHighest, formats };
}
