import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/settings.ts';
import { readStatus } from '../../src/node/status.ts';
import { Session } from '../../src/postgres/session.ts';
import { install } from '../../src/schema/install.ts';
import { namesOf } from '../../src/schema/names.ts';
import { plan } from '../../src/schema/plan.ts';
import { createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

/** A node's limit for a statement, in milliseconds. */
const LIMIT = 2000;

// Thousands of tables, or a backlog of millions: a locked table stands for them here.
test('reading the whole catalog or the whole log may take longer than other statements', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE t (id int PRIMARY KEY)');
  const settings = parseConfig({ name: 'x', type: 'postgres', connectionString: database.url });
  const names = namesOf(settings.id, settings.internalSchema);
  const connect = () =>
    Session.connect(settings.target, {
      connectTimeout: 10_000,
      statementTimeout: LIMIT,
      applicationName: 'x',
    });
  const [planning, counting, other] = [await connect(), await connect(), await connect()];
  await install(planning, settings, names);

  const locker = await database.client();
  await locker.query(`BEGIN; LOCK TABLE pg_catalog.pg_inherits, ${names.logTable.sql}`);
  const planned = plan(planning, settings, names);
  const counted = readStatus(counting, names);
  await until(async () => {
    const [row] = await database.query(
      `SELECT count(*)::int AS waiting FROM pg_locks WHERE NOT granted AND locktype = 'relation'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return row!.waiting === 2;
  });
  // It began to wait later, so the limit of the other two is over before its own.
  await expect(other.query('SELECT FROM pg_catalog.pg_inherits')).rejects.toThrow('no answer');
  await locker.query('COMMIT');
  const [found, status] = await Promise.all([planned, counted]);
  expect(found).toMatchObject({ steps: [], watched: ['t'] });
  expect(status).toMatchObject({ backlog: 0 });
  for (const session of [planning, counting, other]) await session.close();
});
