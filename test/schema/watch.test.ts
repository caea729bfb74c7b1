/** What the option `watch` leaves out of the log, and that a filter which cannot tell leaves out nothing. */
import { describe, expect, test } from 'vitest';
import { createRole } from '../support/database.ts';
import {
  type WatchOptions,
  installationOf,
  setupApplication,
  setupInstallation,
} from '../support/setup-installation.ts';
import { until } from '../support/until.ts';

const T = 'CREATE TABLE t (id int PRIMARY KEY, status text, n int, doc json, place point)';

describe('which tables are watched', () => {
  test('an exact name comes before globs, and other tables are left alone', async () => {
    const { database, changes } = await setupInstallation(
      'CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE order_lines (id int PRIMARY KEY); CREATE TABLE users (id int PRIMARY KEY)',
      { watch: { 'order*': { operations: ['create'] }, orders: { operations: ['delete'] } } },
    );
    await database.query(`
      INSERT INTO orders VALUES (1); INSERT INTO order_lines VALUES (1); INSERT INTO users VALUES (1);
      DELETE FROM orders; DELETE FROM order_lines; DELETE FROM users`);
    expect(await changes()).toEqual(['INSERT order_lines 1', 'DELETE orders 1']);
  });

  test('an exact name that no table has is told, and a column that is not there, with those that are', async () => {
    const database = await setupApplication(T);
    const { unwatchable, watched } = await installationOf(database, {
      watch: { nothing: {}, t: { changed: ['stat'] } },
    }).install();
    expect(watched).toEqual([]);
    expect(unwatchable).toEqual([
      { table: 'nothing', reason: 'the option watch names it, and there is no such table in schema public' },
      {
        table: 't',
        reason: 'changed: there is no column "stat" that is stored: there are id, status, n, doc, place',
      },
    ]);
  });

  test('options that were refused leave the triggers of before in place', async () => {
    const { database, changes } = await setupInstallation(T, { watch: { t: {} } });
    const later = installationOf(database, { watch: { t: { changed: ['stat'] } } });
    expect((await later.install()).unwatchable).toHaveLength(1);
    await database.query('INSERT INTO t VALUES (1)');
    expect(await changes()).toEqual(['INSERT t 1']);
  });
});

test('a renamed table whose options do not fit its columns keeps its triggers and what they call', async () => {
  const { database, changes } = await setupInstallation(T, { watch: { t: { when: `after.status = 'a'` } } });
  await database.query('ALTER TABLE t RENAME TO u');
  const next = installationOf(database, { watch: { u: { when: `after.state = 'a'` } } });
  expect(await next.install()).toMatchObject({ watched: [], unwatchable: [{ table: 'u' }], pending: [] });
  expect((await next.plan()).steps).toEqual([]);
  await database.query(`INSERT INTO u VALUES (1, 'a'), (2, 'b')`);
  expect(await changes()).toEqual(['INSERT u 1']);
  await database.query('ALTER TABLE u RENAME status TO state');
  expect(await next.install()).toMatchObject({ watched: ['u'], unwatchable: [], pending: [] });
  await next.install();
  expect((await next.plan()).steps).toEqual([]);
});

