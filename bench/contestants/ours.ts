import { setTimeout as delay } from 'node:timers/promises';
import { newPostgresInput } from '../../src/index.ts';
import type { Consumption, Contestant, Handlers } from '../contestant.ts';
import { query } from './database.ts';

const config = (url: string) => ({ name: 'bench', type: 'postgres', connectionString: url });

async function consume(
  url: string,
  rows: 'none' | 'both',
  deliver: (id: string | number) => void,
  handlers?: Handlers,
): Promise<Consumption> {
  const input = await newPostgresInput(config(url), { connectTimeout: 5000, rows });
  const active = new Promise<void>((resolve) => input.once('active', () => resolve()));
  const handleInTurn = async () => {
    for await (const event of input.handle()) deliver(event.id);
  };
  const handleAtOnce = ({ concurrency, handlerTime }: Handlers) =>
    input.process(
      async ({ id }) => {
        await delay(handlerTime);
        deliver(id);
      },
      { concurrency },
    );
  const done = handlers ? handleAtOnce(handlers) : handleInTurn();
  await Promise.race([active, done]);
  return {
    async stop() {
      await input.close();
      await done;
    },
  };
}

const withRows = (name: string, rows: 'none' | 'both'): Contestant => ({
  name,
  by: 'trigger and table',
  durable: true,
  async install(url) {
    const consumption = await consume(url, rows, () => {});
    await consumption.stop();
  },
  consume: (url, deliver, handlers) => consume(url, rows, deliver, handlers),
  async isAcknowledged(url) {
    const [row] = await query<{ any: boolean }>(
      url,
      'SELECT EXISTS (SELECT FROM postgres_input.log_postgres_input_bench) AS any',
    );
    return !row!.any;
  },
});

export const ours = withRows('dapper-postgres-input', 'none');
/** With the rows in the events, as they were and as they are. */
export const oursWithRows = withRows("dapper-postgres-input, rows: 'both'", 'both');
