import { writeSync, readSync, writevSync } from 'node:fs';
import { workerData, type MessagePort } from 'node:worker_threads';
import type { BackgroundJob, BackgroundResult, BackgroundStart } from './background.ts';

/** The thread that reads and writes files in bulk for the thread that has opened them: descriptors are the process's, memory is shared. */

/** Pieces that one call takes; Linux's IOV_MAX is 1024. */
const PIECES_MAX = 512;

const { port, ended } = workerData as BackgroundStart;

function carryOut({ fd, memory, kind, table }: BackgroundJob): void {
  for (let k = 0; k < table.length;) k = kind === 'read' ? readOne(fd, memory, table, k) : writeRun(fd, memory, table, k);
}

function readOne(fd: number, memory: Uint8Array, table: Float64Array, k: number): number {
  const from = table[k] as number;
  const length = table[k + 1] as number;
  const position = table[k + 2] as number;
  let done = 0;
  while (done < length) {
    const count = readSync(fd, memory, from + done, length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  memory.fill(0, from + done, from + length);
  return k + 3;
}

/** Writes the piece at `k` and those that lie right behind it with one call. */
function writeRun(fd: number, memory: Uint8Array, table: Float64Array, k: number): number {
  const position = table[k + 2] as number;
  let total = table[k + 1] as number;
  let next = k + 3;
  while (next < table.length && next < k + 3 * PIECES_MAX && table[next + 2] === position + total) {
    total += table[next + 1] as number;
    next += 3;
  }
  if (next === k + 3) {
    if (writeSync(fd, memory, table[k] as number, total, position) < total) writeRest(fd, [pieceAt(memory, table, k)], position);
    return next;
  }
  const pieces: Uint8Array[] = [];
  for (let at = k; at < next; at += 3) pieces.push(pieceAt(memory, table, at));
  if (writevSync(fd, pieces, position) < total) writeRest(fd, pieces, position);
  return next;
}

function pieceAt(memory: Uint8Array, table: Float64Array, k: number): Uint8Array {
  const from = table[k] as number;
  return memory.subarray(from, from + (table[k + 1] as number));
}

/** A call may write less than all when a disk is about to be full: piece by piece then, until it is written or the disk says why not. */
function writeRest(fd: number, pieces: readonly Uint8Array[], position: number): void {
  let at = position;
  for (const piece of pieces) {
    for (let done = 0; done < piece.length;) {
      const count = writeSync(fd, piece, done, piece.length - done, at + done);
      if (count === 0) throw Object.assign(new Error('nothing was written'), { code: 'EIO' });
      done += count;
    }
    at += piece.length;
  }
}

port.on('message', (job: BackgroundJob) => {
  let result: BackgroundResult = { id: job.id, error: null };
  try {
    carryOut(job);
  } catch (error) {
    const { code, message } = error as { readonly code?: string; readonly message?: string };
    result = { id: job.id, error: { code: code ?? '', message: message ?? String(error) } };
  }
  (port as MessagePort).postMessage(result);
  Atomics.add(ended, 0, 1);
  Atomics.notify(ended, 0);
});
