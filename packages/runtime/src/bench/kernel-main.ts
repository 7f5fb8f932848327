import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import type { Actor, ActorContext, ActorSpec, Message, Signal } from '@ashlar/actor';
import { Frame, FrameKind, Op } from '@ashlar/protocol';
import type { Runtime, ThreadPool } from '../api.ts';
import { createLog } from '../log.ts';
import { createRuntime } from '../runtime.ts';
import { createThreadPool } from '../thread/thread-pool.ts';
import { ANSWERING, place } from './answering-group.ts';

/**
 * `pnpm bench:kernel`: what a message costs within a thread, over a ring to another thread, and over a WebSocket to another process.
 * An actor keeps `depth` requests under way, each answered by a small message. Rounds of all ways are interleaved; medians are printed.
 */
const { values: options } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, ms: { type: 'string', default: '400' } } });
const ROUND_MS = Number(options.ms);
const ROUNDS = Number(options.rounds);

/** Keeps `depth` messages unanswered until the round is over. */
class Asking implements Actor {
  readonly context: ActorContext;
  #make: () => Message = () => ({ kind: 'none' });
  #unanswered = 0;
  #answers = 0;
  #endMs = 0;
  #done: () => void = () => {};

  constructor(context: ActorContext) {
    this.context = context;
  }

  /** Answers per second. */
  async round(make: () => Message, depth: number): Promise<number> {
    this.#make = make;
    this.#answers = 0;
    const beganMs = performance.now();
    this.#endMs = beganMs + ROUND_MS;
    await new Promise<void>((resolve) => {
      this.#done = resolve;
      for (let i = 0; i < depth; i++) this.#ask();
    });
    return this.#answers / (performance.now() - beganMs) * 1000;
  }

