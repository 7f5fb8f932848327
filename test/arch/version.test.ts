import { BUILD_VERSION } from '@ashlar/words';
import { expect, it } from 'vitest';
import command from '../../apps/ashlar/package.json' with { type: 'json' };
import tree from '../../package.json' with { type: 'json' };

it('is the same wherever it is said', () => {
  expect([tree.version, command.version]).toEqual([BUILD_VERSION, BUILD_VERSION]);
});