describe.for(['none', 'both'] as const)('with rows: %s', (rows) => {
  test('changed: only updates that changed one of the columns, also json and point', async () => {
    const { database, changes, names } = await setupInstallation(
      `${T}; INSERT INTO t SELECT i, 'new', 0, '{"a":1}', '(1,2)' FROM generate_series(1, 200) i`,
      { rows, operations: ['update'], watch: { t: { changed: ['status', 'doc', 'place'] } } },
    );
    await database.query('UPDATE t SET n = n + 1 WHERE id = 1');
    await database.query('UPDATE t SET n = n + 1');
    await database.query(`UPDATE t SET doc = '{"a":1}', place = '(1,2)' WHERE id < 3`);
    const [last] = await database.query<{ drawn: boolean }>(
      `SELECT is_called AS drawn FROM ${names.logSequence.sql}`,
    );
    expect([await changes(), last!.drawn]).toEqual([[], false]);
    await database.query(`UPDATE t SET doc = '{"a": 1}' WHERE id = 1`);
    await database.query(`UPDATE t SET place = '(1,3)' WHERE id IN (2, 3)`);
    await database.query(`UPDATE t SET status = CASE WHEN id = 77 THEN NULL ELSE status END`);
    expect((await changes()).toSorted()).toEqual(['UPDATE t 1', 'UPDATE t 2', 'UPDATE t 3', 'UPDATE t 77']);
  });

  test('when: only changes for which the condition is true', async () => {
    const { database, changes } = await setupInstallation(T, {
      rows,
      watch: {
        t: { when: "after.status = 'shipped' AND before.status IS DISTINCT FROM 'shipped' -- only once" },
      },
    });
    await database.query(`
      INSERT INTO t VALUES (1, 'new'), (2, 'shipped');
      UPDATE t SET n = 1;
      UPDATE t SET status = 'shipped';
      UPDATE t SET n = 2;
      DELETE FROM t WHERE id = 1;
      INSERT INTO t SELECT i, CASE WHEN i % 100 = 0 THEN 'shipped' END FROM generate_series(3, 300) i`);
    expect((await changes()).toSorted()).toEqual([
      'INSERT t 100',
      'INSERT t 2',
      'INSERT t 200',
      'INSERT t 300',
      'UPDATE t 1',
    ]);
  });

  test('when: a delete has before, and a change of the key is a delete and a create', async () => {
    const { database, changes } = await setupInstallation(`${T}; INSERT INTO t VALUES (1, 'a'), (2, 'b')`, {
      rows,
      watch: { t: { changed: ['n'], when: "before.status = 'a'" } },
    });
    await database.query('UPDATE t SET id = id + 10; DELETE FROM t');
    expect(await changes()).toEqual(['DELETE t 1', 'DELETE t 11']);
  });

  test('when: a condition that fails lets the change be an event, and the statement succeed', async () => {
    const { database, changes } = await setupInstallation(
      `${T}; CREATE TABLE audit (id int);
       CREATE FUNCTION writes(int) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN INSERT INTO public.audit VALUES ($1); RETURN false; END'`,
      {
        rows,
        watch: { t: { when: 'CASE WHEN after.n = 5 THEN public.writes(after.id) ELSE 1 / after.n < 0 END' } },
      },
    );
    await database.query(
      'INSERT INTO t (id, n) VALUES (1, 1); INSERT INTO t (id, n) VALUES (2, 0); INSERT INTO t (id, n) VALUES (3, 5)',
    );
    expect(await changes()).toEqual(['INSERT t 2', 'INSERT t 3']);
    expect(await database.query('SELECT * FROM audit')).toEqual([]);
  });

  test.for([
    ['a column is renamed', 'ALTER TABLE t RENAME status TO state', []],
    ['a column is dropped', 'ALTER TABLE t DROP status', []],
    ['a column has another type', 'ALTER TABLE t ALTER status TYPE varchar(30)', []],
  ] as const)('%s: the change is an event', async ([, alteration]) => {
    const { database, changes } = await setupInstallation(`${T}; INSERT INTO t VALUES (1, 'a')`, {
      rows,
      watch: { t: { changed: ['status'], when: "after.status = 'shipped'" } },
    });
    await database.query('UPDATE t SET n = 1');
    expect(await changes()).toEqual([]);
    await database.query(alteration);
    await database.query('UPDATE t SET n = 2; INSERT INTO t (id) VALUES (2); DELETE FROM t WHERE id = 2');
    expect(await changes()).toEqual(['UPDATE t 1', 'INSERT t 2', 'DELETE t 2']);
  });

  test('ignoreOrigins: changes of these origins are not logged', async () => {
    const { database, changes } = await setupInstallation(T, { rows, ignoreOrigins: ['self', "it's"] });
    for (const origin of ['test', "it's", 'other', '']) {
      await database.query(`BEGIN; SELECT set_config('postgres_input.origin', '${origin.replace("'", "''")}', true);
        INSERT INTO t VALUES (${origin.length}); TRUNCATE t; COMMIT`);
    }
    expect(await changes()).toEqual(['INSERT t 5', 'TRUNCATE t *', 'INSERT t 0', 'TRUNCATE t *']);
  });

  test('the columns may have any names', async () => {
    const names = 'x y n o r c body told compared seen match step op before after old_rows new_rows location';
    const { database, changes } = await setupInstallation(
      `CREATE TABLE t (id int PRIMARY KEY, ${names
        .split(' ')
        .map((name) => `${name} text`)
        .join(', ')}); CREATE TABLE u (LIKE t)`,
      {
        rows,
        watch: {
          t: {
            changed: names.split(' '),
            when: "after.x = 'a' OR before.y = 'a' OR after.before = before.after",
          },
          u: { when: 'after.id > 0 OR before.id > 0' },
        },
      },
    );
    for (const table of ['t', 'u'])
      await database.query(`
        INSERT INTO ${table} (id, x) VALUES (1, 'a'), (2, 'b'); UPDATE ${table} SET y = 'a' WHERE id = 1;
        INSERT INTO ${table} (id) SELECT generate_series(3, 100); UPDATE ${table} SET told = 'a' WHERE id < 3; DELETE FROM ${table} WHERE id < 3`);
    const logged = await changes();
    expect(logged.filter((change) => change.includes(' t '))).toEqual([
      'INSERT t 1',
      'UPDATE t 1',
      'UPDATE t 1',
      'DELETE t 1',
    ]);
    expect(logged.filter((change) => change.includes(' u '))).toHaveLength(105);
  });

  test('skipUnchanged: an update that changes nothing of the columns is no event', async () => {
    const { database, changes } = await setupInstallation(`${T}; INSERT INTO t VALUES (1, 'a')`, {
      rows,
      skipUnchanged: true,
      watch: { t: { columns: { exclude: ['n'] } } },
    });
    await database.query(`UPDATE t SET status = 'a', n = 2; UPDATE t SET status = 'b'`);
    expect(await changes()).toEqual(['UPDATE t 1']);
  });

  test('without a key, rows are paired by their place', async () => {
    const { database, changes } = await setupInstallation(
      `CREATE TABLE t (status text, n int); INSERT INTO t VALUES ('a', 1), ('b', 2)`,
      { rows, watch: { t: { changed: ['status'], when: "before.status = 'a'" } } },
    );
    await database.query(`UPDATE t SET n = 3; UPDATE t SET status = 'c'`);
    expect(await changes()).toEqual(['UPDATE t ']);
  });
});

