import { parseArgs } from 'node:util';
import { Lab } from './lab.ts';
import { type Metrics, median } from './scenario.ts';
import { scenarios } from './scenarios.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    contestants: { type: 'string' },
    rounds: { type: 'string' },
  },
});
const chosen = values.only?.split(',');
const among = values.contestants?.split(',');

await using lab = await Lab.open();
for (const scenario of scenarios) {
  if (chosen && !chosen.includes(scenario.key)) continue;
  const names = scenario.contestants.filter((name) => !among || among.includes(name));
  const results = new Map<string, Metrics[]>(names.map((name) => [name, []]));
  const rounds = Number(values.rounds ?? scenario.rounds);
  for (let round = 0; round < rounds; round++) {
    for (const name of names) results.get(name)!.push(await scenario.run(lab, name));
  }
  console.log(`${scenario.key}: ${scenario.title}`);
  const of = (name: string, metric: string) => {
    const values = (results.get(name) ?? []).map((m) => m[metric] ?? NaN);
    return metric === 'undelivered' || metric === 'repeated' ? Math.max(...values) : median(values);
  };
  for (const name of names) {
    const metrics = Object.keys(results.get(name)![0]!).map((metric) => {
      const value = of(name, metric);
      const ratio = value / of(scenario.baseline, metric);
      return `${metric} ${value.toPrecision(4)}${Number.isFinite(ratio) ? ` (${ratio.toFixed(2)})` : ''}`;
    });
    console.log(`  ${name.padEnd(24)} ${metrics.join('  ')}`);
  }
}
