import {
  DatabaseSetup,
  getDisabledLogger,
  initializeReplicationMessageListener,
} from 'pg-transactional-outbox';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { dropSlot } from './pg-logical-replication.ts';
import { eachRow } from './row-trigger.ts';

const setup = {
  outboxOrInbox: 'outbox',
  database: 'bench',
  schema: 'public',
  table: 'outbox',
  listenerRole: 'postgres',
  handlerRole: 'postgres',
  publication: 'bench',
  replicationSlot: 'bench',
} as const;

/** By its replication listener, which its documentation names first. */
export const pgTransactionalOutbox: Contestant = {
  name: 'pg-transactional-outbox',
  by: 'replication slot',
  durable: true,
  async install(url) {
    await query(url, DatabaseSetup.dropAndCreateTable(setup));
    await query(url, 'CREATE PUBLICATION bench FOR TABLE public.outbox WITH (publish = insert)');
    await query(url, `SELECT pg_create_logical_replication_slot('bench', 'pgoutput')`);
    await eachRow(
      url,
      `INSERT INTO public.outbox (id, aggregate_type, aggregate_id, message_type, payload)
       VALUES (gen_random_uuid(), 'item', NEW.id::text, TG_OP, '{}')`,
    );
  },
  async consume(url, deliver) {
    const [shutdown] = initializeReplicationMessageListener(
      {
        outboxOrInbox: 'outbox',
        dbListenerConfig: { connectionString: url },
        dbHandlerConfig: { connectionString: url },
        settings: {
          dbSchema: 'public',
          dbTable: 'outbox',
          dbPublication: 'bench',
          dbReplicationSlot: 'bench',
          enableMaxAttemptsProtection: false,
          enablePoisonousMessageProtection: false,
        },
      },
      { handle: async (message) => deliver(message.aggregateId) },
      getDisabledLogger(),
    );
    const [slot] = [{ active: false }];
    while (!slot.active) {
      const [row] = await query<{ active: boolean }>(
        url,
        `SELECT active FROM pg_replication_slots WHERE slot_name = 'bench'`,
      );
      slot.active = row!.active;
    }
    return { stop: shutdown };
  },
  async cleanUp(url) {
    await dropSlot(url, 'bench');
  },
};
