import { assert } from '@ashlar/words';
import { FIGURES, type Figure, type FigureName } from './definitions.ts';
import type { HistogramValue } from './histogram.ts';

/** One series at one moment. Plain data: it crosses links. */
export interface Sample {
  readonly name: FigureName;
  /** Values of the figure's labels, in its order. */
  readonly labels: readonly string[];
  readonly value: number | HistogramValue;
}

/** A series more than this is a mistake in what names series. Two figures for each of 20,000 volumes, and room. */
const SAMPLES_MAX = 65_536;
const LABEL_LENGTH_MAX = 128;

/** What one party says of itself at a moment. */
export class Samples {
  readonly #all: Sample[] = [];

  add(name: FigureName, value: number | HistogramValue, ...labels: readonly string[]): void {
    // Some are words of other parties.
    const sample = { name, labels: labels.map((label) => label.slice(0, LABEL_LENGTH_MAX)), value };
    assert(isSample(sample), `${name}{${labels.join()}} is a figure as defined`);
    this.#all.push(sample);
  }

  get all(): readonly Sample[] { return this.#all; }
}

/** Samples as they came from elsewhere, perhaps from another version: what this one does not know is left out. */
export function acceptSamples(raw: unknown): readonly Sample[] {
  return Array.isArray(raw) ? (raw as readonly unknown[]).slice(0, SAMPLES_MAX).filter(isSample) : [];
}

function isSample(raw: unknown): raw is Sample {
  const { name, labels, value } = (raw ?? {}) as { name?: unknown; labels?: unknown; value?: unknown };
  if (typeof name !== 'string' || !Object.hasOwn(FIGURES, name)) return false;
  const figure: Figure = FIGURES[name as FigureName];
  if (!Array.isArray(labels) || labels.length !== figure.labels.length || !labels.every((label) => typeof label === 'string' && label.length <= LABEL_LENGTH_MAX)) return false;
  return figure.type === 'histogram' ? isHistogram(value, figure.bounds) : Number.isFinite(value);
}

function isHistogram(raw: unknown, bounds: readonly number[]): boolean {
  const { counts, sum } = (raw ?? {}) as { counts?: unknown; sum?: unknown };
  return Array.isArray(counts) && counts.length === bounds.length + 1 && counts.every((count) => Number.isFinite(count)) && Number.isFinite(sum);
}
