import { newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';
import { inTransaction } from './transaction.ts';

interface Payment {
  id: number;
  customer: number;
  amount: string; // numeric
}

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput<{ payments: Payment }>(
  { name: 'totals', type: 'postgres', connectionString },
  { tables: { include: ['payments'] }, rows: 'both', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

await input.process(async (event) => {
  const { id, before, after, dataOmitted } = event;
  if (dataOmitted) throw new Error(`payment ${id} came without its row: ${dataOmitted}`);
  await inTransaction(pool, async (client) => {
    const add = ({ customer, amount }: Payment, sign: 1 | -1) =>
      client.query(
        `INSERT INTO totals VALUES ($1, $2::numeric * $3)
         ON CONFLICT (customer) DO UPDATE SET total = totals.total + excluded.total`,
        [customer, amount, sign],
      );
    if (id === '*') await client.query('DELETE FROM totals'); // TRUNCATE
    if (before) await add(before, -1);
    if (after) await add(after, 1);
    await input.ack(event, client);
  });
});
await pool.end();
