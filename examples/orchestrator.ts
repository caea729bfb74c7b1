/**
 * An orchestrator. It makes inputs from a config file, and runs the processes that are linked to them for every event, eight events at once. Run
 * as many of it as you like: one gets the events, the others stand by.
 *
 *   node --import tsx examples/orchestrator.ts examples/orchestrator.toml
 *
 * - An event is acknowledged when all its processes are done with it. If one of them fails, the event comes again, for all of them.
 * - Events of one row are processed one after the other, so that their order is kept.
 * - SIGTERM: what has begun may take five seconds to finish, then another node takes over. What has not finished comes again there.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import {
  type ChangeEvent,
  type Event,
  type InputConfig,
  type NewInputFunc,
  PostgresInput,
  newPostgresInput,
} from 'dapper-postgres-input';
import { parse } from 'smol-toml';

type Process = (event: Event, signal: AbortSignal) => Promise<void>;
interface ProcessConfig {
  name: string;
  type: string;
  url?: string;
}
interface Config {
  inputs: InputConfig[];
  processes: ProcessConfig[];
  links: { input: string; process: string }[];
}

const inputTypes: Record<string, NewInputFunc> = { postgres: newPostgresInput };

const processTypes: Record<string, (config: ProcessConfig) => Process> = {
  print: () => async (event) => console.log(JSON.stringify(event)),
  webhook:
    ({ url = '' }) =>
    async (event, signal) => {
      const { trigger, sequence } = event as ChangeEvent;
      const response = await fetch(url, {
        method: 'POST',
        // An event may come once more, with the same sequence, by which the receiver can tell.
        headers: {
          'content-type': 'application/json',
          'idempotency-key': `${trigger}-${sequence ?? randomUUID()}`,
        },
        body: JSON.stringify(event),
        signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]),
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    },
};

const { inputs, processes, links } = parse(await readFile(process.argv[2]!, 'utf8')) as unknown as Config;
const stopping = new AbortController();
process.once('SIGTERM', () => {
  console.error('stopping');
  stopping.abort();
});
await Promise.all(inputs.map(run));

async function run(config: InputConfig): Promise<void> {
  const input = await find(inputTypes, config.type)(config);
  const linked = new Set(links.filter((link) => link.input === config.name).map((link) => link.process));
  const configs = processes.filter(({ name }) => linked.has(name));
  const work = configs.map((config) => find(processTypes, config.type)(config));
  const { signal } = stopping;

  if (input instanceof PostgresInput) {
    input.on('retrying', ({ location, id, error, delay }) =>
      console.error(`${location} ${id}: ${String(error)}; it comes again in ${Math.round(delay)} ms`),
    );
    await input.process((event, context) => doAll(work, event, context.signal), {
      signal,
      concurrency: 8,
      retry: { minDelay: 100, maxDelay: 10_000 },
      drainTimeout: 5000,
    });
  } else {
    for await (const event of input.handle({ signal })) await doAll(work, event, signal);
  }
}

/** Waits for all of them, also if one fails: the event must not come again while one of its processes still runs. */
async function doAll(work: Process[], event: Event, signal: AbortSignal): Promise<void> {
  const results = await Promise.allSettled(work.map((one) => one(event, signal)));
  const errors = results.flatMap((result) => (result.status === 'rejected' ? result.reason : []));
  if (errors.length > 0) throw errors.length > 1 ? new AggregateError(errors, errors.join('; ')) : errors[0];
}

function find<Value>(registry: Record<string, Value>, type: string): Value {
  const found = registry[type];
  if (found === undefined)
    throw new Error(`there is no type ${type}: use ${Object.keys(registry).join(', ')}`);
  return found;
}
