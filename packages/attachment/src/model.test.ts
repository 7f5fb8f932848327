import { Op } from '@ashlar/protocol';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ModelWorld } from './testing/model-world.ts';
import { A, B, C } from './testing/requests.ts';

const SERVERS = [A, B, C];
const FAULTS = [...Array.from({ length: 18 }, () => 'none' as const), 'drop', 'twice'] as const;
const FRAMES = [[Op.write], [Op.read], [Op.write, Op.write], [Op.write, Op.read, Op.write], [Op.flush], [Op.zero, Op.write]] as const;

type Step = readonly [number, number];

/** Weighted: mostly traffic, sometimes trouble. `pick` chooses the rest. */
function take(world: ModelWorld, [kind, pick]: Step, faults: boolean, poison: boolean): void {
  const server = SERVERS[pick % 3];
  const fault = faults ? FAULTS[pick % FAULTS.length] : 'none';
  if (kind < 200) return world.submit(FRAMES[pick % FRAMES.length]);
  if (kind < 430) return world.toServer(pick % 8 === 0 ? server : world.leader, fault);
  if (kind < 660) return world.toHost(pick % 8 === 0 ? server : world.leader, fault);
  if (kind < 880) return world.leading.commitOne();
  if (kind < 920) return world.pass(pick % 9 === 0 ? 900 : 1 + (pick % 60));
  if (kind < 955) return world.configure();
  if (kind < 970) return world.failOver(server, pick % 4);
  if (kind < 978) return world.cut(world.leader);
  if (kind < 992) return world.mend(server);
  if (kind < 994) return world.restartHost();
  if (kind < 997) return poison ? world.submit([Op.write, Op.write], true) : undefined;
  return world.primary(server).forgetSessions();
}

function run(steps: readonly Step[], ioTimeoutMs: number, faults: boolean, poison = false): ModelWorld {
  const world = new ModelWorld(ioTimeoutMs);
  for (const step of steps) take(world, step, faults, poison);
  world.settle();
  return world;
}

const steps = fc.array(fc.tuple(fc.nat(999), fc.nat(10_000)), { minLength: 20, maxLength: 600, size: 'max' });

describe('the core against a model of a primary', () => {
  test('each write is applied once, in order, and answered only then; everything is answered in the end', () => {
    fc.assert(fc.property(steps, fc.boolean(), (list, faults) => { run(list, 0, faults); }), { numRuns: 400 });
  });

  test('also where requests time out', () => {
    fc.assert(fc.property(steps, (list) => { run(list, 300, true); }), { numRuns: 300 });
  });

  test('and what crashes copies fails after the second, alone', () => {
    fc.assert(fc.property(steps, (list) => { run(list, 0, true, true); }), { numRuns: 300 });
  });

  test('it meets what it is made for', () => {
    const seen = { refusals: new Set<string>(), resent: 0, timedOut: 0, quarantined: 0 };
    for (let seed = 0; seed < 60; seed++) {
      const list = fc.sample(steps, { seed, numRuns: 1 })[0];
      const { refusals, resentFrames, timedOutRequests, quarantinedRequests } = run(list, seed % 2 === 0 ? 300 : 0, true, seed % 2 === 1).core.view();
      for (const reason of Object.keys(refusals)) seen.refusals.add(reason);
      seen.resent += resentFrames;
      seen.timedOut += timedOutRequests;
      seen.quarantined += quarantinedRequests;
    }
    expect([...seen.refusals]).toEqual(expect.arrayContaining(['gap', 'not-primary', 'not-serving']));
    expect(seen.resent).toBeGreaterThan(100);
    expect(seen.timedOut).toBeGreaterThan(100);
    expect(seen.quarantined).toBeGreaterThan(0);
  });
});
