/** What a Prometheus would have of an answer. A second reader of the format, which does not share a line with the writer. */
export interface Figures {
  /** As in the lines of TYPE. */
  readonly names: ReadonlySet<string>;
  value(series: string, labels: Readonly<Record<string, string>>): number | undefined;
  /** Over all label sets. */
  sum(series: string): number;
}

const LINE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (-?[0-9.e+-]+|NaN|[+-]Inf)$/;
const LABEL = /([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"(?:,|$)/gy;

/** Throws at any line that is not of the format, at a series that comes twice, and at samples without or outside of their TYPE. */
export function figuresOf(text: string): Figures {
  if (!text.endsWith('\n')) throw new Error('the last line is cut');
  const names = new Set<string>();
  const values = new Map<string, number>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    if (line.startsWith('# HELP ')) continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram)$/.exec(line);
    if (type) {
      current = type[1] as string;
      if (names.has(current)) throw new Error(`${current} comes in two places`);
      names.add(current);
      continue;
    }
    const match = LINE.exec(line);
    if (!match) throw new Error(`not a line of the format: ${line}`);
    const [, series = '', labels = '', value = ''] = match;
    if (series !== current && !/^_(bucket|sum|count)$/.test(series.slice(current.length))) throw new Error(`${series} under the TYPE of ${current}`);
    const key = keyOf(series, parseLabels(labels));
    if (values.has(key)) throw new Error(`${key} comes twice`);
    values.set(key, Number(value));
  }
  return {
    names,
    value: (series, labels) => values.get(keyOf(series, labels)),
    sum: (series) => [...values].reduce((sum, [key, value]) => (key.startsWith(`${series}{`) ? sum + value : sum), 0),
  };
}

function parseLabels(text: string): Record<string, string> {
  const labels = Object.fromEntries([...text.matchAll(LABEL)].map(([, name = '', value = '']) => [name, value.replaceAll(/\\(.)/g, (_, c: string) => (c === 'n' ? '\n' : c))]));
  const length = [...text.matchAll(LABEL)].reduce((sum, [whole]) => sum + whole.length, 0);
  if (length !== text.length) throw new Error(`not labels: ${text}`);
  return labels;
}

function keyOf(series: string, labels: Readonly<Record<string, string>>): string {
  const sorted = Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${series}{${sorted.map(([name, value]) => `${name}=${JSON.stringify(value)}`).join(',')}}`;
}
