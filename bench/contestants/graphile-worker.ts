import { setTimeout as delay } from 'node:timers/promises';
import { Logger, run, runMigrations } from 'graphile-worker';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { eachRow } from './row-trigger.ts';

const logger = new Logger(() => () => {});

const FAST = {
  worker: { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 },
};

export const graphileWorker: Contestant = {
  name: 'graphile-worker',
  by: 'trigger and table',
  durable: true,
  async install(url) {
    await runMigrations({ connectionString: url, logger });
    await eachRow(url, `PERFORM graphile_worker.add_job('item', json_build_object('id', NEW.id))`);
  },
  async consume(url, deliver, handlers = { concurrency: 16, handlerTime: 0 }) {
    const { concurrency, handlerTime } = handlers;
    const runner = await run({
      connectionString: url,
      logger,
      concurrency,
      noHandleSignals: true,
      // As its documentation recommends for throughput: jobs are fetched and completed many at a time.
      ...(handlerTime > 0 && { preset: FAST }),
      taskList: {
        item: async (payload) => {
          if (handlerTime > 0) await delay(handlerTime);
          deliver((payload as { id: number }).id);
        },
      },
    });
    return { stop: () => runner.stop() };
  },
  isAcknowledged: (url) => isEmpty(url, 'graphile_worker._private_jobs'),
};

async function isEmpty(url: string, table: string): Promise<boolean> {
  const [row] = await query<{ any: boolean }>(url, `SELECT EXISTS (SELECT FROM ${table}) AS any`);
  return !row!.any;
}
