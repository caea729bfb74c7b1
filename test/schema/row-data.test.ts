/** What the trigger functions log of the rows themselves: text and shape, whatever becomes of the table and whoever writes. */
import { describe, expect, test } from 'vitest';
import type { TestDatabase } from '../support/database.ts';
import { majorVersion } from '../support/database.ts';
import {
  type LoggedRow,
  installationOf,
  setupApplication,
  setupInstallation,
} from '../support/setup-installation.ts';
import { shapeOf } from '../support/shapes.ts';

type Fixture = Awaited<ReturnType<typeof setupInstallation>>;

const byText = (a: unknown, b: unknown) => (String(a) < String(b) ? -1 : 1);
const summary = ({ op, id, before, after }: LoggedRow) => [op, id, before, after];
const summaries = async ({ rows }: Fixture) => (await rows()).map(summary);

const INT4 = 23;
const TEXT = 25;

describe('each operation has its sides', () => {
  const T = 'CREATE TABLE t (id int PRIMARY KEY, n text)';
  const work = (database: TestDatabase) =>
    database.query(`
      INSERT INTO t VALUES (1, 'a'), (2, 'b"c');
      UPDATE t SET n = 'x, y' WHERE id = 1;
      UPDATE t SET n = n || '!';
      UPDATE t SET id = 3 WHERE id = 2;
      DELETE FROM t WHERE id = 1`);

  test('with rows: both', async () => {
    const fixture = await setupInstallation(T, { rows: 'both' });
    await work(fixture.database);
    const logged = await fixture.rows();
    expect(logged.map(summary).slice(0, 3)).toEqual([
      ['INSERT', '1', null, '(1,a)'],
      ['INSERT', '2', null, '(2,"b""c")'],
      ['UPDATE', '1', '(1,a)', '(1,"x, y")'],
    ]);
    expect(logged.map(summary).slice(3, 5).toSorted(byText)).toEqual([
      ['UPDATE', '1', '(1,"x, y")', '(1,"x, y!")'],
      ['UPDATE', '2', '(2,"b""c")', '(2,"b""c!")'],
    ]);
    expect(logged.map(summary).slice(5)).toEqual([
      ['DELETE', '2', '(2,"b""c!")', null],
      ['INSERT', '3', null, '(3,"b""c!")'],
      ['DELETE', '1', '(1,"x, y!")', null],
    ]);
    for (const row of logged)
      expect(await shapeOf(fixture, row)).toEqual([
        ['id', INT4],
        ['n', TEXT],
      ]);
    expect(new Set(logged.map(({ shape }) => shape)).size).toBe(1);
  });

  test('with rows: after', async () => {
    const fixture = await setupInstallation(T, { rows: 'after' });
    await work(fixture.database);
    const logged = await fixture.rows();
    expect(logged.filter(({ before }) => before !== null)).toEqual([]);
    expect(
      logged.map(({ op, after, shape }) => [op, after !== null, shape !== null]).toSorted(byText),
    ).toEqual([
      ['DELETE', false, false],
      ['DELETE', false, false],
      ...[1, 2, 3].map(() => ['INSERT', true, true]),
      ...[1, 2, 3].map(() => ['UPDATE', true, true]),
    ]);
  });

  test('of an input for some operations only', async () => {
    const fixture = await setupInstallation(
      `${T}; INSERT INTO t SELECT i, 'n' FROM generate_series(1, 200) i`,
      {
        rows: 'both',
        operations: ['update'],
      },
    );
    await fixture.database.query(
      "UPDATE t SET id = CASE WHEN id % 2 = 0 THEN id + 1000 ELSE id END, n = 'm'",
    );
    const logged = await fixture.rows();
    expect(logged.length).toBe(200);
    // A new key without an old row is an update all the same, for an input that wants nothing else.
    for (const { id, before, after } of logged)
      expect([before, after]).toEqual([Number(id) > 1000 ? null : `(${id},n)`, `(${id},m)`]);
  });
});

