import { describe, expect, test } from 'vitest';
import { withSession } from '../../src/node/connect.ts';
import { AttemptSpacing } from '../../src/schema/attempt-spacing.ts';
import { install as installBy } from '../../src/schema/install.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { originalTriggers } from '../support/original.ts';
import { setupApplication, installationOf, setupInstallation } from '../support/setup-installation.ts';

/** Tells of every row of the catalog that installing could touch, and of every version of it. */
const catalog = (database: TestDatabase) =>
  database.query(
    ['pg_namespace', 'pg_class', 'pg_attribute', 'pg_proc', 'pg_trigger', 'pg_depend', 'pg_description']
      .map(
        (name) =>
          `SELECT '${name}', count(*), md5(string_agg(ctid::text || xmin, ' ' ORDER BY ctid)) FROM ${name}`,
      )
      .join(' UNION ALL '),
  );

const TABLES = `
  CREATE SCHEMA app;
  CREATE TABLE t (id int PRIMARY KEY);
  CREATE TABLE app."Two Words" ("a""b" timestamptz, "%" money, PRIMARY KEY ("a""b", "%"));
  CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
  CREATE TABLE part PARTITION OF root DEFAULT;
  CREATE TABLE none (n int)`;

describe('installing again', () => {
  test('changes nothing in the catalog, and plans nothing', async () => {
    const { database, install, plan } = await setupInstallation(TABLES, { schemas: ['public', 'app'] });
    const before = await catalog(database);
    expect((await plan()).steps).toEqual([]);
    const installation = await install();
    expect(installation).toEqual({
      watched: ['app.Two Words', 'none', 'root', 't'],
      unwatchable: [],
      pending: [],
    });
    expect(await catalog(database)).toEqual(before);
  });

  test('from a role, or into a database, with other settings finds the same', async () => {
    const database = await setupApplication(TABLES);
    const { role, url } = await createRole(database, 'SUPERUSER');
    await database.query(`
      ALTER ROLE ${role} SET DateStyle = 'SQL, DMY'; ALTER ROLE ${role} SET quote_all_identifiers = on;
      ALTER ROLE ${role} SET standard_conforming_strings = off; ALTER ROLE ${role} SET search_path = app, public`);
    for (const [first, second] of [
      [database.url, url],
      [url, database.url],
    ]) {
      await installationOf(database, {}, first).install();
      expect((await installationOf(database, {}, second).plan()).steps).toEqual([]);
      await database.query('INSERT INTO t VALUES (1); DELETE FROM t');
      expect(await installationOf(database).changes()).toEqual(['INSERT t 1', 'DELETE t 1']);
      await installationOf(database).uninstall();
    }
  });

  test('five at once on an empty database', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const inputs = Array.from({ length: 5 }, () => installationOf(database));
    const installations = await Promise.all(inputs.map(({ install }) => install()));
    expect(installations).toEqual(inputs.map(() => ({ watched: ['t'], unwatchable: [], pending: [] })));
    await database.query('INSERT INTO t VALUES (1)');
    expect(await inputs[0]!.changes()).toEqual(['INSERT t 1']);
  });

  test('for several ids at once: each has its own triggers', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const inputs = ['a', 'b', 'a_b', 'b_t', 't'].map((name) => installationOf(database, { name }));
    await Promise.all(inputs.map(({ install }) => install()));
    await database.query('INSERT INTO t VALUES (1)');
    for (const { changes } of inputs) expect(await changes()).toEqual(['INSERT t 1']);
    await inputs[0]!.uninstall();
    await database.query('INSERT INTO t VALUES (2)');
    for (const { changes } of inputs.slice(1)) expect(await changes()).toEqual(['INSERT t 2']);
  });
});

