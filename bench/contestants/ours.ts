import { newPostgresInput } from '../../src/index.ts';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';

const config = (url: string) => ({ name: 'bench', type: 'postgres', connectionString: url });

export const ours: Contestant = {
  name: 'dapper-postgres-input',
  by: 'trigger and table',
  durable: true,
  async install(url) {
    const consumption = await ours.consume(url, () => {});
    await consumption.stop();
  },
  async consume(url, deliver) {
    const input = await newPostgresInput(config(url), { connectTimeout: 5000 });
    const active = new Promise<void>((resolve) => input.once('active', () => resolve()));
    const events = input.handle();
    const done = (async () => {
      for await (const event of events) deliver(event.id);
    })();
    await Promise.race([active, done]);
    return {
      async stop() {
        await input.close();
        await done;
      },
    };
  },
  async isAcknowledged(url) {
    const [row] = await query<{ any: boolean }>(
      url,
      'SELECT EXISTS (SELECT FROM postgres_input.log_postgres_input_bench) AS any',
    );
    return !row!.any;
  },
};