test('values of types that are not of PostgreSQL are text in a condition: no cast of their owner runs', async () => {
  const { database, changes } = await setupInstallation(
    `CREATE TYPE mood AS ENUM ('low', 'high'); CREATE TABLE t (id int PRIMARY KEY, m mood);
     CREATE FUNCTION evil(mood) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN ''low''; END';
     CREATE CAST (mood AS text) WITH FUNCTION evil AS IMPLICIT`,
    { watch: { t: { when: "after.m = 'high'" } } },
  );
  await database.query("INSERT INTO t VALUES (1, 'low'), (2, 'high'), (3, NULL)");
  expect(await changes()).toEqual(['INSERT t 2']);
});

test.for([
  ['after.status =', 'syntax error'],
  ['after.n', 'must be type boolean'],
  ["after.state = 'x'", 'does not exist'],
  ['true); DROP TABLE t; SELECT (true', 'cannot insert multiple commands'],
] as const)('the condition %s is refused, with the reason', async ([when, reason]) => {
  const database = await setupApplication(T);
  const { unwatchable } = await installationOf(database, { watch: { t: { when } } }).install();
  expect(unwatchable).toEqual([{ table: 't', reason: expect.stringContaining(reason) }]);
  expect(unwatchable[0]!.reason).toContain('id');
});

test('what is installed is complete, and is removed with the condition and with the input', async () => {
  const fixture = await setupInstallation(T, { watch: { t: { when: 'after.n > 1', changed: ['n'] } } });
  const functions = () =>
    fixture.database.query(
      `SELECT FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace AND proname ~ '_when'`,
    );
  expect([(await fixture.plan()).steps, (await functions()).length]).toEqual([[], 1]);
  await installationOf(fixture.database, {}).install();
  expect((await functions()).length).toBe(0);
  await fixture.install();
  await fixture.uninstall();
  expect(await fixture.database.query(`SELECT FROM pg_namespace WHERE nspname = 'postgres_input'`)).toEqual(
    [],
  );
});

test('a wide column that no filter names is not read', async () => {
  const { database, changes } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY, status text, wide text); ALTER TABLE t ALTER wide SET STORAGE EXTERNAL',
    { watch: { t: { changed: ['status'], when: 'after.status IS NOT NULL' } } },
  );
  await database.query(`INSERT INTO t VALUES (1, 'a', repeat('x', 1000000))`);
  const read = async () =>
    Number(
      (
        await database.query<{ n: string }>(`
      SELECT coalesce(sum(pg_stat_get_xact_blocks_fetched(c.reltoastrelid)), 0) AS n FROM pg_class c WHERE c.oid = 't'::regclass`)
      )[0]!.n,
    );
  await changes();
  await database.query('BEGIN');
  const before = await read();
  await database.query(`UPDATE t SET status = 'b'`);
  expect((await read()) - before).toBe(0);
  await database.query('COMMIT');
  expect(await changes()).toEqual(['UPDATE t 1']);
});

