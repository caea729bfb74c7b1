/**
 * Measures everybody and writes `results/`. Options: `--quick`, less than a minute, for the exit code; `--only a16,d100`,
 * `--contestants none,ours` and `--rounds 5` choose, and then nothing is written, unless `--write` says so. `--list` tells what there is.
 * Without `--rounds`, rounds follow each other until the medians have settled; `--at-most 3` bounds them.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { curveChart } from './curves.ts';
import { Lab } from './lab.ts';
import { type Results, chart, table, uncertaintyOf, undelivered } from './report.ts';
import type { Metrics, Scenario } from './scenario.ts';
import { quick, scenarios } from './scenarios.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    only: { type: 'string' },
    contestants: { type: 'string' },
    rounds: { type: 'string' },
    'at-most': { type: 'string', default: 'Infinity' },
    write: { type: 'boolean' },
  },
});
const chosen = options.only?.split(',');
const among = options.contestants?.split(',');
const written = options.write ?? !(options.quick || chosen || among);

/** A median has settled when it is known this well. */
const SETTLED = 0.05;
/** After how many times a scenario's rounds it is measured no longer, settled or not. */
const PATIENCE = 3;
/** From which uncertainty on the machine was too busy with other things. */
const NOISY = 0.15;

/** A round of everybody, then the next: whatever else the machine does meets all of them. */
async function measure(lab: Lab, scenario: Scenario): Promise<Map<string, Metrics[]>> {
  const names = scenario.contestants.filter((name) => !among || among.includes(name));
  const results = new Map<string, Metrics[]>(names.map((name) => [name, []]));
  const fixed = options.rounds ?? (scenario.rounds < 3 ? scenario.rounds : undefined);
  const most =
    fixed === undefined ? Math.min(scenario.rounds * PATIENCE, Number(options['at-most'])) : Number(fixed);
  for (let round = 0; round < most; round++) {
    for (const name of names) results.get(name)!.push(await scenario.run(lab, name));
    if (
      round + 1 >= scenario.rounds &&
      fixed === undefined &&
      !(worstUncertainty(scenario, results) > SETTLED)
    )
      break;
  }
  return results;
}

/** NaN if nothing is known about it. */
function worstUncertainty(scenario: Scenario, results: Results): number {
  const known = [...results.keys()]
    .map((name) => uncertaintyOf(scenario, results, name))
    .filter((value) => !Number.isNaN(value));
  return known.length > 0 ? Math.max(...known) : NaN;
}

async function main(): Promise<void> {
  await using lab = await Lab.open();
  const { rows } = await lab.admin.query<{ version: string }>(
    `SELECT current_setting('server_version') AS version`,
  );
  const machine = `${cpus().length} cores (${cpus()[0]?.model.trim()}), Node ${process.versions.node}, PostgreSQL ${rows[0]!.version}`;
  console.log(machine);
  const folder = new URL('../../results/', import.meta.url);
  const tables: string[] = [];
  const all = new Map<Scenario, Results>();
  let lost = 0;
  for (const scenario of options.quick ? quick : scenarios) {
    if (chosen ? !chosen.includes(scenario.key) : scenario.isOptional) continue;
    const results = await measure(lab, scenario);
    lost += undelivered(results);
    const text = table(scenario, results);
    tables.push(text);
    all.set(scenario, results);
    console.log(`\n[${scenario.key}] ${text}`);
    const noise = worstUncertainty(scenario, results);
    if (noise > NOISY)
      console.log(`The machine was too noisy: a median is known to ±${Math.round(100 * noise)} % only.`);
    if (!written) continue;
    await mkdir(folder, { recursive: true });
    if (scenario.chart) {
      await writeFile(new URL(`${scenario.key}.svg`, folder), chart(scenario, scenario.chart, results));
    }
    if (scenario.point) {
      const { curve } = scenario.point;
      await writeFile(new URL(`curve-${curve}.svg`, folder), curveChart(curve, all));
    }
    const note =
      'Medians, of the metric that is drawn with the standard error; in brackets as a share of the baseline of the same run. Undelivered, repeated: the worst round.';
    await writeFile(new URL('results.md', folder), [`${machine}. ${note}\n`, ...tables].join('\n'));
  }
  if (options.quick && lost > 0) {
    console.error(`${lost} changes were not delivered`);
    process.exitCode = 1;
  }
}

if (options.list) for (const { key, title } of scenarios) console.log(`${key.padEnd(20)} ${title}`);
else await main();
