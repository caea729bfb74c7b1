import postgres from 'postgres';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';

/** Its slot is a temporary one: what is written while it is not connected is lost. */
export const postgresSubscribe: Contestant = {
  name: 'postgres (subscribe)',
  by: 'replication slot',
  durable: false,
  install: async (url) => void (await query(url, 'CREATE PUBLICATION bench FOR TABLE item')),
  async consume(url, deliver) {
    const sql = postgres(url, { publications: 'bench', max: 1, onnotice: () => {} });
    await new Promise<void>((resolve, reject) => {
      sql.subscribe('*:item', (row) => deliver((row as { id: string }).id), resolve).catch(reject);
    });
    return { stop: () => sql.end({ timeout: 1 }) };
  },
};
