import type { StoreSnapshot } from '@ashlar/control/core';
import { Prng } from '@ashlar/words';
import { EventKind } from '../engine/scheduler.ts';
import type { PlannedFault } from '../plan.ts';
import type { FaultKind } from '../scenarios.ts';
import { harmAtDecision } from './decisions.ts';
import { DURATIONS_MS, kill } from './ends.ts';
import type { Operator } from './operator.ts';
import type { SimHost } from './sim-host.ts';
import type { SimManager } from './sim-manager.ts';
import type { SimServer } from './server.ts';
import type { World } from './world.ts';

/** True: it changed a delivery, a disk, a process or what somebody asked for. */
type Fault = (world: World, prng: Prng, operator: Operator, later: () => void) => boolean;

/** Schedules the plan's faults. `counted` is told of each that changed something. */
export function scheduleFaults(world: World, operator: Operator, counted: (kind: FaultKind) => void): void {
  for (const fault of world.plan.faults) {
    world.after(fault.atMs, () => {
      if (!world.healed && inject(world, operator, fault, () => counted(fault.kind))) counted(fault.kind);
    }, EventKind.fault);
  }
}

/** `later`: called if it changes something only when its moment comes. */
function inject(world: World, operator: Operator, fault: PlannedFault, later: () => void): boolean {
  const run = FAULTS[fault.kind];
  if (run === undefined) return false;
  const done = run(world, new Prng(fault.draw), operator, later);
  if (done) world.note('fault', `${fault.index}`, fault.kind);
  return done;
}

