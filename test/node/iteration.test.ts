import { expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { createDatabase } from '../support/database.ts';

test('close() inside the loop ends it with the next pull, however many events wait', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE t (id int primary key)');
  const config = { name: 'in', type: 'postgres', connectionString: database.url };
  const input = await newPostgresInput(config, { connectTimeout: 10_000 });
  const events = input.handle();
  await new Promise<void>((resolve) => input.once('active', () => resolve()));
  await database.query('INSERT INTO t SELECT generate_series(1, 100)');

  const seen: string[] = [];
  for await (const event of events) {
    seen.push(event.id);
    await input.close();
  }
  expect(seen).toEqual(['1']);
  expect(await database.query('SELECT count(*)::int FROM postgres_input.log_postgres_input_in')).toEqual([
    { count: 99 },
  ]);
});
