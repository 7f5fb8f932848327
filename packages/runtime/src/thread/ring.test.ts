import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createRing, RecordKind, RingReader, RingWriter } from './ring.ts';

function filled(length: number, with_: number): Uint8Array { return new Uint8Array(length).fill(with_); }

class Model {
  readonly written: Uint8Array[] = [];
  published = 0;
  /** Something was read whose room was not given back. */
  held = false;
}
interface Real { readonly writer: RingWriter; readonly reader: RingReader }
type Command = fc.Command<Model, Real>;

class Write implements Command {
  readonly length: number;
  constructor(length: number) { this.length = length; }
  check(): boolean { return true; }
  run(model: Model, real: Real): void {
    const bytes = filled(this.length, model.written.length & 0xff);
    const before = model.written.length;
    if (real.writer.write(RecordKind.batch, bytes)) model.written.push(bytes);
    // An empty ring takes any record that is not too large.
    else expect(before > 0 || model.held).toBe(true);
  }
  toString(): string { return `write ${this.length}`; }
}
class Publish implements Command {
  check(): boolean { return true; }
  run(model: Model, real: Real): void {
    real.writer.publish();
    model.published = model.written.length;
  }
  toString(): string { return 'publish'; }
}
class Read implements Command {
  check(): boolean { return true; }
  run(model: Model, real: Real): void {
    const record = real.reader.read();
    if (model.published === 0) expect(record).toBeNull();
    else {
      expect(record?.bytes).toEqual(model.written.shift());
      model.published--;
      model.held = true;
    }
    expect(real.reader.empty).toBe(model.published === 0);
  }
  toString(): string { return 'read'; }
}
class Release implements Command {
  check(): boolean { return true; }
  run(model: Model, real: Real): void {
    real.reader.release();
    model.held = false;
  }
  toString(): string { return 'release'; }
}
class Sleep implements Command {
  check(): boolean { return true; }
  run(model: Model, real: Real): void { expect(real.reader.sleep()).toBe(model.published === 0); }
  toString(): string { return 'sleep'; }
}

describe('a ring', () => {
  test('is a queue of whole records, whatever their sizes and wherever it wraps', () => {
    const commands = fc.commands([
      fc.nat(119).map((length) => new Write(length)), fc.nat(119).map((length) => new Write(length)), fc.constant(new Publish()), fc.constant(new Read()), fc.constant(new Read()), fc.constant(new Release()), fc.constant(new Sleep()),
    ], { maxCommands: 200, size: 'max' });
    fc.assert(fc.property(commands, (run) => {
      fc.modelRun(() => {
        const buffer = createRing(256);
        // Begins just below the point where the counters wrap.
        const control = new Int32Array(buffer, 0, 64);
        control[0] = control[16] = -64;
        return { model: new Model(), real: { writer: new RingWriter(buffer), reader: new RingReader(buffer) } };
      }, run);
    }), { numRuns: 500 });
  });

  test('a sleeping reader is woken once, and a waiting writer told once', () => {
    const buffer = createRing(64);
    const [writer, reader] = [new RingWriter(buffer), new RingReader(buffer)];
    expect(writer.publish()).toBe(false);
    expect(reader.sleep()).toBe(true);
    expect(writer.write(RecordKind.onPort, filled(24, 1))).toBe(true);
    expect(writer.write(RecordKind.batch, filled(24, 1))).toBe(true);
    expect(writer.write(RecordKind.batch, filled(0, 1))).toBe(false);
    expect(writer.publish()).toBe(true);
    expect(writer.publish()).toBe(false);
    expect(reader.sleep()).toBe(false);
    writer.wantRoom();
    expect(reader.read()?.kind).toBe(RecordKind.onPort);
    expect(reader.release()).toBe(true);
    expect(reader.release()).toBe(false);
    expect(() => writer.write(RecordKind.batch, filled(25, 1))).toThrow('fits');
    expect(() => createRing(100)).toThrow('power of two');
  });

  test('of batches that come through the port only two are on their way', () => {
    const buffer = createRing(1024);
    const [writer, reader] = [new RingWriter(buffer), new RingReader(buffer)];
    const none = new Uint8Array(0);
    expect([1, 2, 3].map(() => writer.write(RecordKind.onPort, none))).toEqual([true, true, false]);
    expect(writer.write(RecordKind.batch, none)).toBe(true);
    writer.publish();
    reader.read();
    expect(writer.write(RecordKind.onPort, none)).toBe(false);
    reader.release();
    expect(writer.write(RecordKind.onPort, none)).toBe(true);
  });

  test('between two threads nothing is lost, doubled or torn, and nobody sleeps through a wake-up', async () => {
    const [there, back] = [createRing(4096), createRing(4096)];
    const records = 100_000;
    const worker = new Worker(new URL('./testing/ring-echo-main.ts', import.meta.url), { workerData: { there, back, records } });
    const ended = new Promise<number>((resolve, reject) => { worker.once('exit', resolve); worker.once('error', reject); });
    const [writer, reader] = [new RingWriter(there), new RingReader(back)];
    let next = 0;
    let seen = 0;
    await new Promise<void>((resolve, reject) => {
      const pump = (): void => {
        for (;;) {
          let wrote = false;
          while (next < records && next - seen < 5000 && writer.write(RecordKind.batch, filled(next % 700, next & 0xff))) {
            next++;
            wrote = true;
          }
          if (wrote && writer.publish()) worker.postMessage(0);
          for (let record = reader.read(); record; record = reader.read()) {
            const { bytes } = record;
            if (bytes.length !== seen % 700 || !bytes.every((byte) => byte === (seen & 0xff))) return reject(new Error(`record ${seen} is wrong`));
            seen++;
          }
          if (reader.release()) worker.postMessage(0);
          if (seen === records) return resolve();
          if (next < records && next - seen < 5000) writer.wantRoom();
          if (reader.sleep()) return;
        }
      };
      worker.on('message', pump);
      pump();
    });
    expect(await ended).toBe(0);
  });
});