const FAULTS: Readonly<Partial<Record<FaultKind, Fault>>> = {
  'cut-one-way': (world, prng) => cut(world, prng, false),
  'cut-both-ways': (world, prng) => cut(world, prng, true),
  isolate: (world, prng) => {
    const server = aServer(world, prng);
    const forMs = prng.pick(DURATIONS_MS);
    for (const other of world.sims) {
      if (other === server) continue;
      world.links.cut(server.process, other.process, forMs);
      world.links.cut(other.process, server.process, forMs);
    }
    return true;
  },
  split: (world, prng) => split(world, prng),
  'at-decision': (world, prng, _operator, later) => harmAtDecision(world, prng, later),
  'crash-server': (world, prng) => kill(world, prng, aServer(world, prng), false),
  'crash-primary': (world, prng) => kill(world, prng, world.primary, false),
  'crash-host': (world, prng) => kill(world, prng, prng.pick(world.hosts), false),
  'crash-manager': (world, prng) => kill(world, prng, world.manager, false),
  'freeze-server': (world, prng) => freeze(world, prng, aServer(world, prng)),
  'freeze-primary': (world, prng) => freeze(world, prng, world.primary),
  'freeze-host': (world, prng) => freeze(world, prng, prng.pick(world.hosts)),
  'freeze-manager': (world, prng) => freeze(world, prng, world.manager),
  'freeze-turn': (world, prng) => {
    const server = prng.chance(0.7) ? world.primary : aServer(world, prng);
    if (server === null || !server.process.up) return false;
    server.process.freezeNextMs = prng.pick(DURATIONS_MS);
    return true;
  },
  'crash-at-disk-call': (world, prng) => endAtCall(world, prng, false),
  'crash-copy': (world, prng) => {
    const server = aServer(world, prng);
    if (server.driver === null || server.process.held(world.scheduler.nowMs)) return false;
    server.crashCopy();
    return true;
  },
  poison: (world) => {
    world.poisonNext++;
    return true;
  },
  'power-one': (world, prng) => kill(world, prng, aServer(world, prng), true),
  'power-all': (world, prng) => {
    for (const server of world.servers) kill(world, prng, server, true);
    return true;
  },
  'power-at-disk-call': (world, prng) => endAtCall(world, prng, true),
  'clean-restart': (world, prng) => {
    const server = aServer(world, prng);
    if (!server.process.up || server.process.held(world.scheduler.nowMs)) return false;
    const end = (): void => {
      server.medium.faults.endsIn = 0;
      server.close();
      kill(world, prng, server, false);
    };
    // A process that is told to end twice ends at once.
    if (prng.chance(0.3)) end();
    else server.handOver(end);
    return true;
  },
  'write-fails': (world, prng) => spoil(world, prng, (server) => { server.medium.faults.failWrite = true; }),
  'sync-fails': (world, prng) => spoil(world, prng, (server) => { server.medium.faults.failSync = true; }),
  'disk-full': (world, prng) => {
    const server = aServer(world, prng);
    server.medium.faults.full = true;
    world.after(prng.pick(DURATIONS_MS), () => { server.medium.faults.full = false; });
    return true;
  },
  'bit-rot': (world, prng) => aServer(world, prng).medium.rot(prng),
  'lost-write': (world, prng) => lie(world, prng, 'lostWrites'),
  'misdirected-write': (world, prng) => lie(world, prng, 'misdirectedWrites'),
  'slow-disk': (world, prng) => {
    const server = aServer(world, prng);
    if (server.slowed) return false;
    const before = server.syncMs;
    server.slowed = true;
    server.syncMs *= prng.pick([10, 100, 1000]);
    world.after(prng.pick(DURATIONS_MS), () => {
      server.slowed = false;
      server.syncMs = before;
    });
    return true;
  },
  'wiped-disk': (world, prng) => {
    const server = aServer(world, prng);
    if (!expendable(world, server)) return false;
    world.end(server, false);
    server.medium.wipe();
    server.wipeLedger();
    world.ghost.wiped(server.serverId);
    world.after(prng.pick(DURATIONS_MS), () => world.start(server));
    return true;
  },
  'store-down': (world, prng) => {
    world.storeDown = true;
    world.after(prng.pick(DURATIONS_MS), () => { world.storeDown = false; });
    return true;
  },
  'store-lost': (world, prng) => setBack(world, prng, { revision: 0, records: [] }),
  'store-set-back': (world, prng, _operator, later) => {
    if (world.backups.length === 0) return false;
    if (prng.chance(0.5)) return setBack(world, prng, prng.pick(world.backups));
    // To just before the next decision, when it was just made: whoever was told of it is not to find a store without it.
    world.atDecision = (moment) => {
      if (moment !== 'decided' || world.healed) return;
      world.atDecision = null;
      const before = world.beforeLast;
      world.after(prng.fraction() * 4, () => { if (setBack(world, prng, before)) later(); });
    };
    return false;
  },
  'clock-jump': (world, prng) => {
    world.manager.wallJumpMs = prng.between(-3_600_000, 3_600_000);
    return true;
  },
  reconnect: (world) => {
    const server = world.primary;
    if (server === null) return false;
    for (const host of world.hosts) world.links.reset(host.process, server.process);
    return true;
  },
  takeover: (world, prng, operator) => {
    operator.writer = prng.pick(world.hosts).hostId;
    return true;
  },
  reader: (_world, _prng, operator) => {
    operator.wantsReader = true;
    return true;
  },
  grow: (world) => {
    const size = world.ghost.configuration?.sizeBytes ?? 0;
    if (size === 0) return false;
    world.command({ kind: 'volume-grow', volumeId: world.volumeId, sizeBytes: size + 2 ** 20 });
    return true;
  },
  'failover-command': (world) => {
    if (world.volumeId === '') return false;
    world.command({ kind: 'volume-failover', volumeId: world.volumeId });
    return true;
  },
  'blind-failover': (world, prng) => blindFailover(world, prng),
  scrub: (world) => {
    if (world.volumeId === '') return false;
    world.command({ kind: 'volume-scrub', volumeId: world.volumeId });
    return true;
  },
  move: (world, prng) => {
    const members = world.ghost.configuration?.members ?? [];
    const to = world.servers.filter((server) => !members.some((member) => member.serverId === server.serverId));
    if (members.length === 0 || to.length === 0) return false;
    world.command({ kind: 'volume-move', volumeId: world.volumeId, from: prng.pick(members).serverId, to: prng.pick(to).serverId });
    return true;
  },
  'move-ends': (world) => {
    const move = world.volumeId === '' ? null : world.store.volume(world.volumeId)?.move ?? null;
    if (move === null) return false;
    world.command({ kind: 'volume-move', volumeId: world.volumeId, from: move.from });
    return true;
  },
  drain: (world, prng) => {
    const { serverId } = aServer(world, prng);
    world.command({ kind: 'server-drain', serverId });
    // If nobody answers then it stays so until faults stop.
    world.after(prng.pick(DURATIONS_MS) * 3, () => world.command({ kind: 'server-drain', serverId, cancel: true }));
    return true;
  },
  mirrors: (world, prng) => {
    if (world.volumeId === '') return false;
    world.command({ kind: 'volume-modify', volumeId: world.volumeId, mirrors: prng.between(1, world.servers.length - 2) });
    return true;
  },
  'late-session': (world, prng) => {
    if (world.late.length === 0) return false;
    const { from, message } = prng.pick(world.late);
    const server = prng.chance(0.7) ? world.primary : aServer(world, prng);
    if (server === null || !server.process.up) return false;
    world.scheduler.at(world.scheduler.nowMs, EventKind.message, server, { kind: 'session', from, message }, 'late');
    return true;
  },
};

/** Mostly one that matters to the volume. */
function aServer(world: World, prng: Prng): SimServer {
  const any = prng.pick(world.servers);
  const members = world.ghost.configuration?.members ?? [];
  const member = members.length > 0 ? world.server(prng.pick(members).serverId) : any;
  return prng.chance(0.75) ? member : any;
}

