/**
 * `npm run test:chaos -- --minutes 30 --seed N`: run after run, each with the next seed, until the time is over.
 * Prints what was counted and how long the lease took to change hands, and fails if a rule was broken.
 */
import { parseArgs } from 'node:util';
import { startServer } from '../support/server.ts';
import { measureFailovers } from './failover.ts';
import { printTimes } from './histogram.ts';
import { SETTINGS } from './pasts.ts';
import { CONSUMERS } from './protocol.ts';
import { run } from './run.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '1' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    /** The length of one run. */
    seconds: { type: 'string', default: '45' },
    /** Instead: measure so many failovers of each kind. */
    failover: { type: 'string' },
    /** With nodes that poll. */
    poll: { type: 'boolean', default: false },
    /** Writes per second meanwhile. */
    rate: { type: 'string', default: '200' },
    /** `--weight kill=0 --weight crash=5`: how often a kind of fault happens, where it differs from the default. */
    weight: { type: 'string', multiple: true, default: [] },
    /** `--consumer process --consumer processTransaction`: the kinds of consumers that there are, instead of all. */
    consumer: { type: 'string', multiple: true, default: [] },
    verbose: { type: 'boolean', default: false },
  },
});

if (values.failover !== undefined) {
  const times = await measureFailovers(
    Number(values.failover),
    Number(values.rate),
    values.poll ? 'poll' : 'notify',
    (line) => {
      if (values.verbose) console.log(line);
    },
  );
  console.log(
    `From the last event of one node to the first of the next, ${values.poll ? "wakeup: 'poll'" : 'default options'}, ${values.rate} writes/s:`,
  );
  printTimes(times);
  process.exit();
}

const seconds = Math.min(Number(values.seconds), Number(values.minutes) * 60);
const weights = Object.fromEntries(
  values.weight.map((one) => one.split('=')).map(([kind, weight]) => [kind, Number(weight)]),
);
const consumers = CONSUMERS.filter((kind) => values.consumer.includes(kind));
const totals: Record<string, number> = {};
const takeovers = new Map<string, number[]>();
let broken = 0;

const server = await startServer({ settings: SETTINGS });
const deadline = performance.now() + Number(values.minutes) * 60_000;
for (let seed = Number(values.seed); performance.now() < deadline; seed++) {
  console.log(`seed ${seed}`);
  const started = performance.now();
  const result = await run({
    server,
    seed,
    seconds,
    weights,
    ...(consumers.length > 0 && { consumers }),
    lease: { duration: 1000, renewInterval: 200, margin: 200, pollInterval: 50 },
    tell(line) {
      if (values.verbose) console.log(`${((performance.now() - started) / 1000).toFixed(2)} ${line}`);
    },
  });
  for (const [what, count] of Object.entries(result.counts)) totals[what] = (totals[what] ?? 0) + count;
  for (const [cause, times] of result.takeovers)
    takeovers.set(cause, [...(takeovers.get(cause) ?? []), ...times]);
  for (const [rule, cases] of result.violations) {
    broken++;
    console.log(`BROKEN with seed ${seed}: ${rule} (${cases.length} times)`);
    for (const one of cases.slice(0, 5)) console.log(`  ${one}`);
  }
}
console.table(totals);
console.log('From what befell the holder to the next claim, lease of 1000 ms:');
printTimes(takeovers);
console.log(broken === 0 ? 'no rule was broken' : `${broken} rules were broken`);
await server[Symbol.asyncDispose]();
// After thousands of sockets that were cut, Node.js 20 may turn for ever in its own cleanup (Environment::CleanupHandles) when it ends by itself.
process.exit(broken === 0 ? 0 : 1);
