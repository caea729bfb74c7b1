/**
 * When one machine is too small for the work: every change becomes a job of graphile-worker, and workers on as many machines as you like do the
 * jobs. Run as many dispatchers as you like, too: one is active, the others stand by.
 *
 *   psql -c 'CREATE TABLE orders (id int PRIMARY KEY, status text); CREATE TABLE shipments (sequence numeric PRIMARY KEY, order_id int)'
 *   node --import tsx examples/fan-out.ts postgres://postgres@localhost/postgres
 *   node --import tsx examples/fan-out/worker.ts postgres://postgres@localhost/postgres
 *
 * - The job is added in the transaction that acknowledges the event. So a change becomes one job, whatever dies: none is lost, and none comes twice.
 * - The jobs of one queue are done one after the other, in the order in which they were added. All changes of a row go into the same queue. What that
 *   costs: at most QUEUES jobs run at once, and a slow job holds up the other rows of its queue. More queues make fetching a job slower,
 *   because graphile-worker looks at the free queues each time: a queue of its own for every row would be too many.
 * - A change of the primary key is a delete and a create, which go to two queues. So does a TRUNCATE, which is a job of its own (`id` is `*`). No
 *   order is kept between queues.
 */
import { createHash } from 'node:crypto';
import { type ChangeEvent, newPostgresInput } from 'dapper-postgres-input';
import { Logger, runMigrations } from 'graphile-worker';
import pg from 'pg';

const [connectionString = ''] = process.argv.slice(2);
const AT_ONCE = 16;
const QUEUES = 64;

await runMigrations({ connectionString, logger: new Logger(() => () => {}) });
const pool = new pg.Pool({ connectionString, max: AT_ONCE });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput(
  { name: 'orders', type: 'postgres', connectionString },
  { tables: { include: ['orders'] }, rows: 'after', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());
await input.process(dispatch, { concurrency: AT_ONCE });
await pool.end();

async function dispatch(event: ChangeEvent): Promise<void> {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query(`SELECT graphile_worker.add_job('change', $1, queue_name => $2)`, [
      JSON.stringify(event),
      queueOf(event),
    ]);
    await input.ack(event, client);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error; // The event comes again, here or elsewhere.
  } finally {
    client.release();
  }
}

function queueOf({ location, key, id }: ChangeEvent): string {
  const row = JSON.stringify([location, key ?? id]);
  return `changes ${createHash('md5').update(row).digest().readUInt32LE() % QUEUES}`;
}