describe('a packed row has the texts of its changes', () => {
  const T = 'CREATE TABLE t (id int PRIMARY KEY, n text)';

  test.for(['after', 'both'] as const)('with rows: %s', async (rows) => {
    const fixture = await setupInstallation(T, { rows });
    const { database } = fixture;
    await database.query(
      `INSERT INTO t SELECT i, 'it''s (' || i || ') "\\"' FROM generate_series(1, 1000) i`,
    );
    const text = (id: string, end = '') => `(${id},"it's (${id}) ""\\\\""${end}")`;
    const inserted = await fixture.rows();
    expect(inserted.length).toBe(1000);
    for (const { id, before, after } of inserted) expect([before, after]).toEqual([null, text(id)]);
    await database.query(`UPDATE t SET n = n || '+'`);
    const packed = await database.query<{ size: number; shapes: number }>(
      `SELECT size FROM ${fixture.names.logTable.sql}`,
    );
    expect(packed.map(({ size }) => size)).toEqual(Array.from({ length: 10 }, () => 100));
    const updated = await fixture.rows();
    for (const { id, before, after } of updated)
      expect([before, after]).toEqual([rows === 'both' ? text(id) : null, text(id, '+')]);
    await database.query(`DELETE FROM t`);
    for (const { id, before, after } of await fixture.rows())
      expect([before, after]).toEqual([rows === 'both' ? text(id, '+') : null, null]);
  });

  test('of 64 kB and a little more at most, and changes of long or omitted data have rows of their own', async () => {
    const fixture = await setupInstallation(T, { rows: 'after', maxRowBytes: 100_000 });
    await fixture.database
      .query(`INSERT INTO t SELECT i, repeat('x', CASE WHEN i = 30 THEN 70000 WHEN i = 60 THEN 200000 ELSE 1000 END)
      FROM generate_series(1, 1000) i`);
    const packed = await fixture.database.query<{ size: number; bytes: number; shape: string }>(
      `SELECT coalesce(size, 1) AS size, octet_length(after) AS bytes, shape FROM ${fixture.names.logTable.sql}`,
    );
    expect(packed.reduce((sum, { size }) => sum + size, 0)).toBe(1000);
    expect(Math.max(...packed.map(({ bytes }) => bytes))).toBeLessThan(72_000);
    expect(packed.filter(({ bytes }) => bytes > 70_000).map(({ size }) => size)).toEqual([1]);
    expect(packed.filter(({ shape }) => shape === 'too-large')).toEqual([
      { size: 1, bytes: null, shape: 'too-large' },
    ]);
    expect((await fixture.rows()).filter(({ after }) => after === null).map(({ id }) => id)).toEqual(['60']);
  });
});

