import type { RequestInHand } from './actor.ts';
import { POISON_KILLS_MAX, POISON_SUSPECTS_MAX } from './limits.ts';

interface Suspect {
  readonly request: RequestInHand;
  readonly victims: Set<string>;
}

/**
 * Remembers which request was in hand when an actor crashed. One that killed two different victims (copies) is quarantined:
 * it gets EIO from then on instead of a third copy. Pure accounting; whoever owns it decides who the victims are.
 */
export class PoisonLedger {
  readonly #suspects = new Map<string, Suspect>();
  readonly #quarantined = new Set<string>();

  /** A victim crashed with this request in hand. `'quarantined'`: this was the kill that condemned it. */
  crashed(request: RequestInHand, victim: string): 'suspect' | 'quarantined' {
    const key = keyOf(request);
    const suspect = this.#suspects.get(key) ?? { request, victims: new Set<string>() };
    suspect.victims.add(victim);
    if (suspect.victims.size >= POISON_KILLS_MAX) {
      this.#suspects.delete(key);
      this.#quarantined.add(key);
      return 'quarantined';
    }
    this.#suspects.set(key, suspect);
    this.#forgetOldest();
    return 'suspect';
  }

  isQuarantined(request: RequestInHand): boolean {
    return this.#quarantined.has(keyOf(request));
  }

  /** It was carried out after all: the crash had another reason. */
  succeeded(request: RequestInHand): void {
    this.#suspects.delete(keyOf(request));
  }

  /** Everything about a scope (a deleted volume) is forgotten. */
  forget(scope: string): void {
    const prefix = `${scope}#`;
    for (const key of this.#suspects.keys()) if (key.startsWith(prefix)) this.#suspects.delete(key);
    for (const key of this.#quarantined) if (key.startsWith(prefix)) this.#quarantined.delete(key);
  }

  /** One kill more and these are quarantined. */
  get suspects(): readonly RequestInHand[] {
    return [...this.#suspects.values()].map((suspect) => suspect.request);
  }

  #forgetOldest(): void {
    if (this.#suspects.size <= POISON_SUSPECTS_MAX) return;
    const [oldest] = this.#suspects.keys();
    this.#suspects.delete(oldest as string);
  }
}

function keyOf(request: RequestInHand): string {
  return `${request.scope}#${request.requestNumber}`;
}
