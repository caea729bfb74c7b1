/**
 * Effects that happen once, in the same database and outside of it: for every new order this has a warehouse, which is
 * somewhere else, ship it, and books the shipment here. Run as many of it as you like; kill one, freeze one.
 *
 *   psql -c 'CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE shipments (order_id int)'
 *   node --import tsx examples/effects/warehouse.ts 8080
 *   node --import tsx examples/effects.ts postgres://postgres@localhost/postgres http://localhost:8080
 *
 * - Here, the booking and `ack(event, client)` are one transaction: both happen, or neither and the event comes again.
 * - A request that has left can't be rolled back, and no lease stops it. It may come twice, and it may come late, when
 *   another node has long been active. So it says which change it is for and under which lease it was sent, and
 *   the receiver decides: see warehouse.ts.
 */
import { type ChangeEvent, PostgresInputError, newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';

const [connectionString = '', warehouse = ''] = process.argv.slice(2);
const client = new pg.Client({ connectionString });
await client.connect();
const config = { name: 'orders', type: 'postgres', connectionString, operations: ['create' as const] };
// What is announced by hand has no sequence to tell it by.
const input = await newPostgresInput(config, {
  tables: { include: ['orders'] },
  foreignNotifications: 'ignore',
});
process.once('SIGTERM', () => void input.close());

for await (const event of input.handle({ reconnect: true })) {
  await ship(event);
  await book(event);
}
await client.end();

async function ship({ trigger, sequence, fencingToken, id }: ChangeEvent): Promise<void> {
  const response = await fetch(warehouse, {
    method: 'POST',
    headers: { 'idempotency-key': `${trigger}-${sequence}`, 'fencing-token': fencingToken! },
    body: id,
  });
  await response.body?.cancel();
  console.log(`order ${id}: ${response.statusText}`);
  // Refused: another node is active, has the event now, and this one is told so by ack().
  if (!response.ok && response.status !== 412) throw new Error(`${warehouse} answered ${response.status}`);
}

async function book(event: ChangeEvent): Promise<void> {
  await client.query('BEGIN');
  try {
    await client.query('INSERT INTO shipments VALUES ($1)', [event.id]);
    await input.ack(event, client);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    const isTakenOver = error instanceof PostgresInputError && error.code === 'ERR_LEASE_LOST';
    if (!isTakenOver) throw error; // ends the process; the event comes again, here or elsewhere
  }
}
