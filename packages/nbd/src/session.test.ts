import { describe, expect, it } from 'vitest';
import { Op } from '@ashlar/protocol';
import { Command, CommandFlag, NbdError, Option, OptionReply } from './constants.ts';
import { SLAB_BYTES_FIRST } from './limits.ts';
import { contexts, FLAGS, info, option, request, SIZE, u32, Wire } from './testing/wire.ts';
import { encodeUtf8 } from './text.ts';

const { ack, info: infoReply, metaContext, server } = OptionReply;

describe('the handshake', () => {
  it('lists, describes, and lets in', () => {
    const wire = new Wire();
    wire.put(FLAGS, option(Option.list), option(Option.info, info('v', 1, 2, 3)), option(Option.structuredReply), option(Option.setMetaContext, contexts('v', 'base:allocation', 'qemu:x')));
    expect(wire.optionReplies()).toEqual([server, ack, infoReply, infoReply, infoReply, infoReply, ack, ack, metaContext, ack]);
    wire.put(option(Option.go, info('v')));
    expect(wire.optionReplies()).toEqual([infoReply, infoReply, ack]);
    expect(wire.session.target?.name).toBe('v');
  });

  it('takes the old way in', () => {
    for (const [flags, bytes] of [[1, 134], [3, 10]] as const) {
      const wire = new Wire();
      wire.put(u32(flags), option(Option.exportName, encodeUtf8('v')));
      expect(wire.take().length).toBe(bytes);
    }
  });

  it('refuses with the protocol’s own errors, and goes on', () => {
    const wire = new Wire();
    const cases: readonly (readonly [Uint8Array, number])[] = [
      [option(99), OptionReply.errUnsupported],
      [option(Option.list, Uint8Array.of(1)), OptionReply.errInvalid],
      [option(Option.go, info('nobody')), OptionReply.errUnknown],
      [option(Option.go, Uint8Array.of(1, 2)), OptionReply.errInvalid],
      [option(Option.go, Buffer.concat([u32(0xffffffff), info('v')])), OptionReply.errInvalid],
      [option(Option.go, Buffer.concat([info('v'), Uint8Array.of(0)])), OptionReply.errInvalid],
      [option(Option.setMetaContext, contexts('v', 'base:allocation')), OptionReply.errInvalid],
      [option(Option.startTls), OptionReply.errPolicy],
      [option(Option.structuredReply, Uint8Array.of(1)), OptionReply.errInvalid],
      [option(Option.list, new Uint8Array(100_000)), OptionReply.errTooBig],
      [option(Option.structuredReply), ack],
      [option(Option.listMetaContext, contexts('v')), metaContext],
      [option(Option.setMetaContext, contexts('nobody', 'base:allocation')), OptionReply.errUnknown],
      [option(Option.setMetaContext, u32(1)), OptionReply.errInvalid],
      [option(Option.setMetaContext, Buffer.concat([u32(0, 1, 0xffffffff)])), OptionReply.errInvalid],
      [option(Option.setMetaContext, Buffer.concat([u32(0, 0xffffffff)])), OptionReply.errInvalid],
      [option(Option.abort), ack],
    ];
    wire.put(FLAGS);
    for (const [bytes, expected] of cases) {
      wire.put(bytes);
      expect(wire.optionReplies()[0]).toBe(expected);
    }
    expect(wire.ended).toBe(true);
    expect(wire.fault).toBe(null);
  });

  it('ends where there is no answer', () => {
    const cases: readonly (readonly Uint8Array[])[] = [
      [u32(0)], [u32(0x80000003)], [FLAGS, new Uint8Array(16)], [FLAGS, option(Option.exportName, encodeUtf8('nobody'))],
      [FLAGS, option(Option.list, new Uint8Array(0), 0xffffffff)], [FLAGS, ...Array.from({ length: 1100 }, () => option(99))],
    ];
    for (const parts of cases) {
      const wire = new Wire();
      wire.put(...parts);
      expect(wire.fault).not.toBe(null);
    }
  });

  it('asks for TLS where it is required, and trusts nothing that came before it', () => {
    const wire = new Wire('required');
    wire.put(FLAGS, option(Option.list), option(Option.structuredReply));
    expect(wire.optionReplies()).toEqual([OptionReply.errTlsRequired, OptionReply.errTlsRequired]);
    wire.put(option(Option.startTls));
    expect(wire.tls).toBe(true);
    wire.session.secured();
    wire.take();
    wire.put(option(Option.setMetaContext, contexts('v', 'base:allocation')), option(Option.startTls), option(Option.go, info('v')));
    expect(wire.optionReplies()).toEqual([OptionReply.errInvalid, OptionReply.errInvalid, infoReply, infoReply, ack]);
    const injected = new Wire('offered');
    injected.put(FLAGS, Buffer.concat([option(Option.startTls), option(Option.list)]));
    expect(injected.fault).toMatch(/STARTTLS/);
  });

  it('believes nothing that came in the clear with STARTTLS, wherever the receive memory ends', () => {
    const wire = new Wire('offered');
    // The first receive memory, filled up to its last byte.
    const start = Buffer.concat([FLAGS, option(99, new Uint8Array(8166)), option(99, new Uint8Array(8166)), option(Option.startTls)]);
    expect(start.length).toBe(SLAB_BYTES_FIRST);
    wire.put(Buffer.concat([start, option(Option.go, info('v'))]));
    expect(wire.fault).toMatch(/STARTTLS/);
    wire.take();
    wire.session.secured();
    wire.put(option(Option.list));
    expect(wire.take().length).toBe(0);
    expect(wire.session.target).toBe(null);
  });

  it('forgets meta contexts of another export', () => {
    const wire = new Wire();
    wire.put(FLAGS, option(Option.structuredReply), option(Option.setMetaContext, contexts('v', 'base:allocation')), option(Option.setMetaContext, contexts('v')), option(Option.go, info('v')));
    wire.take();
    wire.put(request(Command.blockStatus, 1, 0, 4096));
    expect(wire.take().readUInt32BE(20)).toBe(NbdError.invalid);
  });
});

