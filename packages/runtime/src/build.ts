import { existsSync, readFileSync } from 'node:fs';
import manifest from '../package.json' with { type: 'json' };

/** Written here by the packaging: the commit that the program was made of. */
const COMMIT_FILE = new URL('../COMMIT', import.meta.url);

/** Which program this is: `0.1.0`, and `0.1.0+0123456789ab` where it was packaged. */
export const BUILD = existsSync(COMMIT_FILE) ? `${manifest.version}+${readFileSync(COMMIT_FILE, 'utf8').trim()}` : manifest.version;
