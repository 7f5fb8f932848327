import { FIGURES, FIGURE_NAMES, type Figure, type FigureName } from './definitions.ts';
import type { HistogramValue } from './histogram.ts';
import type { Sample } from './samples.ts';

/** https://prometheus.io/docs/instrumenting/exposition_formats/ (0.0.4): figures in the order of their definition; of a series that is said twice, the first. */
export function prometheusText(samples: readonly Sample[]): string {
  const byName = new Map<FigureName, Map<string, Sample>>();
  for (const sample of samples) {
    let series = byName.get(sample.name);
    if (series === undefined) byName.set(sample.name, (series = new Map<string, Sample>()));
    const labels = labelText(FIGURES[sample.name], sample.labels);
    if (!series.has(labels)) series.set(labels, sample);
  }
  const lines: string[] = [];
  for (const name of FIGURE_NAMES) {
    const series = byName.get(name);
    if (series === undefined) continue;
    const figure: Figure = FIGURES[name];
    lines.push(`# HELP ${name} ${figure.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n')}`, `# TYPE ${name} ${figure.type}`);
    for (const [labels, { value }] of series) {
      if (typeof value === 'number') lines.push(`${name}${braced(labels)} ${value}`);
      else if (figure.type === 'histogram') lines.push(...histogramLines(name, labels, figure.bounds, value));
    }
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

function histogramLines(name: string, labels: string, bounds: readonly number[], { counts, sum }: HistogramValue): string[] {
  const before = labels === '' ? '' : `${labels},`;
  let below = 0;
  const lines = counts.map((count, i) => `${name}_bucket{${before}le="${bounds[i] ?? '+Inf'}"} ${(below += count)}`);
  return [...lines, `${name}_sum${braced(labels)} ${sum}`, `${name}_count${braced(labels)} ${below}`];
}

function braced(labels: string): string { return labels === '' ? '' : `{${labels}}`; }

function labelText(figure: Figure, values: readonly string[]): string {
  return figure.labels.map((label, i) => `${label}="${escaped(values[i] ?? '')}"`).join(',');
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}
