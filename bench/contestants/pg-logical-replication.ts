import { LogicalReplicationService, PgoutputPlugin } from 'pg-logical-replication';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';

export const pgLogicalReplication: Contestant = {
  name: 'pg-logical-replication',
  by: 'replication slot',
  durable: true,
  async install(url) {
    await query(url, 'CREATE PUBLICATION bench FOR TABLE item');
    await query(url, `SELECT pg_create_logical_replication_slot('bench', 'pgoutput')`);
  },
  async consume(url, deliver) {
    const service = new LogicalReplicationService(
      { connectionString: url },
      { acknowledge: { auto: true, timeoutSeconds: 1 } },
    );
    const plugin = new PgoutputPlugin({ protoVersion: 1, publicationNames: ['bench'] });
    service.on('data', (_lsn, message: { tag: string; new?: { id: string | number } }) => {
      if (message.tag === 'insert' || message.tag === 'update') deliver(message.new!.id);
    });
    service.on('error', (error) => console.error(error));
    const started = new Promise<void>((resolve) => service.once('start', () => resolve()));
    void service.subscribe(plugin, 'bench').catch(() => {});
    await started;
    return { stop: async () => void (await service.stop()) };
  },
  async cleanUp(url) {
    await dropSlot(url, 'bench');
  },
};

/** With old rows too. */
export const pgLogicalReplicationFull: Contestant = {
  ...pgLogicalReplication,
  name: 'pg-logical-replication, REPLICA IDENTITY FULL',
  async install(url) {
    await query(url, 'ALTER TABLE item REPLICA IDENTITY FULL');
    await pgLogicalReplication.install(url);
  },
};

/** As soon as the server has noticed that its consumer is gone. */
export async function dropSlot(url: string, slot: string): Promise<void> {
  await query(
    url,
    `DO $$ BEGIN
       WHILE EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '${slot}' AND active) LOOP PERFORM pg_sleep(0.01); END LOOP;
       PERFORM pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '${slot}';
     END $$`,
  );
}
