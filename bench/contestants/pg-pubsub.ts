import { PgPubSub } from '@imqueue/pg-pubsub';
import type { Contestant } from '../contestant.ts';
import { eachRow } from './row-trigger.ts';

const silent = { log() {}, info() {}, warn() {}, error() {} };

/** With its lock, so that one of many listens, as is its default. */
export const pgPubsub: Contestant = {
  name: '@imqueue/pg-pubsub',
  by: 'notify',
  durable: false,
  async install(url) {
    await eachRow(
      url,
      `PERFORM pg_notify('bench', json_build_object('tbl', TG_TABLE_NAME, 'id', NEW.id::text, 'op', TG_OP)::text)`,
    );
  },
  async consume(url, deliver) {
    const client = new PgPubSub({ connectionString: url }, silent);
    client.channels.on('bench', (message) => deliver((message as { id: string }).id));
    const listening = new Promise<void>((resolve) => client.once('listen', () => resolve()));
    await client.connect();
    await client.listen('bench');
    await listening;
    return { stop: () => client.close() };
  },
};
