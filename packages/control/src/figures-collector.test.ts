import type { Runtime } from '@ashlar/runtime';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { MemoryStore } from './core/index.ts';
import { FiguresCollector } from './figures-collector.ts';

beforeEach(() => { vi.useFakeTimers(); });
afterEach(() => { vi.useRealTimers(); });

test('the figures come although the system manager crashed, and never answers what it was asked', async () => {
  const runtime = { start: () => 'started', send: () => 'unreachable', collect: () => undefined, stop: async () => undefined } as unknown as Runtime;
  let answers = false;
  const ask = async (): Promise<null> => (answers ? null : new Promise(() => undefined));
  const collector = new FiguresCollector({ runtime, store: new MemoryStore(), version: '1', ask, refused: () => new Map() });
  let text = '';
  void collector.text().then((scraped) => { text = scraped; });
  // Prometheus waits for 10 s.
  await vi.advanceTimersByTimeAsync(9000);
  expect(text).toContain('ashlar_manager_acting 0');
  answers = true;
  expect(await collector.text()).toContain('ashlar_build_info');
  expect(vi.getTimerCount()).toBe(0);
});
