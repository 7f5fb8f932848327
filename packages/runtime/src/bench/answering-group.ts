import type { Actor, ActorContext, Address, Message, Signal } from '@ashlar/actor';
import type { Runtime } from '../api.ts';

/** Stands for a mirror: answers each record, or each bare message, with `progress`. */
class Answering implements Actor {
  readonly #context: ActorContext;
  #seq = 0;

  constructor(context: ActorContext) {
    this.#context = context;
  }

  receive(message: Message | Signal, from: Address): void {
    if (message.kind !== 'append' && message.kind !== 'progress') return;
    this.#context.send(from, { kind: 'progress', epoch: 1, attempt: 1, seq: ++this.#seq, durableSeq: 0, chain: 0 } as Message);
  }

  inspect(): unknown { return { seq: this.#seq }; }
}

export const ANSWERING: Address = 'there/answering';

export function place(runtime: Runtime): void {
  runtime.start({ kind: 'actor', id: 'answering', address: ANSWERING, restart: 'permanent', shutdownMs: 100, start: (context) => new Answering(context) });
}
