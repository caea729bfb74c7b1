/**
 * An audit trail with Drizzle: every change of an order, with the row before and after and with who changed it, exactly once, whatever
 * dies. `ack(event, client)` is in the transaction that writes the trail: both happen, or neither and the event comes again.
 *
 *   psql -c 'CREATE TABLE orders (id int PRIMARY KEY, status text)' -c 'CREATE TABLE audit (sequence text, operation text,
 *     order_id text, actor text, reason jsonb, changed_at timestamptz, before jsonb, after jsonb)'
 *   node --import tsx examples/drizzle.ts postgres://postgres@localhost/postgres
 *
 * Who changes an order says so in the same transaction, by `input.tag(client, { origin, context })` or in SQL:
 *
 *   SELECT set_config('postgres_input.origin', 'ada', true)
 */
import { PostgresInputError, newPostgresInput } from 'dapper-postgres-input';
import { drizzle } from 'drizzle-orm/node-postgres';
import { integer, jsonb, pgTable, text, timestamp } from 'drizzle-orm/pg-core';
import pg from 'pg';

const orders = pgTable('orders', {
  id: integer().primaryKey(),
  status: text({ enum: ['new', 'paid', 'shipped'] }).notNull(),
});
type Order = typeof orders.$inferSelect;

const audit = pgTable('audit', {
  sequence: text(),
  operation: text(),
  orderId: text('order_id'),
  actor: text(),
  reason: jsonb(),
  changedAt: timestamp('changed_at', { withTimezone: true, mode: 'string' }),
  before: jsonb().$type<Order>(),
  after: jsonb().$type<Order>(),
});

/**
 * The types of the rows in events. Drizzle's are the same where a column's key is the column's name and where Drizzle leaves the value as
 * node-postgres parses it: not for `timestamp()` without a time zone, and not for `bigint({ mode: 'number' })`.
 */
interface Tables {
  orders: Order;
}

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput<Tables>(
  { name: 'audit', type: 'postgres', connectionString },
  { tables: { include: ['orders'] }, rows: 'both', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

for await (const event of input.handle({ reconnect: true })) {
  const { sequence, operation, id: orderId, origin: actor, context: reason, occurredAt: changedAt } = event;
  const { before, after } = event;
  const client = await pool.connect();
  try {
    await drizzle(client).transaction(async (tx) => {
      await tx
        .insert(audit)
        .values({ sequence, operation, orderId, actor, reason, changedAt, before, after });
      await input.ack(event, client);
    });
  } catch (error) {
    // Another node is active and has the event. Any other error ends the process, and the event comes again, here or elsewhere.
    if (!(error instanceof PostgresInputError && error.code === 'ERR_LEASE_LOST')) throw error;
  } finally {
    client.release();
  }
}
await pool.end();
