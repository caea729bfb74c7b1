/** What an input that asks for rows has in the database beside the others, and how it comes and goes. */
import { describe, expect, test } from 'vitest';
import { grantTo, runtimeGrants } from '../../src/schema/grants.ts';
import { ADDED_COLUMNS, SINGLE_COLUMNS } from '../../src/schema/log-layout.ts';
import type { TestDatabase } from '../support/database.ts';
import { installationOf, setupApplication, setupInstallation } from '../support/setup-installation.ts';
import { until } from '../support/until.ts';

const T = 'CREATE TABLE t (id int PRIMARY KEY, n text); CREATE TABLE u (n int)';

const internal = async (database: TestDatabase) =>
  (
    await database.query<{ name: string }>(`
      SELECT relname::text AS name FROM pg_class WHERE relnamespace = 'postgres_input'::regnamespace AND relkind = 'r'
      UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace AND prorettype <> 'trigger'::regtype ORDER BY 1`)
  )
    .map(({ name }) => name.replace('_postgres_input_test', ''))
    .toSorted();

const shapes = (database: TestDatabase) =>
  database.query<{ columns: unknown }>(
    'SELECT columns FROM postgres_input.shape_postgres_input_test ORDER BY columns::text',
  );

test('an input that asks for no rows has nothing of it', async () => {
  const { database } = await setupInstallation(T);
  expect(await internal(database)).toEqual([
    'announce',
    'backfill',
    'failed',
    'guard',
    'identity',
    'location',
    'lock',
    'log',
    'notify',
    'parked',
    'secret',
    'statement',
  ]);
});

test('an installation is complete, and uninstalling leaves nothing', async () => {
  const fixture = await setupInstallation(T, { rows: 'both' });
  const { database, plan, uninstall } = fixture;
  expect(await internal(database)).toEqual([
    'announce',
    'backfill',
    'columns',
    'failed',
    'guard',
    'identity',
    'length',
    'location',
    'lock',
    'log',
    'notify',
    'parked',
    'present',
    'print',
    'secret',
    'shape',
    'shape_of',
    'statement',
  ]);
  expect((await plan()).steps).toEqual([]);
  expect((await shapes(database)).map(({ columns }) => columns)).toEqual([
    [
      ['id', 23],
      ['n', 25],
    ],
    [['n', 23]],
  ]);
  await uninstall();
  expect(await database.query("SELECT FROM pg_namespace WHERE nspname = 'postgres_input'")).toEqual([]);
});

test('the table of shapes is watched by no input', async () => {
  const database = await setupApplication(`${T}; CREATE TABLE shape_postgres_input_x (id int)`);
  expect((await installationOf(database).install()).watched).toEqual(['t', 'u']);
});

test('an input that asks for rows from now on gets them, and one that asks no more gets none', async () => {
  const { database } = await setupInstallation(T);
  const write = async () => database.query(`INSERT INTO t VALUES (1, 'a'); DELETE FROM t`);
  const withRows = installationOf(database, { rows: 'both' });
  expect((await withRows.plan()).differences).toEqual([
    { option: 'rows', installed: 'none', wanted: 'both' },
  ]);
  await withRows.install();
  await write();
  expect((await withRows.rows()).map(({ before, after }) => [before, after])).toEqual([
    [null, '(1,a)'],
    ['(1,a)', null],
  ]);
  const small = installationOf(database, { rows: 'both', maxRowBytes: 4 });
  expect((await small.plan()).differences).toEqual([
    { option: 'maxRowBytes', installed: 1_000_000, wanted: 4 },
  ]);
  await small.install();
  await write();
  expect((await small.rows()).map(({ shape }) => shape)).toEqual(['too-large', 'too-large']);
  const without = installationOf(database);
  await without.install();
  await write();
  expect((await without.rows()).map(({ before, after, shape }) => [before, after, shape])).toEqual([
    [null, null, null],
    [null, null, null],
  ]);
});

test('functions log no rows until the log has the columns for them', async () => {
  const fixture = await setupInstallation(T);
  const { database, names } = fixture;
  await database.query(
    `ALTER TABLE ${names.logTable.sql} ${ADDED_COLUMNS.map((column) => `DROP COLUMN ${column}`).join(', ')}`,
  );
  const withRows = installationOf(database, { rows: 'both', lockTimeout: 16 });
  const writer = await database.client();
  await writer.query(
    `BEGIN; INSERT INTO ${names.logTable.sql} (at, tbl, id, op) VALUES (now(), 't', '1', 'DELETE')`,
  );
  expect((await withRows.install()).pending).toEqual([`postgres_input.${names.logTable.name}`]);
  await database.query(`INSERT INTO t VALUES (1, 'a')`);
  await writer.query('ROLLBACK');
  await withRows.install();
  expect((await withRows.plan()).steps).toEqual([]);
  await database.query(`INSERT INTO t VALUES (2, 'b')`);
  expect((await withRows.rows()).map(({ after }) => after)).toEqual([null, '(2,b)']);
});

