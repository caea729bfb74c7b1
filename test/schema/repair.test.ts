/** What somebody has dropped of the internal tables, or a dump of the schema alone has left behind, comes back with an installation. */
import { expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { Consumer } from '../support/consumer.ts';
import { setupInstallation } from '../support/setup-installation.ts';

const [LOCK, LOG, SEQUENCE, SECRET, FAILED, PARKED, BACKFILL] = [
  'lock',
  'log',
  'sequence',
  'secret',
  'failed',
  'parked',
  'backfill',
].map((name) => `postgres_input.${name}_postgres_input_test`);

test.each([
  ['the row of the lease', `DELETE FROM ${LOCK}`],
  ['the secret', `DELETE FROM ${SECRET}`],
  ['both, as after a restored pg_dump --schema-only', `DELETE FROM ${LOCK}; DELETE FROM ${SECRET}`],
  ['the primary key of the log', `ALTER TABLE ${LOG} DROP CONSTRAINT log_postgres_input_test_pkey`],
  ['the primary key of the lock table', `ALTER TABLE ${LOCK} DROP CONSTRAINT lock_postgres_input_test_pkey`],
  [
    'the primary key of the failures',
    `ALTER TABLE ${FAILED} DROP CONSTRAINT failed_postgres_input_test_pkey`,
  ],
  [
    'the primary key of the parked changes',
    `ALTER TABLE ${PARKED} DROP CONSTRAINT parked_postgres_input_test_pkey`,
  ],
  [
    'the primary key of the backfills, without which an event could be acknowledged twice',
    `ALTER TABLE ${BACKFILL} DROP CONSTRAINT backfill_postgres_input_test_pkey;
     INSERT INTO ${BACKFILL} (backfill, relation, sequence) VALUES (1, 0, '1'), (1, 0, '1'), (1, 0, '2')`,
  ],
  ['the defaults of the log', `ALTER TABLE ${LOG} ALTER seq DROP DEFAULT, ALTER xid DROP DEFAULT`],
  ['the sequence of the log', `DROP SEQUENCE ${SEQUENCE} CASCADE`],
  [
    'defaults and the row',
    `ALTER TABLE ${LOCK} ALTER token DROP DEFAULT, ALTER installation DROP DEFAULT; DELETE FROM ${LOCK}`,
  ],
])('%s', async (_, damage) => {
  const { database, install, plan } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  await database.query(`INSERT INTO t VALUES (1), (2); ${damage}`);
  await install();
  expect((await plan()).steps).toEqual([]);
  await database.query('INSERT INTO t VALUES (3)');
  await using node = await newPostgresInput(
    { name: 'test', type: 'postgres', connectionString: database.url },
    { connectTimeout: 10_000 },
  );
  const consumer = new Consumer(node);
  await expect.poll(() => consumer.events.map(({ id }) => id)).toEqual(['1', '2', '3']);
  expect(
    await database.query(
      `SELECT oid::regclass::text AS keyless FROM pg_class c WHERE relnamespace = 'postgres_input'::regnamespace AND relkind = 'r'
       AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = c.oid AND indisprimary)`,
    ),
  ).toEqual([{ keyless: SECRET }]);
});

test.each([
  [
    'its volatility',
    'ALTER FUNCTION postgres_input.guard_postgres_input_test(oid, oid, text[], int) VOLATILE',
  ],
  ['whose rights it has', 'ALTER FUNCTION postgres_input.notify_postgres_input_test(text) SECURITY INVOKER'],
  ['what it does with NULL', 'ALTER FUNCTION postgres_input.notify_postgres_input_test(text) STRICT'],
])('a function that was altered: %s', async (_, damage) => {
  const { database, install, plan } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  await database.query(damage);
  expect((await plan()).steps).toHaveLength(1);
  await install();
  expect((await plan()).steps).toEqual([]);
});

test('a function that returns something else', async () => {
  const { database, install, plan, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  const [{ source }] = (await database.query(
    `SELECT prosrc AS source FROM pg_proc WHERE proname = 'guard_postgres_input_test'`,
  )) as [{ source: string }];
  await database.query(`
    DROP FUNCTION postgres_input.guard_postgres_input_test(oid, oid, text[], int);
    CREATE FUNCTION postgres_input.guard_postgres_input_test(relation oid, index oid, key text[], id integer) RETURNS SETOF boolean
      LANGUAGE sql IMMUTABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$${source}$body$`);
  expect((await plan()).steps).toHaveLength(1);
  await install();
  expect((await plan()).steps).toEqual([]);
  await database.query('INSERT INTO t VALUES (1)');
  expect(await changes()).toEqual(['INSERT t 1']);
});