describe('a row is printed as SELECT prints it', () => {
  const TYPES = `
    CREATE TYPE mood AS ENUM ('sad', 'very "happy"');
    CREATE TYPE pair AS (a int, b text, at timestamptz);
    CREATE DOMAIN few AS int[] CHECK (cardinality(VALUE) < 5);
    CREATE DOMAIN fewer AS few CHECK (cardinality(VALUE) < 4);
    CREATE TABLE "Odd ""table" ();
    CREATE TABLE t (
      id int PRIMARY KEY, "Column "" %s" text, absent text, empty text DEFAULT '', at timestamptz DEFAULT '2024-02-29 12:34:56.789+05',
      day date DEFAULT '2024-03-01', long interval DEFAULT '1 year 2 days 3.5 seconds', bytes bytea DEFAULT '\\x00ff5c', float float8 DEFAULT 0.1::float8 + 0.2,
      real float4 DEFAULT 1.1, price numeric DEFAULT 1.00, money money DEFAULT 1234.5, flag bool DEFAULT true, padded char(5) DEFAULT 'ab', doc json DEFAULT '{"a": [1 ]}',
      docb jsonb DEFAULT '{"a": [1]}', mood mood DEFAULT 'very "happy"', pair pair DEFAULT ROW(1, 'x,y', '2024-02-29 12:34:56+05'), few few DEFAULT '{1,2}', fewer fewer[] DEFAULT ARRAY['{3}'::fewer],
      span tstzrange DEFAULT '[2024-01-01,2024-02-01)', texts text[] DEFAULT '{"a b",NULL,"c\\"d"}', times timestamptz[] DEFAULT '{2024-01-01 00:00+00}',
      class regclass DEFAULT '"Odd ""table"', point point DEFAULT '(1,2)', bits varbit DEFAULT '101', net inet DEFAULT '10.0.0.1/8', c "char" DEFAULT 'x', lines text DEFAULT E'a\\n\\\\b', stored int GENERATED ALWAYS AS (id * 2) STORED)`;
  const HOSTILE = [
    `SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = -15;
     SET TimeZone = 'Asia/Kathmandu'; SET quote_all_identifiers = on`,
    `SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET extra_float_digits = 3; SET TimeZone = '+14'`,
    `CREATE SCHEMA evil; SET search_path = evil, pg_catalog, public;
     CREATE FUNCTION evil.concat(record) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'evil'; END $$;
     CREATE FUNCTION evil.octet_length(text) RETURNS int LANGUAGE sql AS $$ SELECT 1/0 $$`,
    `SET DateStyle = 'Postgres'; SET IntervalStyle = 'postgres_verbose'; SET search_path = ''; SET array_nulls = off; SET xmlbinary = hex;
     SET plan_cache_mode = force_generic_plan`,
  ];

  test.for(HOSTILE)('in a session with %s', async (settings) => {
    const fixture = await setupInstallation(TYPES, { rows: 'both' });
    const { database } = fixture;
    const client = await database.client();
    await client.query(settings);
    await client.query(`INSERT INTO public.t (id, "Column "" %s") VALUES (1, 'v')`);
    const reading = await database.client();
    await reading.query("SET TimeZone = 'UTC'; SET lc_monetary = 'C'; SET search_path = pg_catalog");
    const textOf = async (where: string) =>
      (await reading.query(`SELECT concat(t.*) AS text FROM public.t WHERE ${where}`)).rows.map(
        ({ text }) => text as string,
      );
    const [first] = await textOf('id = 1');
    expect(first!.length).toBeGreaterThan(300);
    await client.query(`UPDATE public.t SET texts[2] = 'B'`);
    const [second] = await textOf('id = 1');
    await client.query(`INSERT INTO public.t (id) SELECT generate_series(2, 200)`);
    const many = await textOf('id > 1 ORDER BY id');
    await client.query(`UPDATE public.t SET real = 2`);
    const updated = await textOf('true ORDER BY id');
    await client.query(`DELETE FROM public.t WHERE id = 1`);
    const logged = await fixture.rows();
    expect(logged.slice(0, 2).map(summary)).toEqual([
      ['INSERT', '1', null, first],
      ['UPDATE', '1', first, second],
    ]);
    expect(logged.slice(2, 201).map(({ after }) => after)).toEqual(many);
    const byId = logged.slice(201, 401).toSorted((a, b) => Number(a.id) - Number(b.id));
    expect(byId.map(({ before }) => before)).toEqual([second, ...many]);
    expect(byId.map(({ after }) => after)).toEqual(updated);
    expect(logged.slice(401).map(summary)).toEqual([['DELETE', '1', updated[0], null]]);
    // The types are those that a client is told of.
    const { fields } = await reading.query('SELECT * FROM public.t');
    expect(await shapeOf(fixture, logged[0]!)).toEqual(
      fields.map(({ name, dataTypeID }) => [name, dataTypeID]),
    );
  });

  test('of columns of one type, whose functions pin no more settings than the type needs', async () => {
    const fixture = await setupInstallation(TYPES);
    const { database } = fixture;
    const columns = await database.query<{ name: string; type: string; value: string | null }>(
      `SELECT attname AS name, format_type(atttypid, atttypmod) AS type, pg_get_expr(adbin, adrelid) AS value
       FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum WHERE attrelid = 't'::regclass AND attnum > 0 AND attgenerated = ''`,
    );
    for (const [i, { type, value }] of columns.entries())
      await database.query(`CREATE TABLE of_type_${i} (value ${type} DEFAULT ${value ?? 'NULL'})`);
    await installationOf(database, { rows: 'after' }).install();
    for (const settings of [HOSTILE[0]!, HOSTILE[1]!]) {
      const client = await database.client();
      const reading = await database.client();
      await client.query(settings);
      await reading.query("SET TimeZone = 'UTC'; SET lc_monetary = 'C'; SET search_path = pg_catalog");
      for (const i of columns.keys()) {
        await client.query(`TRUNCATE of_type_${i}`);
        await fixture.rows();
        await client.query(`INSERT INTO of_type_${i} DEFAULT VALUES`);
        const { rows } = await reading.query(`SELECT concat(t.*) AS text FROM public.of_type_${i} t`);
        const [{ after }] = (await fixture.rows()) as [LoggedRow];
        expect([columns[i]!.type, after]).toEqual([columns[i]!.type, rows[0].text]);
      }
    }
  });

  test('without virtual columns', async ({ skip }) => {
    const database = await setupApplication();
    if ((await majorVersion(database)) < 18) skip('there are none');
    const fixture = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, v int GENERATED ALWAYS AS (id * 2) VIRTUAL, s int GENERATED ALWAYS AS (id * 3) STORED)',
      { rows: 'both' },
    );
    await fixture.database.query(
      'INSERT INTO t VALUES (1); ALTER TABLE t ADD w int GENERATED ALWAYS AS (id) VIRTUAL; UPDATE t SET id = 1; DELETE FROM t',
    );
    expect(await summaries(fixture)).toEqual([
      ['INSERT', '1', null, '(1,3)'],
      ['UPDATE', '1', '(1,3)', '(1,3)'],
      ['DELETE', '1', '(1,3)', null],
    ]);
  });

  test.for([0, 1600])('of a table with %i columns', async (count) => {
    const columns = Array.from({ length: count }, (_, i) => `c${i} ${i % 3 === 0 ? 'text' : 'int'}`);
    const fixture = await setupInstallation(`CREATE TABLE t (${columns.join(', ')})`, { rows: 'both' });
    const { database } = fixture;
    await database.query(
      count === 0
        ? 'INSERT INTO t DEFAULT VALUES; DELETE FROM t'
        : `INSERT INTO t (c1) VALUES (7); UPDATE t SET c2 = 8; DELETE FROM t`,
    );
    const [inserted, ...rest] = await fixture.rows();
    const text = (...values: number[]) => `(${columns.map((_, i) => values[i - 1] ?? '').join(',')})`;
    expect(inserted!.after).toBe(text(7));
    expect(rest.map(({ before, after }) => [before, after])).toEqual(
      count === 0
        ? [['()', null]]
        : [
            [text(7), text(7, 8)],
            [text(7, 8), null],
          ],
    );
    expect((await shapeOf(fixture, inserted!))!.length).toBe(count);
    // A column more than fits the tuple, and one less.
    if (count === 0) return;
    await database.query('ALTER TABLE t DROP c5; INSERT INTO t (c1) VALUES (7)');
    const [changed] = await fixture.rows();
    expect(changed!.after).toBe(text(7).replace(',)', ')'));
  });

  test('of partitions whose columns stand in another order, and of the children of a table', async () => {
    const fixture = await setupInstallation(
      `CREATE TABLE p (id int, n text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
       CREATE TABLE p1 (junk int, n text, id int NOT NULL); ALTER TABLE p1 DROP junk; ALTER TABLE p ATTACH PARTITION p1 FOR VALUES FROM (0) TO (10);
       CREATE TABLE p2 PARTITION OF p DEFAULT;
       CREATE TABLE parent (id int PRIMARY KEY, n text); CREATE TABLE child (extra int) INHERITS (parent)`,
      { rows: 'both' },
    );
    const { database } = fixture;
    await database.query(`
      INSERT INTO p VALUES (1, 'a'); INSERT INTO p1 VALUES ('b', 2); UPDATE p SET id = 11 WHERE id = 1; UPDATE p1 SET n = 'c';
      INSERT INTO parent VALUES (1, 'a'); INSERT INTO child VALUES (1, 'b', 3); UPDATE parent SET n = n || '!'; DELETE FROM parent`);
    const logged = await fixture.rows();
    const named = await Promise.all(
      logged.map(async (row) => [
        row.tbl,
        ...summary(row).slice(0, 1),
        row.before,
        row.after,
        (await shapeOf(fixture, row))!.map(([name]) => name).join(),
      ]),
    );
    expect(named).toEqual([
      ['p', 'INSERT', null, '(1,a)', 'id,n'],
      ['p', 'INSERT', null, '(b,2)', 'n,id'],
      ['p', 'DELETE', '(1,a)', null, 'id,n'],
      ['p', 'INSERT', null, '(11,a)', 'id,n'],
      ['p', 'UPDATE', '(b,2)', '(c,2)', 'n,id'],
      ['parent', 'INSERT', null, '(1,a)', 'id,n'],
      ['child', 'INSERT', null, '(1,b,3)', 'id,n,extra'],
      ['parent', 'UPDATE', '(1,a)', '(1,a!)', 'id,n'],
      ['parent', 'UPDATE', '(1,b)', '(1,b!)', 'id,n'],
      ['parent', 'DELETE', '(1,a!)', null, 'id,n'],
      ['parent', 'DELETE', '(1,b!)', null, 'id,n'],
    ]);
  });
});

