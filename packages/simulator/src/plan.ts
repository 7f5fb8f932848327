import { Prng } from '@ashlar/words';
import { FAULT_KINDS, type FaultKind, SCENARIOS, type Scenario } from './scenarios.ts';

/** What decides a run: the same spec and the same commit give the same trace. */
export interface RunSpec {
  readonly seed: number;
  readonly scenario: string;
  /** Kinds of faults switched off; used when a failure is shrunk. */
  readonly without: readonly FaultKind[];
  /** Single faults (by their number in the plan) left out. */
  readonly skip: readonly number[];
  /** Faults stop and clients end here instead of where the plan says. */
  readonly endMs: number | null;
}

export function runSpec(seed: number, scenario: string): RunSpec {
  return { seed, scenario, without: [], skip: [], endMs: null };
}

/** One fault, decided before the run begins. `draw` seeds whatever it has to choose when it happens. */
export interface PlannedFault {
  readonly index: number;
  readonly atMs: number;
  readonly kind: FaultKind;
  readonly draw: number;
}

/** Everything that was drawn for a run. */
export interface Plan {
  readonly spec: RunSpec;
  readonly scenario: Scenario;
  readonly kinds: ReadonlySet<FaultKind>;
  readonly faults: readonly PlannedFault[];
  readonly activeMs: number;
  readonly servers: number;
  readonly hosts: number;
  readonly copies: number;
  readonly minCopies: number;
  readonly strict: boolean;
  /** The volume is laid over something that is not zeros. */
  readonly backed: boolean;
  readonly extents: number;
  readonly hotBlocks: number;
  /** Part of the writes that cover whole tiles of the store. */
  readonly tileWrites: number;
  readonly clients: number;
  readonly depth: number;
  readonly thinkMs: number;
  readonly ioTimeoutMs: number;
  /** The production store over a disk in memory, or its contract alone. */
  readonly realStore: boolean;
  readonly segmentBytes: number;
  readonly journalBytes: number;
  /** Records that a journal keeps of what is settled. */
  readonly historyRecords: number;
  /** Ends of processes are seen and told by a supervisor. */
  readonly supervised: boolean;
  readonly network: { readonly drop: number; readonly duplicate: number; readonly reorder: number; readonly delay: number; readonly delayMs: number };
  readonly metadata: { readonly replyLost: number; readonly requestLost: number };
  readonly clockRate: number;
  readonly rebuildDelayMs: number;
  /** How long a sync takes on each server's disk. */
  readonly syncMs: readonly number[];
  /** Seeds of the streams from which the parts of the world draw. */
  readonly streams: { readonly network: number; readonly clients: number; readonly disks: number; readonly cores: number; readonly store: number };
}