describe('requests', () => {
  it('of one read become one frame, and their replies one write', () => {
    const wire = new Wire().transmission();
    const data = new Uint8Array(4096).fill(7);
    wire.put(Buffer.concat([
      request(Command.write, 1, 8192, 4096, data, CommandFlag.fua), request(Command.read, 2, 0, 1024), request(Command.write, 3, 512, 1024, data.subarray(0, 1024)),
      request(Command.flush, 4, 0, 0), request(Command.writeZeroes, 5, 0, 65536, undefined, CommandFlag.noHole | CommandFlag.fastZero), request(Command.read, 6, 4096, 512),
    ]));
    const { frames } = wire.backend;
    expect(frames.length).toBe(1);
    const [frame] = frames;
    expect(Array.from({ length: frame!.count }, (_, i) => frame!.op(i))).toEqual([Op.write, Op.read, Op.write, Op.flush, Op.zero, Op.read]);
    expect([frame!.opFlags(0), frame!.opFlags(4)]).toEqual([1, 6]);
    expect(frame!.bytes(2)).toEqual(data.subarray(0, 1024));
    expect(frame!.payload.length).toBe(4096 + 28 + 28 + 1024);
    expect(wire.writes).toEqual([2]);
    const replies = wire.take();
    expect(replies.length).toBe(4 * 16 + 28 + 1024 + 28 + 512);
  });

  it('whose first bytes come alone are completed in place', () => {
    const wire = new Wire().transmission();
    const bytes = request(Command.write, 1, 0, 65536, new Uint8Array(65536).fill(3));
    for (const byte of bytes.subarray(0, 60)) wire.put(Uint8Array.of(byte));
    expect(wire.backend.frames.length).toBe(0);
    wire.put(bytes.subarray(60, 5000), bytes.subarray(5000));
    expect(wire.backend.frames[0]?.bytes(0).every((byte) => byte === 3)).toBe(true);
    expect(wire.take().readUInt32BE(4)).toBe(0);
  });

  it('that break the rules are refused one by one', () => {
    const wire = new Wire().transmission();
    const cases: readonly (readonly [Uint8Array, number])[] = [
      [request(9, 1, 0, 512), NbdError.invalid],
      [request(Command.flush, 1, 0, 0, undefined, CommandFlag.df), NbdError.invalid],
      [request(Command.trim, 1, 0, 0), NbdError.invalid],
      [request(Command.trim, 1, 1, 512), NbdError.invalid],
      [request(Command.write, 1, SIZE, 512, new Uint8Array(512)), NbdError.noSpace],
      [request(Command.cache, 1, 2 ** 53 - 1, 0xfffffe00), NbdError.invalid],
      [request(Command.writeZeroes, 1, SIZE - 512, 1024), NbdError.noSpace],
    ];
    for (const [bytes, error] of cases) {
      wire.put(bytes);
      expect(wire.take().readUInt32BE(4)).toBe(error);
    }
    expect(wire.backend.frames.length).toBe(0);
    wire.put(request(Command.read, 1, 0, 2 ** 31));
    expect(wire.take().readUInt32BE(20)).toBe(NbdError.invalid);
  });

  it('are not carried out for a refused write’s bytes, however long it is', () => {
    const wire = new Wire().transmission();
    wire.put(request(Command.write, 1, 0, 40 * 2 ** 20));
    for (let i = 0; i < 40; i++) wire.put(new Uint8Array(2 ** 20).fill(0x25));
    expect(wire.take().readUInt32BE(4)).toBe(NbdError.invalid);
    wire.put(request(Command.read, 2, 0, 512));
    expect(wire.backend.frames.length).toBe(1);
    expect(wire.take().length).toBe(28 + 512);
  });

  it('end with the connection at the first without its magic number', () => {
    const wire = new Wire().transmission();
    wire.put(request(Command.read, 1, 0, 512), new Uint8Array(28));
    expect(wire.fault).toMatch(/magic/);
    expect(wire.take().length).toBe(28 + 512);
  });

  it('are answered before an orderly end', () => {
    const wire = new Wire().transmission();
    wire.put(Buffer.concat([request(Command.read, 1, 0, 512), request(Command.disconnect, 2, 0, 0), request(Command.read, 3, 0, 512)]));
    expect(wire.take().length).toBe(28 + 512);
    expect(wire.ended).toBe(true);
    expect(wire.backend.frames.length).toBe(1);
  });
});
