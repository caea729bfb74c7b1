/** The results as text, as a table in Markdown, and as bars in SVG. */
import { contestants } from './contestants/index.ts';
import { type Metrics, type Scenario, median, uncertainty } from './scenario.ts';

/** By contestant, what each round gave. */
export type Results = ReadonlyMap<string, readonly Metrics[]>;

export const nameOf = (contestant: string): string => contestants[contestant]!.name;

const valuesOf = (results: Results, contestant: string, metric: string): number[] =>
  (results.get(contestant) ?? []).map((metrics) => metrics[metric] ?? NaN);

/** Faults count as the worst round has them, all else as the median. */
export function valueOf(results: Results, contestant: string, metric: string): number {
  const values = valuesOf(results, contestant, metric);
  return isFault(metric) ? Math.max(...values) : median(values);
}

/** How well the median of the metric that is drawn is known. */
export const uncertaintyOf = ({ chart }: Scenario, results: Results, contestant: string): number =>
  chart === undefined ? NaN : uncertainty(valuesOf(results, contestant, chart));

const isFault = (metric: string): boolean => metric === 'undelivered' || metric === 'repeated';

export const undelivered = (results: Results): number =>
  Math.max(0, ...[...results.values()].flat().map((metrics) => metrics['undelivered'] ?? 0));

export function table(scenario: Scenario, results: Results): string {
  const names = [...results.keys()];
  const metrics = [...new Set([...results.values()].flat().flatMap((m) => Object.keys(m)))];
  const cell = (name: string, metric: string) => {
    const value = valueOf(results, name, metric);
    if (Number.isNaN(value)) return '';
    const ratio = value / valueOf(results, scenario.baseline, metric);
    const relative = !isFault(metric) && name !== scenario.baseline && Number.isFinite(ratio);
    const spread = metric === scenario.chart ? uncertaintyOf(scenario, results, name) : NaN;
    const known = Number.isNaN(spread) ? '' : ` ±${Math.ceil(100 * spread)} %`;
    return `${round(value)}${known}${relative ? ` (${ratio.toFixed(2)})` : ''}`;
  };
  const rows = names.map((name) => [nameOf(name), ...metrics.map((metric) => cell(name, metric))]);
  const lines = [['', ...metrics], ['---', ...metrics.map(() => '---:')], ...rows];
  return `### ${scenario.title}\n\n${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n`;
}

export const round = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

/** Times are better when they are short, rates when they are high. */
const isBetterLow = (metric: string): boolean => !metric.includes('/s');

export const WIDTH = 760;
export const OURS = '#2563eb';

/** Bars of one metric, the best first, with their shares of the baseline's. */
export function chart(scenario: Scenario, metric: string, results: Results): string {
  const base = valueOf(results, scenario.baseline, metric);
  const direction = isBetterLow(metric) ? 1 : -1;
  const bars = [...results.keys()]
    .map((name) => ({ name, value: valueOf(results, name, metric) }))
    .filter(({ value }) => !Number.isNaN(value))
    .toSorted((a, b) => direction * (a.value - b.value));
  const longest = Math.max(...bars.map(({ value }) => value));
  const line = 26;
  const rows = bars.map(({ name, value }, n) => {
    const y = 64 + n * line;
    const width = Math.max(1, (value / longest) * 320);
    const fill = name.startsWith('ours') ? OURS : '#9ca3af';
    return `<text x="290" y="${y + 14}" text-anchor="end">${escape(nameOf(name))}</text>
<rect x="300" y="${y}" width="${width.toFixed(1)}" height="18" rx="2" fill="${fill}"/>
<text x="${(308 + width).toFixed(1)}" y="${y + 14}">${round(value)} (${(value / base).toFixed(2)})</text>`;
  });
  const better = isBetterLow(metric) ? 'less is better' : 'more is better';
  const note = `${metric}; ${better}; in brackets: for 1 of “${nameOf(scenario.baseline)}”`;
  return picture(64 + bars.length * line + 8, [...heading(scenario.title, note), ...rows]);
}

/** A title, which may take two lines, and what is drawn. */
export function heading(title: string, note: string): string[] {
  const capital = title[0]!.toUpperCase() + title.slice(1);
  return [
    `<text x="16" y="22" font-weight="bold" font-size="${capital.length > 95 ? 11 : 13}">${escape(capital)}</text>`,
    `<text x="16" y="44" fill="#4b5563">${escape(note)}</text>`,
  ];
}

export const picture = (height: number, parts: readonly string[]): string =>
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="13">
<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>
${parts.join('\n')}
</svg>
`;

export const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
