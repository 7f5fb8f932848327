import type { AttachmentSpec } from '@ashlar/protocol';
import { hostId, type VolumeId } from '@ashlar/words';
import { describe, expect, it } from 'vitest';
import { ModelWorld } from '../testing/model-world.ts';

const FAST = { rebuildDelayMs: 5000, learnerPatienceMs: 5000 };
const OTHER = hostId('host-2');

/** A volume that a host writes to, or reads, whose machine is gone. */
function gone(readOnly = false): { world: ModelWorld; id: VolumeId; shown: AttachmentSpec } {
  const world = new ModelWorld(2, FAST);
  const id = world.create(1);
  world.ask({ kind: 'volume-attach', volumeId: id, hostId: world.host, readOnly, tcp: false });
  const shown = world.shown.get(id)!;
  world.hostGone(world.host);
  world.hostUp(OTHER);
  return { world, id, shown };
}

const toldToDetach = (world: ModelWorld): boolean => world.toHosts.some((command) => command.kind === 'detach');

describe('detach --force', () => {
  it('ends what a host has that is gone and does not answer, and shuts its writer out', () => {
    const { world, id } = gone();
    const attach = { kind: 'volume-attach', volumeId: id, hostId: OTHER, readOnly: false, tcp: false } as const;
    expect(world.ask(attach)).toMatchObject({ ok: false, code: 'in-use', message: expect.stringContaining('detach') as unknown });
    expect(world.ask({ kind: 'volume-detach', volumeId: id })).toMatchObject({ ok: false, code: 'timeout' });
    const { attachNumber, epoch } = world.volume(id).configuration;
    expect(world.ask({ kind: 'volume-detach', volumeId: id, force: true })).toMatchObject({ ok: true });
    expect(world.volume(id)).toMatchObject({ state: 'available', attachments: [], configuration: { attachNumber: attachNumber + 1, epoch: epoch + 1 } });
    expect(world.ask(attach)).toMatchObject({ ok: true, value: { host: OTHER } });
    expect(world.volume(id).configuration.attachNumber).toBe(attachNumber + 2);
  });

  it('is no more needed where the host is up, which the refusal then does not say', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    const attach = { kind: 'volume-attach', volumeId: id, hostId: world.host, readOnly: false, tcp: false } as const;
    world.ask(attach);
    expect(world.ask(attach)).toMatchObject({ ok: false, message: `${id} has a writer already, on host-1` });
  });

  it('lets the volume be deleted', () => {
    const { world, id } = gone();
    world.ask({ kind: 'volume-detach', volumeId: id, force: true });
    expect(world.ask({ kind: 'volume-delete', volumeId: id })).toMatchObject({ ok: true });
  });

  it.each(['available', 'attached elsewhere', 'deleted'] as const)('has the host that comes back end it: the volume is %s by then', (fate) => {
    const { world, id, shown } = gone();
    world.ask({ kind: 'volume-detach', volumeId: id, force: true });
    if (fate === 'attached elsewhere') world.ask({ kind: 'volume-attach', volumeId: id, hostId: OTHER, readOnly: false, tcp: false });
    if (fate === 'deleted') world.ask({ kind: 'volume-delete', volumeId: id });
    expect(toldToDetach(world)).toBe(false);
    world.hostUp(world.host, [shown]);
    expect(world.toHosts.at(-1)).toMatchObject({ kind: 'detach', volumeId: id, readOnly: false });
    world.run(1000);
    if (fate === 'attached elsewhere') expect(world.volume(id).attachments).toMatchObject([{ hostId: OTHER, state: 'attached' }]);
  });

  it('of readers raises no number, and takes no epoch', () => {
    const { world, id } = gone(true);
    const { configuration } = world.volume(id);
    expect(world.ask({ kind: 'volume-detach', volumeId: id, force: true })).toMatchObject({ ok: true });
    expect(world.volume(id)).toMatchObject({ state: 'available', attachments: [], configuration });
  });

  it('leaves the reads of a last copy alone whose disk takes no writes any more', () => {
    const world = new ModelWorld(1, FAST);
    const id = world.create(0);
    world.ask({ kind: 'volume-attach', volumeId: id, hostId: world.host, readOnly: false, tcp: false });
    world.hostGone(world.host);
    const [last] = world.servers;
    last!.copies.get(id)!.fault = 'sync-failed';
    world.tellFault(last!, id);
    world.run(100);
    const { epoch } = world.volume(id).configuration;
    expect(world.ask({ kind: 'volume-detach', volumeId: id, force: true })).toMatchObject({ ok: true });
    expect(world.volume(id)).toMatchObject({ attachments: [], configuration: { epoch } });
  });

  it('shuts the writer out where the primary’s disk has failed and its mirror is away, and may be back', () => {
    const world = new ModelWorld(2, FAST);
    const id = world.create(1);
    world.ask({ kind: 'volume-modify', volumeId: id, minCopies: 2 });
    world.ask({ kind: 'volume-attach', volumeId: id, hostId: world.host, readOnly: false, tcp: false });
    const [first, second] = world.volume(id).configuration.members.map((member) => world.server(member.serverId));
    world.hostGone(world.host);
    world.kill(second!);
    world.run(3000);
    first!.copies.get(id)!.fault = 'sync-failed';
    world.tellFault(first!, id);
    world.run(3000);
    const { attachNumber } = world.volume(id).configuration;
    expect(world.ask({ kind: 'volume-detach', volumeId: id, force: true })).toMatchObject({ ok: true });
    world.revive(second!);
    world.run(5000);
    expect(world.volume(id).configuration.attachNumber).toBe(attachNumber + 1);
  });

  it('tells nobody anything when the store did not take it', () => {
    const { world, id } = gone();
    world.hostUp(world.host, [world.shown.get(id)!]);
    world.fate = 'request-lost';
    const asked = world.command({ kind: 'volume-detach', volumeId: id, force: true });
    world.run(200);
    world.fate = 'answered';
    world.run(1000);
    expect(world.answers.get(asked)).toMatchObject({ ok: false, code: 'unavailable' });
    expect(toldToDetach(world)).toBe(false);
    expect(world.volume(id).attachments).toHaveLength(1);
  });
});
