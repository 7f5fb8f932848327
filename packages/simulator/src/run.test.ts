import { describe, expect, it } from 'vitest';
import { runSpec } from './plan.ts';
import { simulate } from './run.ts';

describe('simulate', () => {
  it.each(['quiet', 'failover', 'power'])('gives the same trace for the same seed: %s', (scenario) => {
    const spec = { ...runSpec(12, scenario), endMs: 3_000 };
    const first = simulate(spec);
    expect(first.violation).toBeNull();
    expect(first.events).toBeGreaterThan(1_000);
    expect(simulate(spec).hash).toBe(first.hash);
  });

  it('gives another trace for another seed', () => {
    const outcomes = [1, 2].map((seed) => simulate({ ...runSpec(seed, 'quiet'), endMs: 1_500 }).hash);
    expect(outcomes[0]).not.toBe(outcomes[1]);
  });

  it('leaves the rest of a plan as it is when a fault is left out', () => {
    const spec = runSpec(12, 'churn');
    const { plan } = simulate({ ...spec, endMs: 1_000 });
    const skipped = simulate({ ...spec, endMs: 1_000, skip: [0] }).plan;
    expect(skipped.faults).toEqual(plan.faults.filter((fault) => fault.index !== 0));
  });
});
