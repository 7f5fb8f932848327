import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DroppingBackend, MemoryBackend, type NbdBackend, NbdServer } from '@ashlar/host';
import { Prng } from '@ashlar/words';
import { Load, runLoad } from './load.ts';
import { Histogram } from './histogram.ts';
import type { LoadOptions } from './options.ts';

const MIB = 2 ** 20;
const closers: (() => Promise<void> | void)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(backend: NbdBackend): Promise<{ uri: string; server: NbdServer; path: string }> {
  const folder = mkdtempSync(join(tmpdir(), 'ashlar-load-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const server = new NbdServer();
  server.addExport('v', backend);
  const path = join(folder, 's');
  await server.listen({ path });
  closers.push(() => server.close(0));
  return { uri: `nbd+unix:///v?socket=${path}`, server, path };
}

/** Keeps frames for some turns of the event loop, and the receive memory under them for longer: what is reused too early is seen. */
class LateBackend implements NbdBackend {
  readonly limits = { requestsMax: 64, bytesMax: 4 * MIB };
  readonly checksums = true;
  readonly #inner: NbdBackend;
  readonly #prng: Prng;

  constructor(inner: NbdBackend, prng: Prng) {
    this.#inner = inner;
    this.#prng = prng;
  }

  device() {
    return this.#inner.device();
  }

  submit(...[frame, client, lease]: Parameters<NbdBackend['submit']>): void {
    let turns = this.#prng.below(8);
    const step = (): void => {
      if (turns-- > 0) setImmediate(step);
      else this.#inner.submit(frame, client, lease);
    };
    step();
  }
}

const mixed = (uri: string): LoadOptions => ({ targets: [{ uri, volume: 'v' }], durationMs: 0, readPercent: 30, bytesMin: 4096, bytesMax: 128 * 1024, depth: 16, seed: 5, fresh: true, connections: 2, flushEvery: 50, fuaPercent: 5 });

/** Runs until so many bytes were written, so that no test depends on how fast the machine is. */
async function runUntil(load: Load, enough: () => boolean): Promise<Awaited<ReturnType<Load['finish']>>> {
  load.start();
  while (!enough()) await new Promise((resolve) => setTimeout(resolve, 5));
  load.stop();
  return load.finish();
}

describe('a load', () => {
  it('finds nothing wrong with a server that keeps what it is given', async () => {
    const { uri } = await serve(new MemoryBackend({ sizeBytes: 16 * MIB }));
    const result = await runLoad({ ...mixed(uri), durationMs: 300 });
    expect(result).toMatchObject({ violationCount: 0, errorCount: 0, verified: true });
    expect(result.requests).toBeGreaterThan(0);
    expect(result.checkedBlocks).toBeGreaterThanOrEqual(4096);
  });

  it('catches a server that drops one answered overwrite in 50', async () => {
    const backend = new DroppingBackend(new MemoryBackend({ sizeBytes: 4 * MIB }), 50, 1);
    const { uri } = await serve(backend);
    const load = await Load.open({ ...mixed(uri), fill: true });
    const result = await runUntil(load, () => backend.dropped >= 20);
    expect(result.violationCount).toBeGreaterThan(0);
    expect(result.violations[0]?.found).toMatch(/^generation \d+$/);
  });

  it('finds nothing wrong with a device that answers late and out of order', async () => {
    const { uri } = await serve(new LateBackend(new MemoryBackend({ sizeBytes: 8 * MIB }), new Prng(2)));
    const load = await Load.open({ ...mixed(uri), depth: 48 });
    let answered = 0;
    const result = await runUntil(load, () => ++answered > 60);
    expect(result).toMatchObject({ violationCount: 0, errorCount: 0 });
    expect(result.write.count).toBeGreaterThan(0);
  });

  it('goes on over lost connections', async () => {
    const backend = new MemoryBackend({ sizeBytes: 8 * MIB });
    const { uri, server, path } = await serve(backend);
    const load = await Load.open(mixed(uri));
    load.start();
    await server.close(0);
    const successor = new NbdServer();
    successor.addExport('v', backend);
    await successor.listen({ path });
    closers.push(() => successor.close(0));
    await expect.poll(() => successor.connectionCount).toBe(2);
    load.stop();
    const result = await load.finish();
    expect(result).toMatchObject({ violationCount: 0, errorCount: 0, reconnections: 2 });
  });

  it('keeps to a rate, over several volumes', async () => {
    const first = await serve(new MemoryBackend({ sizeBytes: MIB }));
    const second = await serve(new MemoryBackend({ sizeBytes: MIB }));
    const result = await runLoad({ targets: [{ uri: first.uri, volume: 'a' }, { uri: second.uri, volume: 'b' }], durationMs: 500, rate: 200, seed: 1, depth: 4 });
    expect(result.requests).toBeLessThanOrEqual(101);
    expect(result).toMatchObject({ volumes: 2, violationCount: 0, errorCount: 0 });
  });

  it('refuses options that make no sense', async () => {
    for (const wrong of [{ targets: [] }, { bytesMin: 512 }, { bytesMin: 8192, bytesMax: 4096 }, { depth: 0 }, { readPercent: 101 }]) {
      await expect(runLoad({ targets: [{ uri: 'nbd://localhost', volume: 'v' }], durationMs: 1, ...wrong })).rejects.toMatchObject({ code: 'invalid-argument' });
    }
  });
});

describe('the histogram', () => {
  it('keeps percentiles to within its buckets', () => {
    const histogram = new Histogram();
    for (let i = 1; i <= 1000; i++) histogram.add(i / 10);
    const { p50Ms, p99Ms, maxMs, count } = histogram.summary();
    expect(Math.abs(p50Ms - 50) / 50).toBeLessThan(0.04);
    expect(Math.abs(p99Ms - 99) / 99).toBeLessThan(0.04);
    expect(maxMs).toBe(100);
    expect(count).toBe(1000);
  });
});
