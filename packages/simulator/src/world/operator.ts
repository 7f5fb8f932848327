import type { HostId } from '@ashlar/words';
import { check } from '../checks/violation.ts';
import type { World } from './world.ts';

const STEP_MS = 100;

/** The person who wants a volume with a writer somewhere: asks the manager again until it is so, as programs of an operator do. */
export class Operator {
  readonly #world: World;
  writer: HostId;
  wantsReader = false;
  #askedMs = -Infinity;

  constructor(world: World) {
    this.#world = world;
    this.writer = world.hosts[0].hostId;
    world.after(20, () => this.#step());
  }

  #step(): void {
    const world = this.#world;
    world.after(STEP_MS, () => this.#step());
    const { nowMs } = world.scheduler;
    if (nowMs - this.#askedMs < 300) return;
    if (this.#ask()) this.#askedMs = nowMs;
  }

  /** True: something was asked for. */
  #ask(): boolean {
    const world = this.#world;
    const { plan, volumeId } = world;
    const standing = world.manager.core?.state.standing.state;
    if (standing === 'refusing') {
      world.command({ kind: 'recover', dryRun: false, without: [] });
      return true;
    }
    if (standing !== 'acting') return false;
    const record = volumeId === '' ? undefined : world.store.volume(volumeId);
    if (record === undefined) {
      check(world.ghost.configuration === null || world.ghost.configuration.epoch === 1, 'recovered', () => `the manager acts, and does not know ${volumeId}`);
      world.command({
        kind: 'volume-create', sizeBytes: world.volumeBytes, mirrors: plan.copies - 1, minCopies: plan.minCopies, durability: plan.strict ? 'strict' : 'normal',
        limits: { ioTimeoutMs: plan.ioTimeoutMs, iops: 0, bandwidthBytes: 0, priority: 5 }, tags: {}, clientToken: 'the-volume',
      });
      return true;
    }
    if (record.state === 'creating') return false;
    const writer = record.attachments.find((attachment) => !attachment.readOnly);
    if (writer === undefined) world.command({ kind: 'volume-attach', volumeId, hostId: this.writer, readOnly: false, tcp: false });
    else if (writer.hostId !== this.writer) {
      if (writer.state === 'detaching') return false;
      world.command({ kind: 'volume-detach', volumeId, hostId: writer.hostId });
    } else return this.#askReader();
    return true;
  }

  #askReader(): boolean {
    const world = this.#world;
    const { volumeId } = world;
    const host = world.hosts.find((other) => other.hostId !== this.writer)?.hostId;
    const reader = world.store.volume(volumeId)?.attachments.find((attachment) => attachment.readOnly);
    if (host === undefined || !this.wantsReader || reader !== undefined) return false;
    world.command({ kind: 'volume-attach', volumeId, hostId: host, readOnly: true, tcp: false });
    return true;
  }
}
