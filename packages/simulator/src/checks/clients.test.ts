import { Frame, FrameKind, Op, volumeTag } from '@ashlar/protocol';
import { serverId, volumeId } from '@ashlar/words';
import { beforeEach, describe, expect, it } from 'vitest';
import { stampValue } from '../world/values.ts';
import { ClientHistory, type ClientOp } from './clients.ts';
import { Ghost } from './ghost.ts';

const SERVER = serverId('server-1');
const BLOCK_SECTORS = 8;

/** Every check is first shown to fail. */
describe('ClientHistory', () => {
  let ghost: Ghost;
  let clients: ClientHistory;
  let seq = 0;

  beforeEach(() => {
    ghost = new Ghost();
    clients = new ClientHistory(ghost);
    seq = 0;
  });

  function commit(op: ClientOp, requestNumber = op.id): void {
    const bytes = new Uint8Array(op.sectors * 512);
    stampValue(bytes, op.firstSector, op.id);
    const frame = Frame.create(FrameKind.log, 1, 1, bytes);
    frame.setVolumeTag(volumeTag(volumeId('vol-0123456789abcdef0')));
    frame.firstSeq = ++seq;
    frame.chain = seq * 7;
    frame.attachNumber = 1;
    frame.sessionCount = 1;
    frame.setOperation(0, requestNumber, Op.write, 0, op.firstSector * 512, bytes.length, 0, 0);
    ghost.appended(SERVER, frame);
    ghost.committed(SERVER, seq);
  }

  const write = (): ClientOp => clients.call('a', 'write', 0, BLOCK_SECTORS, false, 0);
  const read = (): ClientOp => clients.call('b', 'read', 0, BLOCK_SECTORS, false, 0);
  function bytesOf(op: ClientOp): Uint8Array {
    const bytes = new Uint8Array(BLOCK_SECTORS * 512);
    stampValue(bytes, 0, op.id);
    return bytes;
  }

  it('takes a read of the newest answered value', () => {
    const first = write();
    commit(first);
    clients.succeed(first, null);
    clients.succeed(read(), bytesOf(first));
  });

  it('notices a stale read', () => {
    const [first, second] = [write(), write()];
    commit(first);
    commit(second);
    clients.succeed(first, null);
    clients.succeed(second, null);
    expect(() => clients.succeed(read(), bytesOf(first))).toThrow('read-linearizable');
  });

  it('takes a read that overlaps the write', () => {
    const [first, second, early] = [write(), write(), read()];
    commit(first);
    commit(second);
    clients.succeed(second, null);
    clients.succeed(early, bytesOf(first));
  });

  it('notices a value that is not committed', () => {
    const first = write();
    expect(() => clients.succeed(read(), bytesOf(first))).toThrow('not committed');
  });

  it('notices an answered write that is not there', () => {
    expect(() => clients.succeed(write(), null)).toThrow('write-linearizable');
  });

  it('notices one flipped bit', () => {
    const first = write();
    commit(first);
    clients.succeed(first, null);
    const bytes = bytesOf(first);
    bytes[1000] ^= 4;
    expect(() => clients.succeed(read(), bytes)).toThrow('wrong-bytes');
  });

  it('notices a request that is applied twice', () => {
    const first = write();
    commit(first);
    expect(() => commit(first)).toThrow('applied-once');
  });

  it('notices a second answer', () => {
    const first = write();
    commit(first);
    clients.succeed(first, null);
    expect(() => clients.succeed(first, null)).toThrow('answered twice');
  });
});
