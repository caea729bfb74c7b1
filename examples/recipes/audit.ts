import { newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';
import { inTransaction } from './transaction.ts';

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput(
  { name: 'audit', type: 'postgres', connectionString },
  { tables: { exclude: ['audit'] }, rows: 'both', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

await input.process(async (event) => {
  const { sequence, occurredAt, origin, context, operation, location, id, changed, dataOmitted } = event;
  // Of an update, only the columns that differ.
  const pick = (row: typeof event.before) =>
    row && changed ? Object.fromEntries(changed.map((column) => [column, row[column]])) : row;
  await inTransaction(pool, async (client) => {
    await client.query(
      `INSERT INTO audit (sequence, at, actor, reason, operation, location, id, old, new, missing)
       VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        sequence,
        occurredAt,
        origin,
        JSON.stringify(context),
        operation,
        location,
        id,
        pick(event.before),
        pick(event.after),
        dataOmitted,
      ],
    );
    await input.ack(event, client);
  });
});
await pool.end();
