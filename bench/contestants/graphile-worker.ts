import { Logger, run, runMigrations } from 'graphile-worker';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { eachRow } from './row-trigger.ts';

const logger = new Logger(() => () => {});

export const graphileWorker: Contestant = {
  name: 'graphile-worker',
  by: 'trigger and table',
  durable: true,
  async install(url) {
    await runMigrations({ connectionString: url, logger });
    await eachRow(url, `PERFORM graphile_worker.add_job('item', json_build_object('id', NEW.id))`);
  },
  async consume(url, deliver) {
    const runner = await run({
      connectionString: url,
      logger,
      concurrency: 16,
      noHandleSignals: true,
      taskList: { item: (payload) => deliver((payload as { id: number }).id) },
    });
    return { stop: () => runner.stop() };
  },
  isAcknowledged: (url) => isEmpty(url, 'graphile_worker._private_jobs'),
};

async function isEmpty(url: string, table: string): Promise<boolean> {
  const [row] = await query<{ any: boolean }>(url, `SELECT EXISTS (SELECT FROM ${table}) AS any`);
  return !row!.any;
}