describe('brings back', () => {
  const damages: Record<string, string> = {
    'a trigger that was dropped': 'DROP TRIGGER t_test_update_trigger ON t',
    'a function that was dropped with its triggers': `DO $$ BEGIN
      EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure || ' CASCADE' FROM pg_proc WHERE proname LIKE 'process_record_test_t_insert_%');
    END $$`,
    'a function that was changed': `DO $$ BEGIN
      EXECUTE (SELECT 'CREATE OR REPLACE FUNCTION ' || oid::regprocedure || ' RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END'''
        FROM pg_proc WHERE proname LIKE 'process_record_test_t_delete_%');
    END $$`,
    'settings of a function': `ALTER FUNCTION postgres_input.notify_postgres_input_test RESET search_path`,
    'the volatility of a function': `ALTER FUNCTION postgres_input.guard_postgres_input_test VOLATILE`,
    'a function that returns something else': `DO $$ DECLARE source text; BEGIN
      SELECT prosrc INTO source FROM pg_proc WHERE proname = 'notify_postgres_input_test';
      DROP FUNCTION postgres_input.notify_postgres_input_test;
      EXECUTE format('CREATE FUNCTION postgres_input.notify_postgres_input_test(body text) RETURNS text
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS %L', source);
    END $$`,
    'the whole schema': 'DROP SCHEMA postgres_input CASCADE',
    'the lease': 'DELETE FROM postgres_input.lock_postgres_input_test',
    'the secret': 'DELETE FROM postgres_input.secret_postgres_input_test',
    'the log': 'DROP TABLE postgres_input.log_postgres_input_test',
  };
  test.each(Object.entries(damages))('%s', async (_, damage) => {
    const { database, install, plan, changes } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int)',
    );
    await database.query(damage);
    expect((await plan()).steps.length).toBeGreaterThan(0);
    await install();
    expect((await plan()).steps).toEqual([]);
    await database.query('INSERT INTO t VALUES (1); UPDATE t SET n = 1; DELETE FROM t; TRUNCATE t');
    expect(await changes()).toEqual(['INSERT t 1', 'UPDATE t 1', 'DELETE t 1', 'TRUNCATE t *']);
  });
});

describe('operations', () => {
  test.each([
    [['create'], ['INSERT t 1', 'INSERT t 3']],
    [['update'], ['UPDATE t 1', 'UPDATE t 2']],
    [['delete'], ['DELETE t 2', 'TRUNCATE t *']],
    [
      ['create', 'update'],
      ['INSERT t 1', 'UPDATE t 1', 'INSERT t 2', 'INSERT t 3'],
    ],
  ] as const)('%j have logged %j', async (operations, expected) => {
    const { database, changes, install } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int)',
    );
    const narrowed = installationOf(database, { operations: [...operations] });
    await narrowed.install();
    expect((await narrowed.plan()).steps).toEqual([]);
    await database.query(`
      INSERT INTO t VALUES (1); UPDATE t SET n = 1; UPDATE t SET id = 2; DELETE FROM t; INSERT INTO t VALUES (3);
      TRUNCATE t`);
    expect(await changes()).toEqual(expected);
    await install();
    await database.query('INSERT INTO t VALUES (1); DELETE FROM t');
    expect(await changes()).toEqual(['INSERT t 1', 'DELETE t 1']);
  });
});

