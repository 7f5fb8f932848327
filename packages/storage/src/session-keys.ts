import { partyOf, type Address } from '@ashlar/actor';

interface Session {
  readonly from: Address;
  readonly sessionId: number;
}

/** Numbers for the sessions of all hosts: a host counts its own, so that two of them may use the same. */
export class SessionKeys {
  readonly #byAddress = new Map<Address, Map<number, number>>();
  readonly #byKey = new Map<number, Session>();
  #last = 0;

  get size(): number { return this.#byKey.size; }

  keyOf(from: Address, sessionId: number): number {
    let ids = this.#byAddress.get(from);
    if (!ids) {
      ids = new Map();
      this.#byAddress.set(from, ids);
    }
    let key = ids.get(sessionId);
    if (key === undefined) {
      key = ++this.#last;
      ids.set(sessionId, key);
      this.#byKey.set(key, { from, sessionId });
    }
    return key;
  }

  get(key: number): Session | undefined { return this.#byKey.get(key); }

  delete(key: number): void {
    const session = this.#byKey.get(key);
    if (!session) return;
    this.#byKey.delete(key);
    const ids = this.#byAddress.get(session.from);
    ids?.delete(session.sessionId);
    if (ids?.size === 0) this.#byAddress.delete(session.from);
  }

  ofAddress(from: Address): number[] {
    return [...(this.#byAddress.get(from)?.values() ?? [])];
  }

  ofParty(party: string): number[] {
    const keys: number[] = [];
    for (const [address, ids] of this.#byAddress) if (partyOf(address) === party) keys.push(...ids.values());
    return keys;
  }
}
