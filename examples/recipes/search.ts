import { newPostgresInput } from 'dapper-postgres-input';
import pg from 'pg';

interface Article {
  id: number;
  title: string;
  body: string;
}

const [connectionString = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString });
pool.on('error', () => {}); // An idle connection was lost, and the pool makes another.
const index = new Map<string, Article>(); // stands for the search engine
const input = await newPostgresInput<{ articles: Article }>(
  { name: 'search', type: 'postgres', connectionString },
  { tables: { include: ['articles'] }, rows: 'after', initial: 'read', foreignNotifications: 'ignore' },
);
process.once('SIGTERM', () => void input.close());

await input.process(async ({ operation, id, after }) => {
  if (id === '*') index.clear(); // TRUNCATE
  else if (operation === 'delete') index.delete(id);
  else if (after) index.set(id, after);
  else await indexPresentRow(id); // The row is too large to come with its event.
});
await pool.end();
console.log(JSON.stringify([...index.values()]));

/** The row may have changed again by now: then the event of that change comes later, and does the same once more. */
async function indexPresentRow(id: string) {
  const { rows } = await pool.query<Article>('SELECT * FROM articles WHERE id = $1', [id]);
  if (rows[0]) index.set(id, rows[0]);
  else index.delete(id);
}