describe('an update finds the row as it was', () => {
  test('without a key, by the place of the row', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (n int, text text)', { rows: 'both' });
    const { database } = fixture;
    await database.query(`INSERT INTO t SELECT i, 'a' FROM generate_series(1, 300) i`);
    await fixture.rows();
    await database.query(
      `UPDATE t SET text = 'b'; UPDATE t SET text = 'c' WHERE n <= 20; UPDATE t SET n = 0 WHERE n = 1`,
    );
    const logged = await fixture.rows();
    expect(logged.length).toBe(321);
    const n = (text: string | null) => /\d+/.exec(text!)![0];
    for (const { before, after, op } of logged.slice(0, 320))
      expect([op, n(before)]).toEqual(['UPDATE', n(after)]);
    expect(summary(logged.at(-1)!)).toEqual(['UPDATE', '', '(1,c)', '(0,c)']);
  });

  test('not without a key, where a trigger has turned new rows away', async () => {
    const fixture = await setupInstallation(
      `CREATE TABLE p (n int, text text) PARTITION BY LIST (n); CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1, 2, 3); CREATE TABLE p2 PARTITION OF p DEFAULT;
       CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.text = 'b' THEN RETURN NULL; END IF; RETURN NEW; END $$;
       CREATE TRIGGER no BEFORE INSERT ON p2 FOR EACH ROW EXECUTE FUNCTION no();
       INSERT INTO p VALUES (1, 'a'), (2, 'b'), (3, 'c')`,
      { rows: 'both' },
    );
    await fixture.database.query('UPDATE p SET n = n + 10');
    expect(await summaries(fixture)).toEqual([
      ['UPDATE', '', null, '(11,a)'],
      ['UPDATE', '', null, '(13,c)'],
    ]);
  });

  test('when cascades change it twice: from its first state to its last', async () => {
    const fixture = await setupInstallation(
      `CREATE TABLE parent (a int UNIQUE, b int UNIQUE);
       CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES parent (a) ON UPDATE CASCADE, b int REFERENCES parent (b) ON UPDATE CASCADE);
       INSERT INTO parent SELECT i, i FROM generate_series(1, 200) i; INSERT INTO t SELECT i, i, i FROM generate_series(1, 200) i`,
      { rows: 'both' },
    );
    const { database } = fixture;
    for (const planning of ['', 'SET LOCAL enable_hashagg = off;', 'SET LOCAL work_mem = 64;']) {
      for (const condition of ['id = 1', 'id <= 20', 'true']) {
        await database.query(
          `BEGIN; ${planning} UPDATE parent SET a = a + 1000, b = b + 1000 ${condition.replace('id', 'WHERE a % 1000').replace('true', '')}; COMMIT`,
        );
        const logged = (await fixture.rows()).filter(({ tbl }) => tbl === 't');
        expect(logged.length).toBe({ 'id = 1': 1, 'id <= 20': 20, true: 200 }[condition]);
        for (const { op, id, before, after } of logged) {
          const [, oldA, oldB] = before!.slice(1, -1).split(',').map(Number);
          expect([op, after, oldA]).toEqual(['UPDATE', `(${id},${oldA! + 1000},${oldA! + 1000})`, oldB]);
        }
      }
    }
  });
});