export function makePlan(spec: RunSpec): Plan {
  const scenario = SCENARIOS[spec.scenario];
  if (scenario === undefined) throw new Error(`no scenario "${spec.scenario}"; there are ${Object.keys(SCENARIOS).join(', ')}`);
  const prng = new Prng(spec.seed);
  const shape = prng.fork();
  const faultStream = prng.fork();
  const rates = prng.fork();
  const streams = { network: prng.next32(), clients: prng.next32(), disks: prng.next32(), cores: prng.next32(), store: prng.next32() };
  const disks = prng.fork();
  const tileWrites = prng.fork().pick([0, 0.05, 0.25]);
  const kinds = chosenKinds(scenario, faultStream, spec);
  const activeMs = spec.endMs ?? scenario.activeMs;
  const copies = shape.pick(scenario.copies);
  const has = (kind: FaultKind): number => (kinds.has(kind) ? 1 : 0);
  const level = rates.pick([0.0003, 0.001, 0.004]);
  const servers = Math.max(copies + 1, shape.between(3, 4));
  const minCopies = shape.chance(scenario.minimumTwo) ? Math.min(2, copies) : 1;
  const strict = shape.chance(0.15);
  const extents = shape.pick([1, 2, 3]);
  return {
    spec, scenario, kinds, activeMs, streams, copies, servers,
    syncMs: Array.from({ length: servers }, () => disks.pick(SYNCS_MS)),
    hosts: 2,
    minCopies, strict,
    hotBlocks: shape.pick([6, 12, 24, 48]),
    clients: shape.between(1, 3),
    depth: shape.pick([1, 2, 4, 8]),
    thinkMs: shape.pick([4, 12, 40]),
    ioTimeoutMs: shape.pick([0, 60_000, 8_000]),
    realStore: shape.chance(0.6),
    segmentBytes: shape.pick([128, 256]) * 1024,
    // What all clients together may have under way, and one extent's fill, must find room: a commit that comes behind it could not be heard.
    journalBytes: shape.pick([1, 2, 4]) * 2 ** 20 * (tileWrites > 0 ? 8 : 1),
    historyRecords: shape.pick([10, 60, 400]),
    supervised: shape.chance(0.5),
    tileWrites,
    network: { drop: has('drop') * level, duplicate: has('duplicate') * level, reorder: has('reorder') * level, delay: has('delay') * level * 4, delayMs: rates.pick([5, 60, 900]) },
    metadata: { replyLost: has('store-reply-lost') * 0.15, requestLost: has('store-reply-lost') * 0.1 },
    clockRate: has('clock-rate') * 0.004,
    rebuildDelayMs: shape.pick([500, 3_000]),
    ...backed(shape, extents),
    faults: plannedFaults(scenario, kinds, faultStream, activeMs, spec),
  };
}

/** Some of these volumes are large enough for what is zeroed as whole extents. */
function backed(shape: Prng, extents: number): Pick<Plan, 'backed' | 'extents'> {
  const isBacked = shape.chance(0.3);
  return { backed: isBacked, extents: isBacked && shape.chance(0.4) ? EXTENTS_FOR_RANGES : extents };
}

/** A random subset of what the scenario may do: faults that always come together hide what each does alone. */
function chosenKinds(scenario: Scenario, prng: Prng, spec: RunSpec): ReadonlySet<FaultKind> {
  const kinds = new Set<FaultKind>();
  for (const kind of FAULT_KINDS) {
    const drawn = prng.fraction();
    const wanted = scenario.always.includes(kind) || (scenario.sometimes.includes(kind) && drawn < scenario.share);
    if (wanted && !spec.without.includes(kind)) kinds.add(kind);
  }
  return kinds;
}

/** Times and kinds are drawn for all the scenario's kinds, then those not chosen are dropped: leaving one out never moves another. */
function plannedFaults(scenario: Scenario, kinds: ReadonlySet<FaultKind>, prng: Prng, activeMs: number, spec: RunSpec): PlannedFault[] {
  const timed = FAULT_KINDS.filter((kind) => !RATES.has(kind) && (scenario.always.includes(kind) || scenario.sometimes.includes(kind)));
  const faults: PlannedFault[] = [];
  if (timed.length === 0) return faults;
  let atMs = 150 + prng.below(400);
  for (let index = 0; atMs < scenario.activeMs; index++) {
    const kind = prng.pick(timed);
    const fault: PlannedFault = { index, atMs, kind, draw: prng.next32() };
    atMs += prng.chance(0.25) ? prng.fraction() * 20 : prng.fraction() * 2 * scenario.faultEveryMs;
    if (kinds.has(kind) && !spec.skip.includes(index) && fault.atMs < activeMs) faults.push(fault);
  }
  return faults;
}

/** One more than it takes for the store to keep a range of whole extents, with parts of extents at its ends. */
const EXTENTS_FOR_RANGES = 5;

/** Flash, and disks that turn: what waits for a sync and what does not differ by more than a message takes. */
const SYNCS_MS = [0.4, 0.4, 0.4, 4, 15];

/** Kinds that are a rate for the whole run, not an event. */
const RATES: ReadonlySet<FaultKind> = new Set(['drop', 'duplicate', 'reorder', 'delay', 'store-reply-lost', 'clock-rate']);
