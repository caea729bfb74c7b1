import { newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';

const connectionString = process.argv[2] ?? 'postgres://app@localhost/shop';
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput(
  { name: 'shipping', connectionString, operations: ['create'] },
  { tables: { include: ['orders'] } },
);
process.once('SIGTERM', () => void input.close());
await input.process(async (event) => {
  const client = await pool.connect();
  try {
    await client.query('BEGIN');
    await client.query('INSERT INTO shipments (order_id) VALUES ($1)', [event.id]);
    await input.ack(event, client);
    await client.query('COMMIT');
  } catch (error) {
    await client.query('ROLLBACK');
    throw error; // the event comes again
  } finally {
    client.release();
  }
});
await pool.end();
