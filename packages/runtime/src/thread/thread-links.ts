import type { Party } from '@ashlar/actor';
import type { LinkView } from '../api.ts';
import type { LinkEnd } from '../links.ts';
import { ThreadLink, type ThreadChannel } from './thread-link.ts';

/** The rings of one thread to others of its process, and which of them leads to whom. */
export class ThreadLinks {
  readonly #end: LinkEnd;
  readonly #open = new Set<ThreadLink>();
  readonly #byParty = new Map<Party, ThreadLink>();

  constructor(end: LinkEnd) {
    this.#end = end;
  }

  join(channel: ThreadChannel): void {
    const link: ThreadLink = new ThreadLink(channel, this.#end, {
      parties: (former, now) => {
        for (const party of former) if (!now.includes(party)) this.#lose(party, link);
        for (const party of now) this.#gain(party, link);
      },
      closed: () => {
        this.#open.delete(link);
        for (const party of this.#byParty.keys()) this.#lose(party, link);
      },
    });
    this.#open.add(link);
    link.begin();
  }

  of(party: Party): ThreadLink | undefined { return this.#byParty.get(party); }
  announce(): void { for (const link of this.#open) link.introduce(this.#end.parties()); }
  inspect(): readonly LinkView[] { return [...this.#open].map((link) => link.inspect()); }
  close(): void { for (const link of this.#open) link.close(); }

  /** A party moves when its thread was replaced; the thread that has it now counts. */
  #gain(party: Party, link: ThreadLink): void {
    const former = this.#byParty.get(party);
    if (former === link) return;
    if (former) {
      this.#lose(party, former);
      former.forget(party);
    }
    this.#byParty.set(party, link);
    this.#end.notice({ kind: 'link-up', party, incarnation: link.incarnation });
  }

  #lose(party: Party, link: ThreadLink): void {
    if (this.#byParty.get(party) !== link) return;
    this.#byParty.delete(party);
    this.#end.notice({ kind: 'link-down', party, incarnation: link.incarnation }, 'thread-ended');
  }
}
