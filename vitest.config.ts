import { join } from 'node:path';
import { defineConfig } from 'vitest/config';

/**
 * Tests by what they need: `unit` nothing but the tree, `arch` the tree as text, `fuzz` processor time,
 * `e2e` real processes and the tools each file names in its `needs:` line (scripts/needs.ts).
 */
export default defineConfig({
  test: {
    reporters: ['default'],
    allowOnly: false,
    projects: [
      { test: { name: 'unit', include: ['packages/*/src/**/*.test.ts', 'apps/*/src/**/*.test.ts', 'scripts/**/*.test.ts'], testTimeout: 20_000 } },
      { test: { name: 'arch', include: ['test/arch/**/*.test.ts'], testTimeout: 20_000 } },
      { test: { name: 'sim', include: ['test/sim/**/*.test.ts'], testTimeout: 120_000 } },
      { test: { name: 'fuzz', include: ['test/fuzz/**/*.test.ts'], testTimeout: 120_000 } },
      {
        test: {
          name: 'e2e', include: ['test/e2e/**/*.test.ts'], testTimeout: 180_000, hookTimeout: 60_000,
          // Real servers share the machine's cores: one file at a time.
          fileParallelism: false,
          // Hundreds of commands and processes are started: their code is compiled once.
          env: { NODE_COMPILE_CACHE: join(import.meta.dirname, 'node_modules/.cache/ashlar-compiled') },
        },
      },
    ],
    coverage: { provider: 'v8', include: ['packages/*/src/**/*.ts'], exclude: ['**/*.test.ts'] },
  },
});