test('options that were kept before there were rows are those of an input without', async () => {
  const { database, plan, names } = await setupInstallation(T);
  await database.query(`UPDATE ${names.lockTable.sql} SET options = options - 'rows' - 'maxRowBytes'`);
  expect((await plan()).differences).toEqual([]);
  expect((await plan()).steps).toEqual([]);
});

describe('shapes', () => {
  const changed = async () => {
    const fixture = await setupInstallation(T, { rows: 'both' });
    const { database } = fixture;
    await database.query(`INSERT INTO t VALUES (1, 'a'); ALTER TABLE t ADD e int`);
    await fixture.install();
    return fixture;
  };

  test('stay as long as a row of the log names them', async () => {
    const fixture = await changed();
    await fixture.install();
    expect((await shapes(fixture.database)).length).toBe(3);
    expect((await fixture.plan()).steps).toEqual([]);
    await fixture.rows();
    expect((await fixture.plan()).steps.map(({ summary }) => summary)).toEqual([
      'shapes of rows that are left over',
    ]);
    await fixture.install();
    expect((await shapes(fixture.database)).map(({ columns }) => columns)).toEqual([
      [
        ['id', 23],
        ['n', 25],
        ['e', 23],
      ],
      [['n', 23]],
    ]);
  });

  test('stay as long as a parked change names them', async () => {
    const fixture = await changed();
    const { database, names } = fixture;
    await database.query(`
      WITH gone AS (DELETE FROM ${names.logTable.sql} RETURNING *)
      INSERT INTO ${names.parkedTable.sql} (sequence, ${SINGLE_COLUMNS}, attempts, error)
      SELECT seq, ${SINGLE_COLUMNS}, 1, 'refused' FROM gone`);
    await fixture.install();
    expect((await shapes(database)).length).toBe(3);
    expect((await fixture.plan()).steps).toEqual([]);
    await database.query(`DELETE FROM ${names.parkedTable.sql}`);
    // Also autovacuum is a transaction that writes.
    await until(async () => {
      await fixture.install();
      return (await shapes(database)).length === 2;
    });
  });

  test.each([{ when: 'after.mistyped = 1' }, { changed: ['mistyped'] }])(
    'stay where a table keeps its functions, since its options %j are refused',
    async (options) => {
      const { database, rows } = await setupInstallation(T, { rows: 'both' });
      const refused = installationOf(database, { rows: 'both', watch: { t: options } });
      for (let time = 1; time <= 3; time++)
        expect((await refused.install()).unwatchable).toMatchObject([{ table: 't' }]);
      await database.query(`INSERT INTO t VALUES (1, 'a')`);
      const [logged] = await rows();
      expect(
        await database.query('SELECT FROM postgres_input.shape_postgres_input_test WHERE name = $1', [
          logged!.shape,
        ]),
      ).toHaveLength(1);
    },
  );

  test('stay as long as a transaction may have logged them', async () => {
    const fixture = await setupInstallation(T, { rows: 'both' });
    const { database } = fixture;
    const writer = await database.client();
    await writer.query(`BEGIN; INSERT INTO t VALUES (1, 'a')`);
    // Functions are replaced whoever is using them.
    const next = installationOf(database);
    await next.install();
    await next.install();
    expect((await shapes(database)).length).toBe(2);
    await writer.query('COMMIT');
    await next.install();
    expect((await shapes(database)).length).toBe(1);
    expect((await fixture.rows()).map(({ after }) => after)).toEqual(['(1,a)']);
    await next.install();
    expect((await shapes(database)).length).toBe(0);
  });

  test('that are missing are put back', async () => {
    const { database, plan, install } = await setupInstallation(T, { rows: 'both' });
    await database.query('DELETE FROM postgres_input.shape_postgres_input_test');
    expect((await plan()).steps.length).toBe(2);
    await install();
    expect((await shapes(database)).length).toBe(2);
    await database.query('DROP TABLE postgres_input.shape_postgres_input_test');
    await install();
    expect((await shapes(database)).length).toBe(2);
    await database.query(
      'ALTER TABLE postgres_input.shape_postgres_input_test DROP CONSTRAINT shape_postgres_input_test_pkey',
    );
    await install();
    expect((await plan()).steps).toEqual([]);
  });
});

test('a node needs to read the shapes where rows are asked for', async () => {
  const { names } = installationOf(await setupApplication());
  const read = (rows: 'none' | 'both') =>
    runtimeGrants(names, { rows }).filter(({ name }) => name === names.shapeTable.name);
  expect(read('none')).toEqual([]);
  expect(read('both').map(({ privileges }) => privileges)).toEqual([['SELECT']]);
  expect(grantTo('node', names, { rows: 'both' })).toContain(
    'GRANT SELECT ON TABLE "postgres_input"."shape_postgres_input_test" TO "node"',
  );
});
