import { newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';
import { inTransaction } from './transaction.ts';

interface Tables {
  articles: { id: number; title: string };
}

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const input = await newPostgresInput<Tables>(
  { name: 'slugs', type: 'postgres', connectionString, operations: ['create', 'update'] },
  { tables: { include: ['articles'] }, ignoreOrigins: ['self'], foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

await input.process(async (event) => {
  await inTransaction(pool, async (client) => {
    await input.tag(client);
    const { rows } = await client.query('SELECT title FROM articles WHERE id = $1 FOR UPDATE', [event.id]);
    const slug = rows[0]?.title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
    await client.query('UPDATE articles SET slug = $2 WHERE id = $1', [event.id, slug]);
    await input.ack(event, client);
  });
});
await pool.end();
