/** The results as text, as a table in Markdown, and as bars in SVG. */
import { contestants } from './contestants/index.ts';
import { type Metrics, type Scenario, median } from './scenario.ts';

/** By contestant, what each round gave. */
export type Results = ReadonlyMap<string, readonly Metrics[]>;

const nameOf = (contestant: string): string => contestants[contestant]!.name;

/** Faults count as the worst round has them, all else as the median. */
function valueOf(results: Results, contestant: string, metric: string): number {
  const values = (results.get(contestant) ?? []).map((metrics) => metrics[metric] ?? NaN);
  return isFault(metric) ? Math.max(...values) : median(values);
}

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
    return `${round(value)}${relative ? ` (${ratio.toFixed(2)})` : ''}`;
  };
  const rows = names.map((name) => [nameOf(name), ...metrics.map((metric) => cell(name, metric))]);
  const lines = [['', ...metrics], ['---', ...metrics.map(() => '---:')], ...rows];
  return `### ${scenario.title}\n\n${lines.map((line) => `| ${line.join(' | ')} |`).join('\n')}\n`;
}

const round = (value: number): string =>
  Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));

/** Bars of one metric, as shares of the baseline's. */
export function chart(scenario: Scenario, metric: string, results: Results): string {
  const base = valueOf(results, scenario.baseline, metric);
  const bars = [...results.keys()].flatMap((name) => {
    const value = valueOf(results, name, metric);
    return Number.isNaN(value) ? [] : [{ name, value, ratio: value / base }];
  });
  const longest = Math.max(...bars.map(({ value }) => value));
  const line = 26;
  const height = 50 + bars.length * line;
  const rows = bars.map(({ name, value, ratio }, n) => {
    const y = 40 + n * line;
    const width = Math.max(1, (value / longest) * 330);
    const fill = name === 'ours' ? '#2563eb' : '#9ca3af';
    return `<text x="250" y="${y + 14}" text-anchor="end">${escape(nameOf(name))}</text>
<rect x="260" y="${y}" width="${width.toFixed(1)}" height="18" rx="2" fill="${fill}"/>
<text x="${(268 + width).toFixed(1)}" y="${y + 14}">${round(value)} (${ratio.toFixed(2)})</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 ${height}" font-family="sans-serif" font-size="13">
<rect width="720" height="${height}" fill="#ffffff"/>
<text x="16" y="22" font-weight="bold">${escape(`${scenario.title}: ${metric}`)}</text>
${rows.join('\n')}
</svg>
`;
}

const escape = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
