import { setTimeout as delay } from 'node:timers/promises';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { none } from './none.ts';

/** What handlers allow: they run for each row of the table, and nothing is fetched or acknowledged meanwhile. */
export const handlersAlone: Contestant = {
  ...none,
  name: 'handlers alone',
  async consume(url, deliver, { concurrency, handlerTime } = { concurrency: 1, handlerTime: 0 }) {
    const rows = await query<{ id: string }>(url, 'SELECT id FROM item ORDER BY id');
    const ids = rows.values();
    const work = async () => {
      for (const { id } of ids) {
        await delay(handlerTime);
        deliver(id);
      }
    };
    for (let n = 0; n < concurrency; n++) void work();
    return { stop: async () => {} };
  },
};
