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

function pieceAt(memory: SharedArrayBuffer, table: Float64Array, k: number): Uint8Array {
  return new Uint8Array(memory, table[k] as number, table[k + 1] as number);
}

function readOne(fd: number, memory: SharedArrayBuffer, table: Float64Array, k: number): number {
  const into = pieceAt(memory, table, k);
  const position = table[k + 2] as number;
  let done = 0;
  while (done < into.length) {
    const count = readSync(fd, into, done, into.length - done, position + done);
    if (count === 0) break;
    done += count;
  }
  into.fill(0, done);
  return k + 3;
}

/** Writes the piece at `k` and those that lie right behind it with one call. */
function writeRun(fd: number, memory: SharedArrayBuffer, table: Float64Array, k: number): number {
  const position = table[k + 2] as number;
  const pieces: Uint8Array[] = [];
  let total = 0;
  let next = k;
  while (next < table.length && pieces.length < PIECES_MAX && table[next + 2] === position + total) {
    const piece = pieceAt(memory, table, next);
    pieces.push(piece);
    total += piece.length;
    next += 3;
  }
  const written = pieces.length === 1 ? writeSync(fd, pieces[0] as Uint8Array, 0, total, position) : writevSync(fd, pieces, position);
  if (written < total) finish(fd, pieces, position, written);
  return next;
}

/** A write may take less than all when a disk is about to be full. */
function finish(fd: number, pieces: readonly Uint8Array[], position: number, written: number): void {
  let at = position;
  let skip = written;
  for (const piece of pieces) {
    let done = Math.min(skip, piece.length);
    skip -= done;
    while (done < piece.length) {
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