/** The manager ends, and finds another store when it comes back; what it had asked of the former one is over by then. */
function setBack(world: World, prng: Prng, to: StoreSnapshot): boolean {
  if (!world.manager.process.up || world.volumeId === '') return false;
  world.end(world.manager, false);
  world.after(10, () => {
    world.store.rollBack(to);
    world.ghost.storeSetBack();
  });
  world.after(20 + prng.pick(DURATIONS_MS) * prng.fraction(), () => world.start(world.manager));
  return true;
}

function freeze(world: World, prng: Prng, sim: SimServer | SimHost | SimManager | null): boolean {
  if (sim === null || !sim.process.up) return false;
  sim.process.freeze(world.scheduler.nowMs + prng.pick(DURATIONS_MS) * (0.5 + prng.fraction()));
  return true;
}

function endAtCall(world: World, prng: Prng, power: boolean): boolean {
  const server = aServer(world, prng);
  if (!server.process.up) return false;
  Object.assign(server.medium.faults, { endsIn: prng.between(1, 12), endsWithPower: power });
  // Whoever ends by it is started again by and by.
  for (let k = 1; k <= 4; k++) world.after(k * 900, () => world.start(server));
  return true;
}

function cut(world: World, prng: Prng, both: boolean): boolean {
  const sims = [...world.sims];
  const a = prng.chance(0.6) && world.primary !== null ? world.primary : prng.pick(sims);
  const b = prng.pick(sims);
  const forMs = prng.pick(DURATIONS_MS);
  if (a === b) return false;
  world.links.cut(a.process, b.process, forMs);
  if (both) world.links.cut(b.process, a.process, forMs);
  return true;
}

/**
 * The primary is cut from the manager, mostly from all servers as well, but not from a host that hears of no new configuration; then another is made
 * primary, perhaps one that was restarted a moment ago. All that keeps the old one from showing old bytes is its lease.
 */
function blindFailover(world: World, prng: Prng): boolean {
  const { primary } = world;
  const { configuration } = world.ghost;
  if (primary === null || configuration === null || configuration.members.length < 2) return false;
  const forMs = prng.pick([900, 2_000, 4_000]);
  const host = prng.pick(world.hosts);
  // Cut from the manager alone, it goes on sending to mirrors that have promised another.
  const from = prng.chance(0.65) ? [...world.servers, world.manager] : [world.manager];
  for (const other of from) {
    if (other === primary) continue;
    world.links.cut(primary.process, other.process, forMs);
    world.links.cut(other.process, primary.process, forMs);
  }
  world.links.cut(world.manager.process, host.process, forMs);
  const next = world.server(configuration.members[1].serverId);
  const restarts = prng.chance(0.5) && next.process.up;
  if (restarts) {
    world.end(next, false);
    world.after(10 + prng.fraction() * 40, () => world.start(next));
  }
  world.after((restarts ? 60 : 1) + prng.fraction() * 150, () => world.command({ kind: 'volume-failover', volumeId: world.volumeId, to: next.serverId }));
  return true;
}

/** Two halves that do not hear each other; the manager and another member are not on the primary's side, and may make that one primary. */
function split(world: World, prng: Prng): boolean {
  const { primary } = world;
  const next = world.ghost.configuration?.members[1];
  if (primary === null || next === undefined) return false;
  const there = new Set([...world.sims].filter((sim) => sim !== primary && (sim === world.manager || sim === world.server(next.serverId) || prng.chance(0.5))));
  const forMs = prng.pick([1_500, 3_000, 6_000]);
  for (const a of world.sims) {
    for (const b of world.sims) if (there.has(a) !== there.has(b)) world.links.cut(a.process, b.process, forMs);
  }
  if (prng.chance(0.6)) world.after(10 + prng.fraction() * 200, () => world.command({ kind: 'volume-failover', volumeId: world.volumeId, to: next.serverId }));
  return true;
}

function lie(world: World, prng: Prng, how: 'lostWrites' | 'misdirectedWrites'): boolean {
  if (!world.plan.realStore) return false;
  aServer(world, prng).medium.faults[how]++;
  return true;
}

/** A disk may fail for good only while another copy holds everything. */
function expendable(world: World, server: SimServer): boolean {
  const { ghost } = world;
  const members = ghost.configuration?.members ?? [];
  const sound = members.filter((member) => {
    const other = world.server(member.serverId);
    const { failSync, failWrite } = other.medium.faults;
    if (other === server || !other.process.up || ghost.lost(member) || failSync || failWrite) return false;
    return other.driver !== null && other.driver.core.durable.fault === null && other.driver.store.fault === null;
  });
  return sound.length > 0 && server.process.up;
}

function spoil(world: World, prng: Prng, run: (server: SimServer) => void): boolean {
  const server = aServer(world, prng);
  if (!expendable(world, server) || world.servers.some((other) => other.medium.faults.failSync || other.medium.faults.failWrite)) return false;
  run(server);
  return true;
}
