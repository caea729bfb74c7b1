/**
 * A mail for every order whose status turns to shipped, with Kysely: exactly one, whatever dies. The mail is a row in `mails`, which
 * somebody else sends, and `ack(event, client)` is in the transaction that writes the row: both happen, or neither and the event comes again.
 *
 *   psql -c 'CREATE TABLE orders (id int PRIMARY KEY, email text, status text); CREATE TABLE mails (order_id int, recipient text)'
 *   node --import tsx examples/kysely.ts postgres://postgres@localhost/postgres
 */
import { PostgresInputError, newPostgresInput } from 'dapper-postgres-input';
import { type Generated, Kysely, PostgresDialect, type Selectable, type Transaction } from 'kysely';
import pg from 'pg';

/** The schema, as kysely-codegen writes it. */
interface DB {
  orders: { id: Generated<number>; email: string; status: 'new' | 'paid' | 'shipped' };
  mails: { order_id: number; recipient: string };
}

/**
 * The types of the rows in events. They are Kysely's as long as no plugin renames columns, as CamelCasePlugin does: events have the names
 * that the database has.
 */
type Tables = Pick<{ [Table in keyof DB]: Selectable<DB[Table]> }, 'orders'>;

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput<Tables>(
  { name: 'mails', type: 'postgres', connectionString, operations: ['update'] },
  { tables: { include: ['orders'] }, rows: 'both', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

for await (const event of input.handle({ reconnect: true })) {
  if (event.operation !== 'update') continue;
  const { before, after, dataOmitted } = event;
  if (dataOmitted) throw new Error(`order ${event.id} came without its row: ${dataOmitted}`);
  if (before?.status === 'shipped' || after?.status !== 'shipped') continue;

  await inTransaction(async (trx, client) => {
    await trx.insertInto('mails').values({ order_id: after.id, recipient: after.email }).execute();
    await input.ack(event, client);
  }).catch(unlessTakenOver);
}
await pool.end();

/**
 * Kysely does not show the client of its transaction. So the client is taken from the pool first, and Kysely gets a pool of that client
 * alone. Kysely releases the client when the transaction has ended.
 */
async function inTransaction(work: (trx: Transaction<DB>, client: pg.PoolClient) => Promise<void>) {
  const client = await pool.connect();
  const dialect = new PostgresDialect({ pool: { connect: async () => client, end: async () => {} } });
  await new Kysely<DB>({ dialect }).transaction().execute((trx) => work(trx, client));
}

/** Another node is active and has the event. Any other error ends the process, and the event comes again, here or elsewhere. */
function unlessTakenOver(error: unknown): void {
  if (!(error instanceof PostgresInputError && error.code === 'ERR_LEASE_LOST')) throw error;
}
