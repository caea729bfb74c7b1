import { expect, test } from 'vitest';
import { PostgresInputError, newPostgresInput } from '../../src/index.ts';
import { createDatabase } from '../support/database.ts';
import { replaceNotify } from '../support/replace-notify.ts';

test('a node whose listener is lost before its notification comes tells so at once', async () => {
  await using database = await createDatabase();
  await replaceNotify(
    database,
    `PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'dapper%' AND pid <> pg_backend_pid();`,
  );
  const config = { name: 'in', connectionString: database.url };
  // So long that the test would end before.
  const refused = await newPostgresInput(config, { connectTimeout: 300_000 }).catch(
    (error: unknown) => error,
  );
  expect(refused).toBeInstanceOf(PostgresInputError);
  expect(refused).toMatchObject({ code: 'ERR_CONNECT', message: expect.stringContaining('lost') });
});
