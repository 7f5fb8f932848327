import { defineConfig } from 'vitest/config';

/** What a mutation run kills with: the unit tests of the replication core, in Stryker's copy of the tree. */
export default defineConfig({ test: { include: ['packages/replication/src/*.test.ts'], testTimeout: 20_000 } });
