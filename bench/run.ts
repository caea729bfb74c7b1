/**
 * Measures everybody and writes `results/`. Options: `--quick`, less than a minute, for the exit code; `--only a16,d100`,
 * `--contestants none,ours` and `--rounds 5` choose, and then nothing is written. `--list` tells what there is.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { Lab } from './lab.ts';
import { chart, table, undelivered } from './report.ts';
import type { Metrics, Scenario } from './scenario.ts';
import { quick, scenarios } from './scenarios.ts';

const { values: options } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    only: { type: 'string' },
    contestants: { type: 'string' },
    rounds: { type: 'string' },
    write: { type: 'boolean' },
  },
});
const chosen = options.only?.split(',');
const among = options.contestants?.split(',');
const written = options.write ?? !(options.quick || chosen || among);

/** A round of everybody, then the next: whatever else the machine does meets all of them. */
async function measure(lab: Lab, scenario: Scenario): Promise<Map<string, Metrics[]>> {
  const names = scenario.contestants.filter((name) => !among || among.includes(name));
  const results = new Map<string, Metrics[]>(names.map((name) => [name, []]));
  for (let round = 0; round < Number(options.rounds ?? scenario.rounds); round++) {
    for (const name of names) results.get(name)!.push(await scenario.run(lab, name));
  }
  return results;
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
  let lost = 0;
  for (const scenario of options.quick ? quick : scenarios) {
    if (chosen && !chosen.includes(scenario.key)) continue;
    const results = await measure(lab, scenario);
    lost += undelivered(results);
    const text = table(scenario, results);
    tables.push(text);
    console.log(`\n[${scenario.key}] ${text}`);
    if (!written) continue;
    await mkdir(folder, { recursive: true });
    if (scenario.chart) {
      await writeFile(new URL(`${scenario.key}.svg`, folder), chart(scenario, scenario.chart, results));
    }
    const note =
      'Medians; in brackets as a share of the baseline of the same run. Undelivered, repeated: the worst round.';
    await writeFile(new URL('results.md', folder), [`${machine}. ${note}\n`, ...tables].join('\n'));
  }
  if (options.quick && lost > 0) {
    console.error(`${lost} changes were not delivered`);
    process.exitCode = 1;
  }
}

if (options.list) for (const { key, title } of scenarios) console.log(`${key.padEnd(20)} ${title}`);
else await main();
