import { setTimeout as delay } from 'node:timers/promises';
import { Prng } from '@ashlar/words';
import type { Arena } from './arena.ts';
import { Episodes, SHARES, type Episode, type EpisodeKind } from './episodes.ts';
import { CUTS, type Cut } from './link-proxies.ts';

export interface CutDone {
  readonly how: Cut;
  readonly link: string;
  readonly forMs: number;
}

export interface TortureOptions {
  readonly seed: number;
  readonly forMs: number;
  readonly kinds: readonly EpisodeKind[];
  /** How often each kind was done in earlier slices. */
  readonly before: Readonly<Partial<Record<EpisodeKind, number>>>;
}

export interface TortureListener {
  episode(episode: Episode): void;
  cut(cut: CutDone): void;
}

/** Between two cuts; a half-hour run has some 200. */
const CUT_EVERY_MS = { min: 3000, max: 15_000 };
const CUT_MS = { min: 50, max: 3000 };
/** So long the main volume may take to become whole before the next blow falls. */
const PATIENCE_MS = { min: 300, max: 6000 };
const CALM_MS = { min: 50, max: 500 };
/** Every so many episodes all volumes must become whole: the proof that nothing is stuck. */
const WHOLE_EVERY = 12;
const WHOLE_MS = 120_000;

/** Strikes again and again until the time is over, and cuts links meanwhile. Throws at the first thing that is wrong. */
export async function torture(arena: Arena, options: TortureOptions, listener: TortureListener): Promise<void> {
  const prng = new Prng(options.seed);
  const episodes = new Episodes(arena, prng.fork());
  const endsMs = performance.now() + options.forMs;
  const done = new Map<EpisodeKind, number>(options.kinds.map((kind) => [kind, options.before[kind] ?? 0]));
  const over = new AbortController();
  const cutting = cutLinks(arena, episodes, prng.fork(), over.signal, listener);
  try {
    for (let i = 1; performance.now() < endsMs; i++) {
      await delay(between(CALM_MS, prng));
      const kind = mostBehind(done, prng);
      listener.episode(await episodes.run(kind, between(PATIENCE_MS, prng)));
      done.set(kind, (done.get(kind) ?? 0) + 1);
      if (i % WHOLE_EVERY === 0) await arena.healthy(WHOLE_MS);
      const wrong = arena.wrong();
      if (wrong !== null) throw new Error(wrong);
    }
  } finally {
    over.abort();
    await cutting;
  }
}

async function cutLinks(arena: Arena, episodes: Episodes, prng: Prng, over: AbortSignal, listener: TortureListener): Promise<void> {
  while (!over.aborted) {
    await delay(between(CUT_EVERY_MS, prng), undefined, { signal: over }).catch((error: unknown) => { if (!over.aborted) throw error; });
    if (over.aborted || episodes.careful) continue;
    const how = CUTS[prng.below(CUTS.length)] as Cut;
    const forMs = between(CUT_MS, prng);
    const cut = arena.proxies.cut(how, forMs, prng);
    if (cut === null) continue;
    await cut.over;
    listener.cut({ how, link: cut.link, forMs: how === 'close' ? 0 : forMs });
  }
}

/** The kind that is farthest behind its share; of several any. */
function mostBehind(done: ReadonlyMap<EpisodeKind, number>, prng: Prng): EpisodeKind {
  const behind = (kind: EpisodeKind): number => ((done.get(kind) ?? 0) + prng.fraction()) / SHARES[kind];
  const ranked = [...done.keys()].map((kind) => ({ kind, behind: behind(kind) }));
  return ranked.reduce((best, one) => (one.behind < best.behind ? one : best)).kind;
}

function between({ min, max }: { readonly min: number; readonly max: number }, prng: Prng): number {
  return min + prng.below(max - min);
}