  #ask(): void {
    if (this.context.send(ANSWERING, this.#make()) !== 'ok') throw new Error('refused');
    this.#unanswered++;
  }

  receive(message: Message | Signal): void {
    if (message.kind !== 'progress') return;
    this.#answers++;
    this.#unanswered--;
    // The clock is looked at now and then only: it costs as much as a message within a thread.
    if ((this.#answers & 15) !== 0 || performance.now() < this.#endMs) return this.#ask();
    this.#endMs = 0;
    if (this.#unanswered === 0) this.#done();
    else this.#drain();
  }

  #drain(): void {
    const receive = this.receive.bind(this);
    this.receive = (message): void => {
      if (message.kind === 'progress') this.#unanswered--;
      if (this.#unanswered > 0) return;
      this.receive = receive;
      this.#done();
    };
  }

  inspect(): unknown { return null; }
}

function asking(runtime: Runtime): Asking {
  let made: Asking | null = null;
  const spec: ActorSpec = { kind: 'actor', id: 'asking', address: 'here/asking', restart: 'temporary', shutdownMs: 100, start: (context) => (made = new Asking(context)) };
  runtime.start(spec);
  return made as unknown as Asking;
}

function small(): Message { return { kind: 'progress', epoch: 1, attempt: 1, seq: 1, durableSeq: 1, chain: 1 } as Message; }

function frameOf(blocks: number): Frame {
  const payload = new Uint8Array(blocks * 4096).fill(0xa5);
  const frame = Frame.create(FrameKind.log, 1, blocks, payload);
  frame.setOperation(0, 1, Op.write, 0, 0, payload.length, 0, 0);
  frame.seal();
  return frame;
}
const frame4k: Message = { kind: 'append', frame: frameOf(1) } as Message;
const frame128k: Message = { kind: 'append', frame: frameOf(32) } as Message;

const log = createLog({ name: 'bench', level: 'warn' });
const directory = mkdtempSync(join(tmpdir(), 'ashlar-bench-'));
const closers: (() => Promise<void>)[] = [];

function here(): Runtime {
  const runtime = createRuntime({ name: 'here', log, token: 'bench', parties: ['here'] });
  closers.push(() => runtime.shutdown());
  return runtime;
}

function local(): Asking {
  const runtime = here();
  runtime.addParty('there');
  place(runtime);
  return asking(runtime);
}

async function ring(spinUs: number): Promise<Asking> {
  const runtime = here();
  const pool: ThreadPool = createThreadPool({ name: 'ring', threads: 1, runtime, log: { level: 'warn' }, token: 'bench', spinUs });
  await pool.place({ id: 'answering', module: new URL('./answering-group.ts', import.meta.url).href, argument: null, parties: ['there'], affinity: 'x' });
  closers.push(() => pool.shutdown());
  return asking(runtime);
}

async function webSocket(): Promise<Asking> {
  const runtime = here();
  const path = join(directory, 'there.sock');
  const child: ChildProcess = fork(new URL('./kernel-peer-main.ts', import.meta.url), [path]);
  await new Promise((resolve) => { child.once('message', resolve); });
  runtime.links.connect('there', { path });
  await runtime.links.waitUntilUp('there', 5000);
  closers.push(() => new Promise((resolve) => {
    child.once('exit', () => resolve());
    child.disconnect();
  }));
  return asking(runtime);
}

const ways = [{ name: 'one thread', by: local() }, { name: 'ring', by: await ring(0) }, { name: 'ring, 30 µs spin', by: await ring(30) }, { name: 'WebSocket, unix socket', by: await webSocket() }];
const loads = [
  { name: 'small, depth 1', make: small, depth: 1, bytes: 0 }, { name: 'small, depth 32', make: small, depth: 32, bytes: 0 },
  { name: '4k frame, depth 1', make: () => frame4k, depth: 1, bytes: 4096 }, { name: '4k frame, depth 32', make: () => frame4k, depth: 32, bytes: 4096 }, { name: '128k frame, depth 8', make: () => frame128k, depth: 8, bytes: 131_072 },
];

interface Sample {
  readonly perSecond: number;
  readonly cpuUs: number;
}
const samples = new Map<string, Sample[]>();
const stolenBefore = cpuTicks();
for (let round = -1; round < ROUNDS; round++) {
  for (const way of ways) {
    for (const load of loads) {
      const before = process.cpuUsage();
      const perSecond = await way.by.round(load.make, load.depth);
      const { user, system } = process.cpuUsage(before);
      const key = `${way.name}|${load.name}`;
      // The first round warms the compiler up.
      if (round >= 0) samples.set(key, [...samples.get(key) ?? [], { perSecond, cpuUs: (user + system) / (perSecond * ROUND_MS / 1000) }]);
    }
  }
}
const stolen = cpuTicks();

process.stdout.write(`${cpus().length} cores, ${cpus()[0]?.model ?? 'unknown'}, Node ${process.versions.node}; medians (lowest to highest) of ${ROUNDS} interleaved rounds of ${ROUND_MS} ms; ${(100 * (stolen.steal - stolenBefore.steal) / (stolen.all - stolenBefore.all)).toFixed(1)} % stolen, ${(100 * (stolen.idle - stolenBefore.idle) / (stolen.all - stolenBefore.all)).toFixed(0)} % idle\n\n`);
process.stdout.write('| way | load | answers/s | lowest–highest | round trip at depth 1, µs | CPU of this process per answer, µs | MB/s |\n|---|---|---|---|---|---|---|\n');
for (const way of ways) {
  for (const load of loads) {
    const taken = (samples.get(`${way.name}|${load.name}`) ?? []).toSorted((a, b) => a.perSecond - b.perSecond);
    const [low, median, high] = [taken[0], taken[taken.length >> 1], taken.at(-1)] as [Sample, Sample, Sample];
    const trip = load.depth === 1 ? (1e6 / median.perSecond).toFixed(1) : '';
    // Within a thread no byte is touched: the frame is handed over.
    const rate = load.bytes > 0 && way.name !== 'one thread' ? (median.perSecond * load.bytes / 1e6).toFixed(0) : '';
    process.stdout.write(`| ${way.name} | ${load.name} | ${thousands(median)} | ${thousands(low)}–${thousands(high)} | ${trip} | ${median.cpuUs.toFixed(2)} | ${rate} |\n`);
  }
}
for (const close of closers.reverse()) await close();
rmSync(directory, { recursive: true, force: true });

function thousands({ perSecond }: Sample): string { return `${(perSecond / 1000).toFixed(perSecond < 1e5 ? 1 : 0)}k`; }

/** Of all cores since the machine started: a noisy neighbour shows as stolen time. */
function cpuTicks(): { readonly steal: number; readonly idle: number; readonly all: number } {
  const ticks = (readFileSync('/proc/stat', 'utf8').split('\n')[0] as string).trim().split(/\s+/).slice(1, 9).map(Number);
  return { steal: ticks[7] as number, idle: (ticks[3] as number) + (ticks[4] as number), all: ticks.reduce((sum, value) => sum + value, 0) };
}
