import { describe, expect, test } from 'vitest';
import { quoteIdentifier, quoteLiteral } from '../src/names.ts';
import type { TestDatabase } from './support/database.ts';
import { application, input, majorVersion, setup } from './support/watched.ts';

/** A type that can be a key, and two of its values. */
const KEYS: Record<string, [string, string]> = {
  smallint: ['-32768', '7'],
  integer: ['1000000', '-1'],
  bigint: ['9007199254740993', '-9223372036854775808'],
  numeric: ['1000000', '0.100'],
  'numeric(9,2)': ['1000000', '0.1'],
  real: ['0.1', '1e10'],
  'double precision': ['0.30000000000000004', '-Infinity'],
  money: ['1234.5', '-0.01'],
  text: ['it\'s a "text"\\ ☃', ''],
  'character varying(20)': ['tab\there', '100% {[,'],
  'character(5)': ['ab', 'naïve'],
  name: ['a name', 'x'],
  '"char"': ['c', 'd'],
  citext: ['MiXed', 'x'],
  bytea: ['\\x00ff27', '\\x'],
  boolean: ['true', 'false'],
  date: ['2026-01-31', '0044-03-15 BC'],
  time: ['23:59:59.999999', '00:00'],
  'time with time zone': ['12:00:00+05:30', '12:00:00-08'],
  timestamp: ['2026-01-31 12:34:56.7', 'infinity'],
  'timestamp with time zone': ['2026-01-31 23:34:56.7+00', '2026-07-31 12:00:00+02'],
  interval: ['1 year 2 months -3 days 04:05:06.789', '00:00:00'],
  uuid: ['A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '00000000-0000-0000-0000-000000000000'],
  inet: ['10.0.0.1', '10.0.0.1/24'],
  cidr: ['10.0.0.0/8', '2001:db8::/32'],
  macaddr: ['08:00:2b:01:02:03', '00-00-00-00-00-00'],
  macaddr8: ['08:00:2b:01:02:03:04:05', '08:00:2b:01:02:03'],
  'bit(4)': ['1010', '0000'],
  'bit varying': ['10101', ''],
  oid: ['4294967295', '0'],
  xid8: ['18446744073709551615', '3'],
  pg_lsn: ['16/B374D848', '0/0'],
  regclass: ['pg_class', 'mood_table'],
  jsonb: ['{"a":  [1, null], "b": "x"}', '"y"'],
  tsvector: ["a fat:2 'it''s'", ''],
  tsquery: ['fat & (rat | cat)', ''],
  int4range: ['[1,5]', 'empty'],
  numrange: ['(1.50,)', '[0,0]'],
  tstzrange: ['[2026-01-31 12:00+00,)', 'empty'],
  datemultirange: ['{[2026-01-01,2026-02-01)}', '{}'],
  'integer[]': ['{1,2,NULL}', '{}'],
  'timestamptz[]': ['{2026-01-31 12:00+00}', '{}'],
  mood: ['so so', "it's"],
  positive: ['5', '6'],
  dated: ['2026-01-31', '2026-02-01'],
  pair: ['(1,"2026-01-31")', '(2,)'],
};

const tableOf = (type: string) => quoteIdentifier(`${type} key`);

const APPLICATION = `
  CREATE EXTENSION citext;
  CREATE TABLE mood_table ();
  CREATE TYPE mood AS ENUM ('so so', 'it''s');
  CREATE DOMAIN positive AS numeric(5,1) CHECK (value > 0);
  CREATE DOMAIN dated AS date;
  CREATE TYPE pair AS (a int, b date);
  ${Object.keys(KEYS)
    .map((type) => `CREATE TABLE ${tableOf(type)} (k ${type} PRIMARY KEY, n int);`)
    .join('\n')}`;

/** What the roles, databases and sessions of applications set, and other settings that values are printed by. */
const WRITERS: Record<string, string> = {
  DateStyle: 'SQL, DMY',
  TimeZone: 'Asia/Kolkata',
  IntervalStyle: 'iso_8601',
  extra_float_digits: '-15',
  bytea_output: 'escape',
  quote_all_identifiers: 'on',
  standard_conforming_strings: 'off',
  backslash_quote: 'off',
  transform_null_equals: 'on',
  search_path: '',
  'plpgsql.extra_errors': 'all',
  'plpgsql.variable_conflict': 'error',
  client_encoding: 'LATIN9',
  row_security: 'off',
};

/** A value as psql prints it by PostgreSQL's defaults, in UTC, with the schema of what it may name. */
async function printed(database: TestDatabase, type: string): Promise<string[]> {
  const client = await database.client({ types: { getTypeParser: () => String } });
  await client.query("SET TimeZone = 'UTC'; SET search_path = pg_catalog");
  const { rows } = await client.query(`SELECT k FROM public.${tableOf(type)} ORDER BY n`);
  await client.end();
  return rows.map(({ k }) => k);
}

describe('the key of a row is logged as PostgreSQL prints it', () => {
  test('for every type, whatever the writer has set', async () => {
    const { database, rows } = await setup(APPLICATION);
    const plain = await database.client();
    const other = await database.client();
    for (const [name, value] of Object.entries(WRITERS))
      await other.query(`SELECT set_config($1, $2, false)`, [name, value]);

    for (const [type, values] of Object.entries(KEYS)) {
      const table = `public.${tableOf(type)}`;
      for (const [n, value] of values.entries())
        await plain.query(`INSERT INTO ${table} VALUES (${quoteLiteral(value)}, ${n})`);
      const ids = await printed(database, type);
      await other.query(`UPDATE ${table} SET n = n + 1; DELETE FROM ${table}`);
      const logged = await rows();
      const of = (op: string) => logged.filter((row) => row.op === op);
      for (const op of ['INSERT', 'UPDATE', 'DELETE']) {
        expect
          .soft(
            of(op)
              .map(({ id }) => id)
              .toSorted(),
            `${op} of ${type}`,
          )
          .toEqual(ids.toSorted());
        expect.soft(new Set(of(op).map(({ key }) => key)), type).toEqual(new Set(['k']));
      }
      expect.soft(logged, type).toHaveLength(6);
    }
  });

  test('as id, and as key only its columns, where the table has a column id besides', async () => {
    const { database, rows } = await setup(`
      CREATE TABLE only_id (id int, n int);
      CREATE TABLE two (id date, code int PRIMARY KEY);
      CREATE TABLE composite (b text, a int, id int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, b) INCLUDE (id));
      CREATE TABLE part_of_it (id bigint GENERATED ALWAYS AS IDENTITY, a bool, PRIMARY KEY (id, a));
      CREATE TABLE identity (id bigint GENERATED BY DEFAULT AS IDENTITY (START 1000000) PRIMARY KEY)`);
    await database.query(`
      SET DateStyle = German;
      INSERT INTO only_id VALUES (1), (NULL), (1);
      UPDATE only_id SET n = 1;
      INSERT INTO two VALUES ('2026-01-31', 7), (NULL, 8);
      INSERT INTO composite VALUES ('x', 1);
      INSERT INTO part_of_it (a) VALUES (true);
      INSERT INTO identity DEFAULT VALUES;
      RESET DateStyle`);
    expect((await rows()).map(({ tbl, id, key }) => [tbl, id, key])).toEqual([
      ...['1', '', '1', '1', '', '1'].map((id) => ['only_id', id, null]),
      ['two', '2026-01-31', { code: '7' }],
      ['two', '', { code: '8' }],
      ['composite', '2', { a: '1', b: 'x' }],
      ['part_of_it', '1', { id: '1', a: 't' }],
      ['identity', '1000000', 'id'],
    ]);
  });

  test('as a JSON array of its values in the order of the key, if it has several and there is no column id', async () => {
    const { database, rows } = await setup(`
      CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
      CREATE TABLE t (c text COLLATE loose, b text COLLATE "C", a numeric, d text, PRIMARY KEY (d, a, b, c));
      CREATE TABLE no_key (n int)`);
    await database.query(`INSERT INTO t VALUES ('C"', ',', 1.0, '')`);
    await database.query(`UPDATE t SET c = 'c'`);
    await database.query('INSERT INTO no_key VALUES (1); DELETE FROM no_key');
    const before = { d: '', a: '1.0', b: ',', c: 'C"' };
    expect((await rows()).map(({ op, tbl, id, key }) => [op, tbl, id, key])).toEqual([
      ['INSERT', 't', '["","1.0",",","C\\""]', before],
      ['DELETE', 't', '["","1.0",",","C\\""]', before],
      ['INSERT', 't', '["","1.0",",","c"]', { ...before, c: 'c' }],
      ['INSERT', 'no_key', '', null],
      ['DELETE', 'no_key', '', null],
    ]);
  });

  test('with a period in it, without overlaps', async ({ skip }) => {
    const { database, rows } = await setup('CREATE EXTENSION btree_gist');
    if ((await majorVersion(database)) < 18) skip('there are no such keys');
    await database.query(
      'CREATE TABLE room (number int, during daterange, n int, PRIMARY KEY (number, during WITHOUT OVERLAPS))',
    );
    await input(database).install();
    await database.query(`INSERT INTO room VALUES (1, '[2026-01-01,2026-01-05]'); UPDATE room SET n = 1`);
    const key = { number: '1', during: '[2026-01-01,2026-01-06)' };
    expect(await rows()).toMatchObject([
      { op: 'INSERT', id: '["1","[2026-01-01,2026-01-06)"]', key },
      { op: 'UPDATE', key },
    ]);
  });

  test('without a column id that is computed at every reading', async ({ skip }) => {
    const { database, rows } = await setup('');
    if ((await majorVersion(database)) < 18) skip('there are no such columns');
    await database.query(`
      CREATE TABLE t (code int PRIMARY KEY, id int GENERATED ALWAYS AS (code * 2) VIRTUAL)`);
    await input(database).install();
    await database.query('INSERT INTO t VALUES (1); UPDATE t SET code = 2; DELETE FROM t');
    expect((await rows()).map(({ op, id, key }) => [op, id, key])).toEqual([
      ['INSERT', '1', 'code'],
      ['DELETE', '1', 'code'],
      ['INSERT', '2', 'code'],
      ['DELETE', '2', 'code'],
    ]);
  });
});

/** Names that go wrong unless they are quoted. */
const QUOTED = [
  'Order',
  'two words',
  'a-b',
  'a.b',
  'a"b',
  "it's",
  '"',
  "'",
  ' ',
  'select',
  'user',
  '100%',
  '%s',
  '%1$s',
  '%%',
  '$1',
  '$body$',
  '$$',
  'back\\slash',
  "'; DROP TABLE t; --",
  '*/ --',
  'tab\tand\nnewline',
  '{"tbl":1}',
  '€',
  'naïve ☃ 表 😀',
  'x'.repeat(63),
  'é'.repeat(31),
];

/** Names that trigger functions use themselves. */
const OUR_OWN =
  `new_rows old_rows r c l s relation change location asleep body payload written_at now_known last_op seq
  at tbl op key match step tg_op log`.split(/\s+/);
const HOSTILE = [...QUOTED, ...OUR_OWN];

describe('whatever it is called', () => {
  test('a table, its schema and its key', async () => {
    const { database, rows } = await setup(
      HOSTILE.map((name) => {
        const quoted = quoteIdentifier(name);
        return `
          CREATE SCHEMA ${quoted};
          CREATE TABLE ${quoted}.${quoted} (${quoted} text PRIMARY KEY, id2 int);
          CREATE TABLE public.${quoted} (${quoted} text PRIMARY KEY, id2 int);`;
      }).join(''),
      { schemas: ['public', ...HOSTILE.filter((name) => name.trim())] },
    );
    for (const name of HOSTILE) {
      const quoted = quoteIdentifier(name);
      for (const schema of name.trim() ? ['public', quoted] : ['public']) {
        const table = `${schema}.${quoted}`;
        const location = schema === 'public' ? name : `${name}.${name}`;
        await database.query(`INSERT INTO ${table} VALUES (${quoteLiteral(name)})`);
        await database.query(`UPDATE ${table} SET id2 = 1`);
        await database.query(`UPDATE ${table} SET ${quoted} = ''`);
        await database.query(`DELETE FROM ${table}`);
        await database.query(`TRUNCATE ${table}`);
        const change = (op: string, id: string) => ({ op, tbl: location, id, key: name });
        expect
          .soft(await rows(), name)
          .toMatchObject([
            change('INSERT', name),
            change('UPDATE', name),
            change('DELETE', name),
            change('INSERT', ''),
            change('DELETE', ''),
            { op: 'TRUNCATE', tbl: location, id: '*', key: null },
          ]);
      }
    }
  });

  test('all columns of one key', async () => {
    const columns = OUR_OWN;
    const quoted = columns.map(quoteIdentifier);
    const { database, rows } = await setup(`
      CREATE TABLE t (${quoted.map((name) => `${name} text`).join()}, PRIMARY KEY (${quoted.join()}))`);
    await database.query(`INSERT INTO t VALUES (${columns.map(quoteLiteral).join()})`);
    await database.query('ALTER TABLE t RENAME location TO renamed; UPDATE t SET step = NULL WHERE false');
    await database.query(`UPDATE t SET step = ''`);
    const key = Object.fromEntries(columns.map((name) => [name, name]));
    const { location, ...others } = key;
    expect(await rows()).toMatchObject([
      { op: 'INSERT', id: JSON.stringify(columns), key },
      { op: 'DELETE', id: JSON.stringify(columns), key: { ...others, renamed: location } },
      { op: 'INSERT', key: { ...others, renamed: location, step: '' } },
    ]);
  });

  test('the input', async () => {
    // With 'a-b', which is a_b, and the tables b_c and c, everything that is not told apart is a_b_c.
    const names = [
      'a',
      'a-b',
      'a"b',
      "it's",
      'two words',
      '%1$s',
      '$body$',
      'back\\slash',
      "'; DROP TABLE c; --",
      'ñ☃',
    ];
    names.push('x'.repeat(200), 'x'.repeat(201), '😀'.repeat(50));
    const { database } = await setup(
      'CREATE TABLE b_c (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)',
    );
    const inputs = names.map((name) => input(database, { name }));
    for (const each of inputs)
      expect.soft(await each.install()).toEqual({ watched: ['b_c', 'c'], unwatchable: [], pending: [] });
    await database.query('INSERT INTO b_c VALUES (1); UPDATE c SET id = 1; TRUNCATE c');
    for (const [i, { changes }] of inputs.entries())
      expect.soft(await changes(), names[i]).toEqual(['INSERT b_c 1', 'TRUNCATE c *']);
    for (const each of inputs) await each.uninstall();
    await database.query('INSERT INTO b_c VALUES (2)');
  });
});

describe('watches', () => {
  test('ordinary and partitioned tables of the chosen schemas, and nothing else', async () => {
    const database = await application(`
      CREATE SCHEMA app; CREATE SCHEMA "Other Schema"; CREATE SCHEMA unwatched;
      CREATE TABLE t (id int PRIMARY KEY);
      CREATE UNLOGGED TABLE fast (id int PRIMARY KEY);
      CREATE TABLE app.t (id int PRIMARY KEY);
      CREATE TABLE "Other Schema".t (id int PRIMARY KEY);
      CREATE TABLE unwatched.t (id int PRIMARY KEY);
      CREATE VIEW v AS SELECT * FROM t;
      CREATE MATERIALIZED VIEW m AS SELECT * FROM t;
      CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
      CREATE FOREIGN TABLE f (id int) SERVER files OPTIONS (filename '/dev/null');
      CREATE TEMPORARY TABLE passing (id int PRIMARY KEY);
      CREATE TABLE secret_postgres_input_other (id int PRIMARY KEY)`);
    const { install, changes } = input(database, { schemas: ['public', 'app', 'Other Schema', 'missing'] });
    expect(await install()).toEqual({
      watched: ['Other Schema.t', 'app.t', 'fast', 't'],
      unwatchable: [],
      pending: [],
    });
    await database.query(
      'INSERT INTO app.t VALUES (1); INSERT INTO unwatched.t VALUES (1); INSERT INTO "Other Schema".t VALUES (1)',
    );
    await database.query('INSERT INTO fast VALUES (1); REFRESH MATERIALIZED VIEW m; SELECT * FROM f');
    expect(await changes()).toEqual(['INSERT app.t 1', 'INSERT Other Schema.t 1', 'INSERT fast 1']);
  });

  test('what is written through views and rules', async () => {
    const { database, changes } = await setup(`
      CREATE TABLE t (id int PRIMARY KEY, n int);
      CREATE TABLE copy (id int PRIMARY KEY);
      CREATE RULE copy AS ON INSERT TO t DO ALSO INSERT INTO copy VALUES (new.id);
      CREATE RULE keep AS ON DELETE TO copy DO INSTEAD NOTHING;
      CREATE VIEW plain AS SELECT * FROM t;
      CREATE VIEW joined AS SELECT t.id, n FROM t JOIN copy USING (id);
      CREATE FUNCTION redirect() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN UPDATE t SET n = new.n WHERE id = new.id; RETURN new; END $$;
      CREATE TRIGGER redirect INSTEAD OF UPDATE ON joined FOR EACH ROW EXECUTE FUNCTION redirect()`);
    await database.query(
      'INSERT INTO plain VALUES (1); UPDATE joined SET n = 1; DELETE FROM copy; DELETE FROM plain',
    );
    expect(await changes()).toEqual(['INSERT t 1', 'INSERT copy 1', 'UPDATE t 1', 'DELETE t 1']);
  });

  test.each([
    [{}, ['app.items', 'app.orders', 'log', 'orders', 'o_ders']],
    [{ include: ['orders'] }, ['app.orders', 'orders']],
    [{ include: ['public.orders'] }, ['orders']],
    [{ include: ['app.*'], exclude: ['items'] }, ['app.orders']],
    [{ include: ['o?ders'] }, ['app.orders', 'orders', 'o_ders']],
    [{ include: ['o_ders', '%'] }, ['o_ders']],
    [{ exclude: ['*orders', 'l*'] }, ['app.items', 'o_ders']],
    [{ exclude: ['*'] }, []],
  ])('of the tables, those that %j lets pass', async (tables, expected) => {
    const database = await application(`
      CREATE SCHEMA app;
      CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE o_ders (id int PRIMARY KEY);
      CREATE TABLE log (id int PRIMARY KEY);
      CREATE TABLE app.orders (id int, day date) PARTITION BY RANGE (day);
      CREATE TABLE app.later PARTITION OF app.orders DEFAULT;
      CREATE TABLE app.items (id int PRIMARY KEY)`);
    const { watched } = await input(database, { schemas: ['public', 'app'], tables }).plan();
    expect(watched.toSorted()).toEqual(expected.toSorted());
  });

  test('a partition where its root is watched, in whichever schema it lies', async () => {
    const { database, changes } = await setup(`
      CREATE SCHEMA parts;
      CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE parts.t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
      CREATE TABLE parts.elsewhere (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE here PARTITION OF parts.elsewhere DEFAULT`);
    await database.query(
      'INSERT INTO t VALUES (1); INSERT INTO parts.t1 VALUES (2); TRUNCATE t; INSERT INTO here VALUES (1)',
    );
    expect(await changes()).toEqual(['INSERT t 1', 'INSERT t 2', 'TRUNCATE t *']);
  });

  test('also where the internal objects are', async () => {
    const { database, changes, install, uninstall } = await setup('CREATE TABLE t (id int PRIMARY KEY)', {
      internalSchema: 'public',
    });
    await database.query('INSERT INTO t VALUES (1)');
    expect(await changes()).toEqual(['INSERT t 1']);
    expect((await install()).watched).toEqual(['t']);
    await uninstall();
    expect(
      await database.query(
        `SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1`,
      ),
    ).toEqual([{ relname: 't' }, { relname: 't_pkey' }]);
  });

  test('no table of which a foreign table is a part, and says so: it could not be written to', async () => {
    const database = await application(`
      CREATE EXTENSION postgres_fdw;
      CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'replaced');
      DO $$ BEGIN
        EXECUTE format('ALTER SERVER self OPTIONS (SET dbname %L, ADD port %L, ADD host %L)', current_database(),
          current_setting('port'), split_part(current_setting('unix_socket_directories'), ',', 1));
        EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user %L)', current_user);
      END $$;
      CREATE SCHEMA away; CREATE TABLE away.remote (id int, n int);
      CREATE TABLE ordinary (id int PRIMARY KEY);
      CREATE TABLE t (id int, n int) PARTITION BY RANGE (id);
      CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);
      CREATE TABLE parent (id int PRIMARY KEY, n int);
      CREATE FOREIGN TABLE child () INHERITS (parent) SERVER self OPTIONS (schema_name 'away', table_name 'remote')`);
    const { install, plan, changes } = input(database);
    expect(await install()).toMatchObject({ watched: ['ordinary', 't'], unwatchable: [{ table: 'parent' }] });
    await database.query(`
      CREATE FOREIGN TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20) SERVER self
        OPTIONS (schema_name 'away', table_name 'remote')`);
    const { unwatchable } = await install();
    expect(unwatchable.map(({ table }) => table)).toEqual(['parent', 't']);
    expect(unwatchable[0]!.reason).toContain('foreign table');
    // What there was of triggers and functions is gone, and with it what would refuse the foreign rows.
    expect((await plan()).steps).toEqual([]);
    await database.query(
      'INSERT INTO t VALUES (1), (11); UPDATE t SET n = 1; UPDATE parent SET n = 1; DELETE FROM t',
    );
    await database.query('INSERT INTO ordinary VALUES (1); INSERT INTO t1 VALUES (2)');
    expect(await changes()).toEqual(['INSERT ordinary 1', 'INSERT t 2']);
  });
});
