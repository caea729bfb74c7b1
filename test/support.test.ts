import { expect, test } from 'vitest';
import { createDatabase } from './support/database.ts';

test('gives every caller a database of its own and drops it', async () => {
  await using witness = await createDatabase();
  const exists = (name: string) =>
    witness.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]).then((rows) => rows.length === 1);

  let name: string;
  {
    await using database = await createDatabase();
    name = database.name;
    const client = await database.client();
    await client.query('CREATE TABLE t (n int); INSERT INTO t VALUES (1)');
    expect(await database.query('SELECT current_database() AS name, n FROM t')).toEqual([{ name, n: 1 }]);
    expect(await exists(name)).toBe(true);
  }
  expect(await exists(name)).toBe(false);
});
