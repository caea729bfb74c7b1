import { setTimeout as delay } from 'node:timers/promises';
import PgBoss from 'pg-boss';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { eachRow } from './row-trigger.ts';

const boss = (url: string) => new PgBoss({ connectionString: url, supervise: false, schedule: false });

/** Version 10, the last for Node 20. Its shortest polling interval. */
export const pgBoss: Contestant = {
  name: 'pg-boss',
  by: 'trigger and table',
  durable: true,
  async install(url) {
    const one = boss(url);
    await one.start();
    await one.createQueue('item');
    await one.stop({ graceful: false });
    await eachRow(
      url,
      `INSERT INTO pgboss.job (name, data, policy) VALUES ('item', jsonb_build_object('id', NEW.id), 'standard')`,
    );
  },
  async consume(url, deliver, { concurrency, handlerTime } = { concurrency: 1, handlerTime: 0 }) {
    const one = boss(url);
    one.on('error', () => {});
    await one.start();
    const options = { batchSize: 2000, pollingIntervalSeconds: 0.5 };
    await one.work<{ id: number }>('item', options, async (jobs) => {
      const left = jobs.values();
      const work = async () => {
        for (const job of left) {
          if (handlerTime > 0) await delay(handlerTime);
          deliver(job.data.id);
        }
      };
      await Promise.all(Array.from({ length: concurrency }, work));
    });
    return { stop: () => one.stop({ graceful: false }) };
  },
  async isAcknowledged(url) {
    const [row] = await query<{ any: boolean }>(
      url,
      `SELECT EXISTS (SELECT FROM pgboss.job WHERE name = 'item' AND state < 'completed') AS any`,
    );
    return !row!.any;
  },
};
