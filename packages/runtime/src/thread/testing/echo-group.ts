import type { Actor, ActorContext, Address, Message, Signal } from '@ashlar/actor';
import type { Runtime } from '../../api.ts';
import { DirectoryLock } from '../../directory-lock.ts';

/** A group for the pool's tests: one actor `<party>/echo` that answers what it is sent, and does what it is told. */
export interface EchoArgument {
  readonly party: string;
  /** A data directory that it holds. */
  readonly directory?: string;
}

interface Order extends Message {
  readonly kind: 'echo' | 'crash' | 'die' | 'forward';
  readonly text: string;
  readonly to?: Address;
}

class Echo implements Actor<Order> {
  readonly #context: ActorContext;
  #received = 0;

  constructor(context: ActorContext) {
    this.#context = context;
  }

  receive(message: Order | Signal, from: Address): void {
    this.#received++;
    switch (message.kind) {
      case 'echo':
        this.#context.send(from, { kind: 'echoed', text: message.text, by: this.#context.self } as Message);
        return;
      case 'forward':
        if (message.to) this.#context.send(message.to, { kind: 'echoed', text: message.text, by: this.#context.self } as Message);
        return;
      case 'crash': throw new Error('on purpose');
      case 'die':
        setImmediate(() => { throw new Error('the thread dies on purpose'); });
        return;
      default: return;
    }
  }

  inspect(): unknown { return { received: this.#received }; }
}

export function place(runtime: Runtime, argument: unknown): void {
  const { party, directory } = argument as EchoArgument;
  if (directory !== undefined) DirectoryLock.acquire(directory);
  if (party === 'refused') throw Object.assign(new Error('no such party'), { code: 'not-found', path: '/nowhere' });
  runtime.start({ kind: 'actor', id: party, address: `${party}/echo`, restart: 'permanent', shutdownMs: 100, start: (context) => new Echo(context) });
}
