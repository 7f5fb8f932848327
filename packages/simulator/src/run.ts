import type { Member } from '@ashlar/protocol';
import { Violation, type Invariant } from './checks/violation.ts';
import { Trace } from './engine/trace.ts';
import { makePlan, type Plan, type RunSpec } from './plan.ts';
import type { FaultKind } from './scenarios.ts';
import { scheduleFaults } from './world/faults.ts';
import { Operator } from './world/operator.ts';
import { World } from './world/world.ts';

export interface RunOutcome {
  readonly plan: Plan;
  readonly violation: { readonly invariant: Invariant; readonly message: string } | null;
  readonly hash: string;
  readonly events: number;
  readonly blockFrames: number;
  readonly endedMs: number;
  readonly faults: ReadonlyMap<FaultKind, number>;
  readonly networkFaults: number;
  readonly counts: Readonly<Record<string, number>>;
  readonly tail: readonly string[];
}

/** Virtual time after the last fault within which the volume must be writable, and whole, again. */
const CALM_MS = 40_000;

/** Carries out one run: safety while faults happen, then liveness without them, then the checks of a quiet state. */
export function simulate(spec: RunSpec, trace: Trace = new Trace(false)): RunOutcome {
  const plan = makePlan(spec);
  const world = new World(plan, trace);
  const faults = new Map<FaultKind, number>();
  let violation: RunOutcome['violation'] = null;
  try {
    for (const sim of world.sims) world.start(sim);
    const operator = new Operator(world);
    scheduleFaults(world, operator, (kind) => faults.set(kind, (faults.get(kind) ?? 0) + 1));
    runUntil(world, plan.activeMs);
    calmDown(world);
    checkQuiet(world);
  } catch (error) {
    if (!(error instanceof Violation)) throw error;
    violation = { invariant: error.invariant, message: error.message };
    trace.line(`VIOLATION ${error.message}`);
  }
  const { dropped, duplicated, reordered, delayed, cut } = world.network.counts;
  return {
    plan, violation, hash: trace.hash, events: world.events, blockFrames: world.blockFrames, endedMs: world.scheduler.nowMs, faults,
    networkFaults: dropped + duplicated + reordered + delayed + cut, counts: countsOf(world), tail: trace.tail(),
  };
}

function runUntil(world: World, untilMs: number): void {
  while (world.step(untilMs));
}

/** Faults stop, everything that was stopped is started: invariant 12. */
function calmDown(world: World): void {
  const healedMs = world.plan.activeMs;
  world.healed = true;
  world.storeDown = false;
  world.poisonNext = 0;
  world.links.heal();
  // Whoever is frozen wakes up in its time: what waits for it until then must not come after what is sent later.
  for (const sim of world.sims) world.start(sim);
  for (const server of world.servers) Object.assign(server.medium.faults, { full: false, failSync: false, failWrite: false, lostWrites: 0, misdirectedWrites: 0, endsIn: 0 });
  const deadlineMs = healedMs + CALM_MS;
  let quietSinceMs = 0;
  for (let atMs = healedMs + 100; atMs <= deadlineMs; atMs += 100) {
    runUntil(world, atMs);
    keepServers(world);
    const written = world.lastWriteAskedMs > healedMs;
    if (written) world.clientsMayIssue = false;
    if (!written && atMs >= healedMs + CALM_MS / 4) helpOut(world);
    if (!written || unquiet(world) !== null) quietSinceMs = 0;
    else if (quietSinceMs === 0) quietSinceMs = atMs;
    else if (atMs - quietSinceMs >= 1_000) return;
  }
  if (hopeless(world)) return;
  if (world.clientsMayIssue) throw new Violation('writable-again', `no write was answered in ${CALM_MS} ms without faults: ${stateOf(world)}`);
  throw new Violation('whole-again', `after ${CALM_MS} ms without faults: ${unquiet(world) ?? 'it is quiet only now'}; ${stateOf(world)}`);
}

/** Volumes are to be whole again on the servers that there are. */
function keepServers(world: World): void {
  for (const stored of world.store.snapshot().records) {
    if (stored.kind === 'server' && stored.value.draining) world.command({ kind: 'server-drain', serverId: stored.value.serverId, cancel: true });
  }
}

