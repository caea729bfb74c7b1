/** Which functions in the internal schema are an input's: by their names, and by the line that says whose they are. */
import { describe, expect, test } from 'vitest';
import { sharedFunctionNames } from '../../src/schema/shared-functions.ts';
import { type TestDatabase } from '../support/database.ts';
import { installationOf, installedBy, setupApplication } from '../support/setup-installation.ts';

const functionsIn = async (database: TestDatabase): Promise<string[]> => {
  const rows = await database.query<{ name: string }>(
    `SELECT proname AS name FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
};

describe('functions that lost their table', () => {
  // Names that begin alike, and the same when id and table are joined.
  const PAIRS = [
    { ids: ['a', 'a_b'], tables: ['b_c', 'c'] },
    { ids: [`${'x'.repeat(60)}1`, `${'x'.repeat(60)}2`], tables: ['t', 'u'] },
    { ids: [`it's "$body$\n-- \\`, `it's "$body$\n-- \\\n`], tables: ['t', 'u'] },
  ];
  test.each(PAIRS)('are removed with their own input: $ids', async ({ ids, tables }) => {
    const database = await setupApplication(
      tables.map((table) => `CREATE TABLE ${table} (id int);`).join(''),
    );
    const [one, other] = ids.map((name) => installationOf(database, { name }));
    await one!.install();
    const ofOne = await functionsIn(database);
    await other!.install();
    const both = await functionsIn(database);
    expect(both).toHaveLength(2 * ofOne.length);
    await database.query(`DROP TABLE ${tables.join(', ')}`);

    await one!.install();
    const left = new Set(sharedFunctionNames(one!.names));
    expect(await functionsIn(database)).toEqual(
      both.filter((name) => !ofOne.includes(name) || left.has(name)),
    );
    await one!.uninstall();
    expect(await functionsIn(database)).toEqual(both.filter((name) => !ofOne.includes(name)));
    await other!.uninstall();
    expect(await database.query(`SELECT FROM pg_namespace WHERE nspname = 'postgres_input'`)).toEqual([]);
  });

  test('are removed if version 0.1.0 made them', async () => {
    const database = await installedBy(1);
    const { install } = installationOf(database, { name: 'golden' });
    const other = installationOf(database, { name: 'golden_2' });
    await other.install();
    await database.query('DROP TABLE orders; ALTER TABLE notes RENAME TO remarks');
    const before = await functionsIn(database);
    await install();
    const gone = before.filter((name) =>
      /^process_record_golden_(orders|notes)_(insert|update|delete|truncate)_/.test(name),
    );
    expect(gone).toHaveLength(8);
    const kept = before.filter((name) => !gone.includes(name));
    expect(await functionsIn(database)).toEqual(expect.arrayContaining(kept));
    expect((await functionsIn(database)).filter((name) => gone.includes(name))).toEqual([]);
  });
});

test.each([1, 4])(
  'what version %i made goes on logging, is read, and becomes of this version, with at most one new trigger',
  async (version) => {
    const database = await installedBy(version);
    const { install, plan, changes } = installationOf(database, { name: 'golden' });
    // Of a partitioned table, the one on TRUNCATE has to fire before those of the partitions.
    const triggers = () =>
      database.query(
        `SELECT oid, tgname FROM pg_trigger WHERE tgname <> 'measurements_golden_truncate_trigger' ORDER BY oid`,
      );
    const before = await triggers();
    const note = `INSERT INTO notes SELECT 'x' FROM generate_series(1, 60)`;
    await database.query(`INSERT INTO measurements VALUES ('2026-01-31', 1); ${note}; TRUNCATE order_lines`);
    const logged = [
      'INSERT measurements 1',
      ...Array<string>(60).fill('INSERT notes '),
      'TRUNCATE order_lines *',
    ];
    expect(await changes()).toEqual(logged);
    await install();
    expect(await triggers()).toEqual(before);
    expect((await plan()).steps).toEqual([]);
    await database.query(`DELETE FROM measurements; INSERT INTO measurements VALUES ('2026-01-31', 1)`);
    expect(await changes()).toEqual(['DELETE measurements 1', 'INSERT measurements 1']);
    await database.query('TRUNCATE measurements_rest, measurements');
    expect(await changes()).toEqual(['TRUNCATE measurements *']);
  },
);

test('a function of somebody else stays, whatever its body and comment are', async () => {
  const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
  const { install, uninstall, names } = installationOf(database);
  await install();
  const [ours] = await database.query(`SELECT prosrc FROM pg_proc WHERE proname = $1`, [
    names.recordFunction('public', 't', 'insert').name,
  ]);
  await database.query(`
    CREATE FUNCTION postgres_input.audit() RETURNS trigger LANGUAGE plpgsql AS $_$${ours.prosrc}$_$;
    CREATE FUNCTION postgres_input.replay() RETURNS trigger LANGUAGE plpgsql
    AS $_$ BEGIN INSERT INTO ${names.logTable.sql} (at, tbl, id, op) VALUES (now(), 't', '1', 'INSERT'); RETURN NULL; END $_$`);
  await install();
  expect(await functionsIn(database)).toEqual(expect.arrayContaining(['audit', 'replay']));
  await uninstall();
  expect(await functionsIn(database)).toEqual(['audit', 'replay']);
});
