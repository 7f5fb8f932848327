import { getHeapStatistics } from 'node:v8';
import { partyOf, type Actor, type ActorContext, type Address, type Message, type Party, type Signal } from '@ashlar/actor';
import { Samples, type Histogram, type Sample } from '@ashlar/figures';
import type { LinkView, Runtime } from './api.ts';

/** System manager → `PARTY/figures`. Travels as a private message, so that a version without figures merely does not answer. */
export interface FiguresWanted extends Message {
  readonly kind: 'figures-wanted';
  readonly token: number;
}

/** The answer. */
export interface FiguresTold extends Message {
  readonly kind: 'figures-told';
  readonly token: number;
  readonly samples: readonly Sample[];
}

const SHUTDOWN_MS = 1000;

export function figuresAddress(party: Party): Address { return `${party}/figures`; }

/** Answers the system manager with the party's figures, and those of the thread that it lives in. Nothing is collected while nobody asks. */
export function startFigures(runtime: Runtime, party: Party, manager: Address, collect: (samples: Samples) => void): void {
  const address = figuresAddress(party);
  runtime.start({
    kind: 'actor', id: address, address, restart: 'permanent', shutdownMs: SHUTDOWN_MS,
    start: (context) => new FiguresActor(context, partyOf(manager), () => {
      const samples = new Samples();
      collect(samples);
      runtime.collect(samples);
      return samples.all;
    }),
  });
}

class FiguresActor implements Actor<FiguresWanted> {
  readonly #context: ActorContext;
  readonly #manager: Party;
  readonly #collect: () => readonly Sample[];

  constructor(context: ActorContext, manager: Party, collect: () => readonly Sample[]) {
    this.#context = context;
    this.#manager = manager;
    this.#collect = collect;
  }

  receive(message: FiguresWanted | Signal, from: Address): void {
    if (message.kind !== 'figures-wanted' || partyOf(from) !== this.#manager) return;
    const told: FiguresTold = { kind: 'figures-told', token: message.token, samples: this.#collect() };
    // One that is lost is not missed for long: the next scrape asks again.
    this.#context.send(from, told);
  }

  inspect(): unknown { return null; }
}

/** What a thread knows of itself. */
export interface ThreadFigures {
  readonly name: string;
  readonly messages: number;
  readonly delay: Histogram;
  readonly links: readonly LinkView[];
}

export function collectThread(samples: Samples, { name, messages, delay, links }: ThreadFigures): void {
  const { pid } = process;
  const { rss } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  samples.add('ashlar_process_resident_memory_bytes', rss, String(pid));
  samples.add('ashlar_process_cpu_seconds_total', (user + system) / 1e6, String(pid));
  samples.add('ashlar_process_start_time_seconds', Math.round(Date.now() / 1000 - process.uptime()), String(pid));
  const heap = getHeapStatistics();
  samples.add('ashlar_thread_heap_used_bytes', heap.used_heap_size, name);
  samples.add('ashlar_thread_heap_limit_bytes', heap.heap_size_limit, name);
  samples.add('ashlar_thread_buffer_bytes', heap.external_memory, name);
  samples.add('ashlar_thread_event_loop_delay_seconds', delay.value, name);
  samples.add('ashlar_thread_event_loop_active_seconds_total', performance.eventLoopUtilization().active / 1000, name);
  samples.add('ashlar_thread_messages_total', messages, name);
  for (const link of links) collectLink(samples, name, link);
}

function collectLink(samples: Samples, thread: string, link: LinkView): void {
  // One link carries all parties of the process at its other end: the first one names it. Until it has introduced itself it has none.
  const [peer] = link.parties;
  if (peer === undefined) return;
  for (const party of link.parties) samples.add('ashlar_link_up', 1, thread, party);
  samples.add('ashlar_link_sent_bytes_total', link.sentBytes, thread, peer);
  samples.add('ashlar_link_received_bytes_total', link.receivedBytes, thread, peer);
  samples.add('ashlar_link_buffered_bytes', link.bufferedBytes, thread, peer);
  samples.add('ashlar_link_refused_messages_total', link.refusedBusy, thread, peer);
}