/** What an operator does who sees a volume stand still: restarts what gave up, and gives up what a replaced disk held. */
function helpOut(world: World): void {
  const { configuration } = world.ghost;
  for (const server of world.servers) {
    if (!server.gaveUp) continue;
    world.end(server, false);
    world.start(server);
  }
  for (const member of configuration?.members ?? []) {
    if (!isGone(world, member) && !isLastOfAll(world, member)) continue;
    world.ghost.givenUp.add(member.serverId);
    world.command({ kind: 'volume-failover', volumeId: world.volumeId, giveUp: member.serverId });
  }
}

function isGone(world: World, member: Member): boolean { return world.ghost.lost(member) && !world.server(member.serverId).medium.holdsCopy; }

/** Faulted, and waited for because it may have what all the others have lost. */
function isLastOfAll(world: World, member: Member): boolean {
  const others = world.ghost.configuration?.members.filter((other) => other !== member) ?? [];
  return world.server(member.serverId).faulted && others.every((other) => world.ghost.lost(other) || world.server(other.serverId).faulted);
}

/** Every copy in sync is faulted or gone for good: nothing can be promised. */
function hopeless(world: World): boolean {
  const { configuration } = world.ghost;
  if (configuration === null) return false;
  return configuration.members.every((member) => {
    const server = world.server(member.serverId);
    if (!server.medium.holdsCopy || server.driver === null || server.driver.core.durable.fault !== null) return true;
    // Its server has begun another copy, which was never filled.
    return world.ghost.lost(member) && !server.driver.core.durable.complete;
  });
}

/** Why the volume is not quiet and whole yet; null if it is. */
function unquiet(world: World): string | null {
  const { configuration } = world.ghost;
  if (configuration === null) return 'there is no volume';
  if (world.clients.pending.size > 0) return `${world.clients.pending.size} requests are unanswered`;
  const primary = world.primary?.driver ?? null;
  if (primary === null || !primary.core.serving) return 'the primary does not serve';
  if (configuration.members.length !== configuration.copiesWanted) return `${configuration.members.length} of ${configuration.copiesWanted} copies are in sync`;
  for (const member of configuration.members) {
    const { driver } = world.server(member.serverId);
    if (driver === null || world.ghost.lost(member)) return `${member.serverId} has lost its copy`;
    if (driver.store.lastSeq !== primary.store.lastSeq || driver.core.durable.promisedEpoch !== configuration.epoch) return `${member.serverId} is behind`;
    if (!driver.core.durable.complete) return `${member.serverId} is not whole`;
  }
  return null;
}

/** Invariant 8. */
function checkQuiet(world: World): void {
  const { configuration } = world.ghost;
  if (configuration === null || hopeless(world)) return;
  for (const { serverId } of configuration.members) {
    const differs = world.contentDiffers(serverId);
    if (differs !== null) throw new Violation('quiet-identical', `${serverId}: ${differs}`);
  }
}

function stateOf(world: World): string {
  const { configuration } = world.ghost;
  const servers = world.servers.map(({ serverId, driver, process }) => {
    if (driver === null) return `${serverId}: no copy${process.up ? '' : ', down'}`;
    const { core, store } = driver;
    const { durable } = core;
    return `${serverId}: ${core.role}${core.serving ? ' serving' : ''} promised ${durable.promisedEpoch} seq ${store.lastSeq}/${store.durableSeq}/${store.committedSeq} inc ${store.incarnation}${durable.complete ? '' : ' incomplete'}${durable.fault === null ? '' : ` fault ${durable.fault}`}`;
  });
  const members = configuration === null ? 'no volume' : `epoch ${configuration.epoch} members ${configuration.members.map((member) => `${member.serverId}(${member.incarnation})`).join(' ')} learners ${configuration.learners.join(' ')} min ${configuration.minCopies}`;
  const hosts = world.hosts.flatMap((host) => [...host.attachments.values()].map((attachment) => `${attachment.address} ${attachment.core.phase} epoch ${attachment.core.configuration.epoch}`));
  return [members, ...servers, ...hosts].join('; ');
}

function countsOf(world: World): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const server of world.servers) for (const [name, value] of Object.entries(server.totals())) counts[name] = (counts[name] ?? 0) + value;
  for (const [name, value] of Object.entries(world.ghost.counts)) counts[name] = value;
  counts['answered'] = world.clients.answeredOk;
  counts['failed'] = world.clients.failed;
  counts['quarantines'] = world.eventCounts.get('request-quarantined') ?? 0;
  counts['storesRefused'] = world.eventCounts.get('store-behind') ?? 0;
  counts['storesRecovered'] = world.eventCounts.get('store-recovered') ?? 0;
  counts['givenUp'] = world.eventCounts.get('copy-faulted') ?? 0;
  return counts;
}