describe('taking over from the original', () => {
  test('misses no change and repeats none', async () => {
    const database = await setupApplication(`
      CREATE TABLE a (id bigserial PRIMARY KEY); CREATE TABLE b (id bigserial PRIMARY KEY);
      ${originalTriggers('test', ['a', 'b'])}`);
    const { install, rows } = installationOf(database);
    const listener = await database.client();
    const seen: string[] = [];
    listener.on('notification', ({ payload }) => {
      const { tbl, id } = JSON.parse(payload!);
      seen.push(`${tbl} ${id}`);
    });
    await listener.query('LISTEN test');

    let writing = true;
    const written: string[] = [];
    const writers = ['a', 'b', 'a', 'b'].map(async (table) => {
      const client = await database.client();
      // On after the last trigger is in place.
      for (let after = 0; after < 10; after += writing ? 0 : 1) {
        const { rows } = await client.query(`INSERT INTO ${table} DEFAULT VALUES RETURNING id`);
        written.push(`${table} ${rows[0].id}`);
      }
    });
    await expect.poll(() => seen.length, { interval: 1 }).toBeGreaterThan(20);
    expect(await install()).toEqual({ watched: ['a', 'b'], unwatchable: [], pending: [] });
    writing = false;
    await Promise.all(writers);
    await listener.query('SELECT');
    const logged = (await rows()).map(({ tbl, id }) => `${tbl} ${id}`);
    expect(logged.length).toBeGreaterThanOrEqual(40);
    expect([...seen, ...logged].toSorted()).toEqual(written.toSorted());
  });

  test("leaves only the original's table", async () => {
    const database = await setupApplication(`
      CREATE SCHEMA app;
      CREATE TABLE t (id int PRIMARY KEY);
      CREATE TABLE app.t (id int PRIMARY KEY);
      CREATE TABLE lock_postgres_input_other (resource int PRIMARY KEY, id int);
      ${originalTriggers('test', ['t', 'lock_postgres_input_other'])}
      CREATE TRIGGER t_test_trigger AFTER DELETE ON app.t FOR EACH ROW EXECUTE FUNCTION process_record_test();
      CREATE FUNCTION process_record_other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER t_other_trigger AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION process_record_other()`);
    const { install, plan, changes } = installationOf(database);
    await install();
    expect((await plan()).steps).toEqual([]);
    expect(
      await database.query(`
        SELECT tgname FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
        WHERE proname LIKE 'process_record%' AND pronamespace = 'public'::regnamespace`),
    ).toEqual([{ tgname: 't_other_trigger' }]);
    expect(await database.query(`SELECT FROM pg_proc WHERE proname = 'process_record_test'`)).toEqual([]);
    await database.query('INSERT INTO t VALUES (1); INSERT INTO app.t VALUES (1)');
    expect(await changes()).toEqual(['INSERT t 1']);
  });

  test("names the original's triggers that another role has to drop", async () => {
    const database = await setupApplication(`
      CREATE TABLE mine (id int PRIMARY KEY); CREATE TABLE theirs (id int PRIMARY KEY);
      ${originalTriggers('test', ['mine', 'theirs'])}`);
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role};
      ALTER TABLE mine OWNER TO ${role}; GRANT TRIGGER ON theirs TO ${role}`);
    const { install, plan } = installationOf(database, {}, url);
    const { watched, unwatchable } = await install();
    expect(watched).toEqual(['mine']);
    expect(unwatchable).toEqual([
      { table: 'theirs', reason: expect.stringContaining('trigger on it has to be dropped') },
    ]);
    const { steps, barredSteps } = await plan();
    expect(steps).toEqual([]);
    for (const sql of barredSteps.flatMap((step) => step.sql)) await database.query(sql);
    await install();
    expect((await plan()).steps).toEqual([]);
  });
});

describe('a trigger of ours whose name is taken', () => {
  test('by the application: the table is unwatchable, and nothing else, until the name is free', async () => {
    const database = await setupApplication(`
      CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY);
      CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
      CREATE TRIGGER t_test_update_trigger AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()`);
    const { install, plan } = installationOf(database);
    const found = { watched: ['u'], unwatchable: [{ table: 't', reason: expect.stringContaining('touch') }] };
    expect(await install()).toEqual({ ...found, pending: [] });
    expect(await plan()).toMatchObject({ ...found, steps: [], barredSteps: [] });
    await database.query('ALTER TRIGGER t_test_update_trigger ON t RENAME TO touch');
    expect(await install()).toEqual({ watched: ['t', 'u'], unwatchable: [], pending: [] });
  });

  test('by the same input in another internal schema', async () => {
    const { database, plan } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const other = installationOf(database, { internalSchema: 'elsewhere' });
    expect(await other.install()).toEqual({
      watched: [],
      unwatchable: [{ table: 't', reason: expect.stringContaining('postgres_input.process_record') }],
      pending: [],
    });
    expect((await plan()).steps).toEqual([]);
    await other.uninstall();
    expect((await plan()).steps).toEqual([]);
  });
});

describe('the install key', () => {
  test('means nothing in the hands of a role that could not install', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { url } = await createRole(database);
    const { install, names } = installationOf(database);
    const stranger = await database.client({ connectionString: url });
    await stranger.query('SELECT pg_advisory_lock($1)', [names.installKey]);
    expect(await install()).toMatchObject({ watched: ['t'] });
    await stranger.end();
  });

  test('is not waited for without end: a process that holds it may be frozen', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { settings, names } = installationOf(database);
    const frozen = await database.client();
    await frozen.query('SELECT pg_advisory_lock($1)', [names.installKey]);
    const installation = await withSession(settings, (session) =>
      installBy(session, settings, names, { keyPatience: 100 }),
    );
    expect(installation).toMatchObject({ watched: ['t'] });
    await frozen.end();
  });

  test.each(['pg_advisory_lock', 'pg_advisory_lock_shared'])('is waited for otherwise: %s', async (lock) => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { install, names } = installationOf(database);
    const other = await database.client();
    await other.query(`SELECT ${lock}($1)`, [names.installKey]);
    const state = { installed: false };
    const installing = install().then(() => (state.installed = true));
    const tries = `SELECT FROM pg_stat_activity
      WHERE datname = current_database() AND strpos(query, 'pg_locks') > 0 AND pid <> pg_backend_pid()`;
    await expect.poll(() => database.query(tries)).not.toHaveLength(0);
    expect(state.installed).toBe(false);
    await other.query('SELECT pg_advisory_unlock_all()');
    await installing;
  });
});

describe('a step without which nothing works, and that fails at every attempt,', () => {
  /** Its attempts are over after the first one. */
  class Impatience extends AttemptSpacing {
    override get notBefore(): number {
      return Infinity;
    }

    override async rest(): Promise<void> {}
  }
  const LOG = 'postgres_input.log_postgres_input_test';
  const keyless = `ALTER TABLE ${LOG} DROP CONSTRAINT log_postgres_input_test_pkey`;
  async function setup(damage: string) {
    const { database, settings, names } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query(damage);
    const install = () =>
      withSession(settings, (session) =>
        installBy(session, settings, names, { spacing: new Impatience() }),
      ).catch((error: unknown) => error);
    return { database, install };
  }
  const STEP = '"the internal tables and the functions that all triggers share"';

  test.each([
    [
      'rows that bar a key',
      `${keyless}; INSERT INTO t VALUES (1); INSERT INTO ${LOG} SELECT * FROM ${LOG}`,
      '23505',
      'could not create unique index "log_postgres_input_test_pkey"',
    ],
    [
      'a type that has the name of a table',
      `DROP TABLE postgres_input.failed_postgres_input_test;
       CREATE TYPE postgres_input.failed_postgres_input_test AS ENUM ()`,
      '42710',
      'type "failed_postgres_input_test" already exists',
    ],
    [
      'a view that needs a function',
      `ALTER FUNCTION postgres_input.notify_postgres_input_test(text) RENAME TO old;
       CREATE FUNCTION postgres_input.notify_postgres_input_test(body text) RETURNS text LANGUAGE sql AS 'SELECT body';
       CREATE VIEW v AS SELECT postgres_input.notify_postgres_input_test('')`,
      '2BP01',
      'cannot drop function postgres_input.notify_postgres_input_test(text) because other objects depend on it',
    ],
  ])('is told with what the server said: %s', async (_, damage, code, message) => {
    const { install } = await setup(damage);
    expect(await install()).toMatchObject({
      code: 'ERR_INSTALL',
      retryable: false,
      message: expect.stringContaining(`input test failed at the step ${STEP} (${message})`),
      cause: { code },
    });
  });

  test('is told as a lock if another transaction has one', async () => {
    const { database, install } = await setup(keyless);
    const holder = await database.client();
    await holder.query(`BEGIN; LOCK TABLE ${LOG}`);
    expect(await install()).toMatchObject({
      code: 'ERR_INSTALL',
      retryable: true,
      message: expect.stringContaining('the internal tables of input test are locked by another transaction'),
      cause: { code: '55P03' },
    });
    await holder.query('ROLLBACK');
  });
});
