/**
 * An orchestrator in a hundred lines. It makes inputs from a config file, and runs the processes that are linked to them
 * for every event, eight events at once. Run as many of it as you like: one gets the events, the others stand by.
 *
 *   node --import tsx examples/orchestrator.ts examples/orchestrator.toml
 *
 * - An event is acknowledged when all its processes are done with it. One that fails is tried again.
 * - Events of one row are processed one after the other, so that their order is kept.
 * - SIGTERM: what has begun is finished, then another node takes over. What kept failing comes again there.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type ChangeEvent,
  type Event,
  type InputConfig,
  type NewInputFunc,
  PostgresInput,
  newPostgresInput,
} from 'dapper-postgres-input';
import { parse } from 'smol-toml';

type Process = (event: Event) => Promise<void>;
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

const AT_ONCE = 8;
const stopping = new AbortController();

const inputTypes: Record<string, NewInputFunc> = {
  postgres: (config) => newPostgresInput(config, { maxInFlight: AT_ONCE }),
};

const processTypes: Record<string, (config: ProcessConfig) => Process> = {
  print: () => async (event) => console.log(JSON.stringify(event)),
  webhook:
    ({ url = '' }) =>
    async (event) => {
      const { trigger, sequence } = event as ChangeEvent;
      const response = await fetch(url, {
        method: 'POST',
        // After a crash an event may come once more, with the same sequence, by which the receiver can tell.
        headers: {
          'content-type': 'application/json',
          'idempotency-key': `${trigger}-${sequence ?? randomUUID()}`,
        },
        body: JSON.stringify(event),
        signal: AbortSignal.timeout(10_000),
      });
      await response.body?.cancel();
      if (!response.ok) throw new Error(`${url} answered ${response.status}`);
    },
};

const { inputs, processes, links } = parse(await readFile(process.argv[2]!, 'utf8')) as unknown as Config;
process.once('SIGTERM', () => stopping.abort(new Error('stopping')));
await Promise.all(inputs.map(run));

async function run(config: InputConfig): Promise<void> {
  const input = await find(inputTypes, config.type)(config);
  const linked = new Set(links.filter((link) => link.input === config.name).map((link) => link.process));
  const configs = processes.filter(({ name }) => linked.has(name));
  const work = configs.map((config) => find(processTypes, config.type)(config));
  const doAll = async (event: Event) => void (await Promise.all(work.map((one) => untilDone(one, event))));

  if (input instanceof PostgresInput) await runAtOnce(input, doAll);
  else for await (const event of input.handle({ signal: stopping.signal })) await doAll(event);
}

/** An input whose events can be acknowledged one by one, in any order. */
async function runAtOnce(input: PostgresInput, work: Process): Promise<void> {
  const jobs = new Map<string, Promise<void>>();
  const stop = async () => {
    console.error(`${input.id}: stopping`);
    await input.close(); // nothing more is handed out
    await Promise.all(jobs.values()); // what has begun is finished
    await input[Symbol.asyncDispose](); // the rest comes again
  };
  if (stopping.signal.aborted) return stop();
  stopping.signal.addEventListener('abort', () => void stop());

  for await (const event of input.handle({ ack: 'manual', reconnect: true })) {
    const row = `${event.location} ${event.id}`;
    const job = Promise.resolve(jobs.get(row))
      .then(() => work(event))
      .then(() => input.ack(event))
      .catch((error: Error) => console.error(`${row}: ${error.message}; it comes again`))
      .finally(() => jobs.get(row) === job && jobs.delete(row));
    jobs.set(row, job);
  }
}

/** Tries again for as long as it takes. Rejects when the orchestrator is to stop. */
async function untilDone(work: Process, event: Event): Promise<void> {
  for (let wait = 100; ; wait = Math.min(2 * wait, 10_000)) {
    stopping.signal.throwIfAborted();
    try {
      return await work(event);
    } catch (error) {
      console.error(`${event.location} ${event.id}: ${(error as Error).message}; trying again in ${wait} ms`);
    }
    await delay(wait, undefined, { signal: stopping.signal }).catch(() => {});
  }
}

function find<Value>(registry: Record<string, Value>, type: string): Value {
  const found = registry[type];
  if (found === undefined)
    throw new Error(`there is no type ${type}: use ${Object.keys(registry).join(', ')}`);
  return found;
}
