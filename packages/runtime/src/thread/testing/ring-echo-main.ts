import { parentPort, workerData } from 'node:worker_threads';
import { RecordKind, RingReader, RingWriter } from '../ring.ts';

/** The other end of the ring's test: sends every record back, in a thread of its own. */
const { there, back, records } = workerData as { there: SharedArrayBuffer; back: SharedArrayBuffer; records: number };
const [reader, writer] = [new RingReader(there), new RingWriter(back)];
let held: Uint8Array | null = null;
let echoed = 0;

function pump(): void {
  for (;;) {
    for (held ??= reader.read()?.bytes ?? null; held !== null; held = reader.read()?.bytes ?? null) {
      if (!writer.write(RecordKind.batch, held)) {
        writer.wantRoom();
        if (!writer.write(RecordKind.batch, held)) break;
      }
      echoed++;
    }
    if (writer.publish()) parentPort?.postMessage(0);
    if (reader.release()) parentPort?.postMessage(0);
    if (echoed === records) {
      parentPort?.close();
      return;
    }
    if (held !== null || reader.sleep()) return;
  }
}

parentPort?.on('message', pump);
pump();
