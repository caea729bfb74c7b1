/** The sequence that numbers the log's rows never falls, whatever a DBA does to the tables: a number names one change. */
import { expect, test } from 'vitest';
import { migrate, migrationsFrom } from '../../src/schema/migrations.ts';
import { setupInstallation } from '../support/setup-installation.ts';

/** The script of PostgreSQL's wiki, "Fixing Sequences", and the same by the catalog's own function. */
const FIX_ALL_SEQUENCES = `
DO $$ DECLARE fix text; BEGIN
  FOR fix IN
    SELECT format('SELECT setval(%L, coalesce(max(%I), 1)) FROM %s', s.oid::regclass, c.attname, t.oid::regclass)
    FROM pg_class s
    JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i')
    JOIN pg_class t ON t.oid = d.refobjid
    JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = d.refobjsubid
    WHERE s.relkind = 'S'
    UNION ALL
    SELECT format('SELECT setval(%L, coalesce(max(%I), 1)) FROM %s', pg_get_serial_sequence(t.oid::regclass::text, c.attname), c.attname, t.oid::regclass)
    FROM pg_class t JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum > 0
    WHERE t.relkind = 'r' AND t.relnamespace = 'postgres_input'::regnamespace
      AND pg_get_serial_sequence(t.oid::regclass::text, c.attname) IS NOT NULL
  LOOP EXECUTE fix; END LOOP;
END $$`;

test.each([
  ['a script that sets all sequences to what their tables hold', FIX_ALL_SEQUENCES],
  ['TRUNCATE ... RESTART IDENTITY', 'TRUNCATE postgres_input.log_postgres_input_test RESTART IDENTITY'],
])('%s leaves the sequence alone', async (_, script) => {
  const { database, names, rows } = await setupInstallation('CREATE TABLE t (id serial PRIMARY KEY)');
  // What version 2 left.
  await database.query(`
    ALTER SEQUENCE ${names.logSequence.sql} OWNED BY ${names.logTable.sql}.seq;
    ${migrate(names, migrationsFrom(2)).join(';')};
    INSERT INTO t DEFAULT VALUES; INSERT INTO t DEFAULT VALUES`);
  const before = (await rows()).at(-1)!.seq;
  await database.query(script);
  await database.query('INSERT INTO t DEFAULT VALUES');
  const [after] = await rows();
  expect(Number(after!.seq)).toBe(Number(before) + 1000);
});

test('the sequence goes on where it was after somebody has dropped the log', async () => {
  const { database, names, rows, install, uninstall } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY)',
  );
  await database.query('INSERT INTO t VALUES (1)');
  const [before] = await rows();
  await database.query(`DROP TABLE ${names.logTable.sql}`);
  await install();
  await database.query('INSERT INTO t VALUES (2)');
  const [after] = await rows();
  expect(Number(after!.seq)).toBe(Number(before!.seq) + 1000);
  await uninstall();
  expect(await database.query("SELECT FROM pg_namespace WHERE nspname = 'postgres_input'")).toEqual([]);
});