test('a node that joins does not filter what the active node wants; one that claims the lease does', async () => {
  const { database, changes } = await setupInstallation(`${T}; INSERT INTO t VALUES (1)`);
  const filtered = installationOf(database, {
    watch: { t: { changed: ['status'], when: "after.status = 'x'" } },
  });
  await filtered.install('joining');
  await database.query('UPDATE t SET n = 1');
  expect(await changes()).toEqual(['UPDATE t 1']);
  await filtered.install('claiming');
  await database.query('UPDATE t SET n = 2');
  expect(await changes()).toEqual([]);
  await installationOf(database).install('joining');
  await database.query('UPDATE t SET n = 3');
  expect(await changes()).toEqual(['UPDATE t 1']);
});

test.for([
  { rows: 'none' },
  { rows: 'after' },
  { rows: 'both', maxRowBytes: 1 },
  { rows: 'both', watch: { t: { columns: ['id'] } } },
  { rows: 'both', operations: ['update'] },
] as const)(
  'nodes that join with %j take nothing away from what the active node logs; one that claims the lease does',
  async (options) => {
    const { database, rows } = await setupInstallation(`${T}; INSERT INTO t VALUES (1, 'a')`, {
      rows: 'both',
    });
    const less = installationOf(database, options as WatchOptions);
    const write = async () => {
      await database.query(`UPDATE t SET status = 'b'; UPDATE t SET id = 2`);
      const logged = await rows();
      await database.query(`UPDATE t SET id = 1, status = 'a'`);
      await rows();
      return logged.map(({ op, id, before, after }) => [op, id, before, after]);
    };
    const all = [
      ['UPDATE', '1', '(1,a,,,)', '(1,b,,,)'],
      ['DELETE', '1', '(1,b,,,)', null],
      ['INSERT', '2', null, '(2,b,,,)'],
    ];
    for (let node = 1; node <= 3; node++) {
      await less.install('joining');
      expect(await write()).toEqual(all);
    }
    await less.install('claiming');
    const logged = await write();
    expect(logged).not.toEqual(all);
    await less.install('joining');
    expect(await write()).toEqual(logged);
  },
);

test('a statement that is evaluating a condition goes on when the condition is taken away', async () => {
  const { database, changes } = await setupInstallation(
    `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE wanted (id int);
     CREATE FUNCTION is_wanted(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
       PERFORM pg_advisory_xact_lock_shared(1);
       RETURN EXISTS (SELECT FROM public.wanted WHERE id = $1);
     END $$;
     INSERT INTO wanted VALUES (1), (3)`,
    { watch: { t: { when: 'public.is_wanted(after.id)' } } },
  );
  const holder = await database.client();
  await holder.query('SELECT pg_advisory_lock(1)');
  const writer = await database.client();
  const written = writer.query('INSERT INTO t VALUES (1), (2), (3)');
  await until(
    async () =>
      (
        await database.query(
          `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        )
      ).length > 0,
  );
  const next = installationOf(database, { watch: { t: {} } });
  await next.install();
  await holder.query('SELECT pg_advisory_unlock(1)');
  await written;
  expect(await changes()).toEqual(['INSERT t 1', 'INSERT t 3']);
  await next.install();
  expect((await next.plan()).steps).toEqual([]);
  expect(await database.query(`SELECT FROM pg_proc WHERE proname ~ '_when'`)).toEqual([]);
});

test('a condition stays as long as a trigger may need it that the role in use may not drop', async () => {
  const database = await setupApplication(
    'CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (id int PRIMARY KEY)',
  );
  const { role, url } = await createRole(database);
  await database.query(`
    GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON t TO ${role}; ALTER TABLE u OWNER TO ${role}`);
  await installationOf(database, { watch: { t: { when: 'after.n > 1' } } }, url).install();
  const next = installationOf(database, { watch: { u: {} } }, url);
  expect(await next.install()).toMatchObject({ unwatchable: [{ table: 't' }] });
  await database.query('INSERT INTO t VALUES (1, 1), (2, 2)');
  expect(await installationOf(database).changes()).toEqual(['INSERT t 2']);
});
