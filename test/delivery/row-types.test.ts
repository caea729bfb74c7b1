/** What the decoder makes of a row is what node-postgres makes of the same row in a SELECT, for every type that a column can have. */
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { expect, test } from 'vitest';
import type { TypeParsers } from '../../src/api/options.ts';
import { Change } from '../../src/capture/change.ts';
import { RowDecoder } from '../../src/delivery/row-decoder.ts';
import { createDatabase, type TestDatabase } from '../support/database.ts';

const SCHEMA = `
CREATE TYPE mood AS ENUM ('sad', 'very, "happy"', '');
CREATE DOMAIN short AS varchar(20) CHECK (VALUE <> 'forbidden');
CREATE DOMAIN shorter AS short;
CREATE DOMAIN numbers AS integer[];
CREATE TYPE pair AS (a integer, b text, c timestamptz);
CREATE TYPE nested AS (p pair, list pair[], at timestamptz[]);
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TABLE public.rows (id integer, name text);`;

/** Of these, each type gets the ones that it accepts, alone and in arrays. */
const LITERALS = [
  '',
  ' ',
  'a',
  'A "quoted", (odd) \\ text',
  'é😀\n	',
  'null',
  'YES',
  'NULL',
  '{}',
  '[]',
  '()',
  '"',
  "'",
  '\\x00ff',
  '0',
  '1',
  '-1',
  '32767',
  '2147483647',
  '9223372036854775807',
  '1.50',
  'NaN',
  'Infinity',
  '-1.2e-30',
  '$1,234.50',
  '0/1',
  '10101',
  't',
  '2026-01-31',
  '2026-01-31 12:00:00.123456+02',
  '0044-03-15 BC',
  'infinity',
  '-infinity',
  '23:59:59.5',
  '12:00:00+05:30',
  '1 year 2 mons -3 days 04:05:06.7',
  '00:00:00',
  '{"a": [1, null, "x\\"y"]}',
  '[1, "a"]',
  '<a b="c">text</a>',
  '$.a[*]',
  '00000000-0000-4000-8000-000000000000',
  '(1,2)',
  '((1,2),(3,4))',
  '[(1,2),(3,4)]',
  '{1,2,3}',
  '<(1,2),3>',
  '((0,0),(1,1),(2,0))',
  '(0,1)',
  '192.168.0.1',
  '10.0.0.0/8',
  '::1/128',
  '08:00:2b:01:02:03',
  '08:00:2b:01:02:03:04:05',
  "'cat':1 & 'dog'",
  "'a b':1A 'c':2",
  '(0,42)',
  '1:10:3,5',
  '10:20:10,14,15',
  'postgres=arwdDxt/postgres',
  'pg_class',
  'int4',
  'pg_backend_pid()',
  'pg_backend_pid',
  '+',
  '+(integer,integer)',
  'english',
  'simple',
  'public',
  'postgres',
  '"default"',
  '[1,5)',
  '(,)',
  'empty',
  '["2026-01-01","2026-02-01")',
  '{[1,3),[7,9)}',
  '{["2026-01-01","2026-02-01"]}',
  'sad',
  'very, "happy"',
  '(1,"a ""b"", c","2026-01-31 12:00:00+00")',
  '(,,)',
  '("(1,x,)","{""(2,\\\\""y\\\\"",)""}",{})',
  '{NULL,a,"b c","\\"",""}',
  '{{1,2},{3,4}}',
  '[0:1]={5,6}',
  '{2026-01-31}',
  '{"(1,,)",NULL}',
  '{t,f,NULL}',
];

/** They have no input: nobody can store one by himself. */
const WITHOUT_INPUT =
  /^_?(pg_node_tree|pg_ndistinct|pg_dependencies|pg_mcv_list|pg_brin_\w+_summary|gtsvector|ghstore|ltree_gist)$/;

const PRINTING = `SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; SET bytea_output = hex; SET extra_float_digits = 1;
  SET lc_monetary = 'C'; SET quote_all_identifiers = off`;

interface ColumnType {
  readonly name: string;
  readonly plain: string;
  /** The oid that a SELECT tells for a column of this type. */
  readonly base: number;
  readonly accepted: string[];
}

async function typesOf(database: TestDatabase): Promise<ColumnType[]> {
  for (const extension of ['hstore', 'citext', 'ltree', 'cube'])
    await database.query(`CREATE EXTENSION IF NOT EXISTS ${extension}`).catch(() => {});
  await database.query(`
    CREATE FUNCTION accepts(type text, literal text) RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
      EXECUTE format('SELECT concat(ROW(%L::%s))', literal, type);
      RETURN true;
    EXCEPTION WHEN OTHERS THEN RETURN false;
    END $$`);
  return database.query<ColumnType>(
    `
    WITH RECURSIVE base AS (
      SELECT oid, oid AS base FROM pg_type WHERE typtype <> 'd'
      UNION ALL SELECT t.oid, base.base FROM pg_type t JOIN base ON t.typbasetype = base.oid WHERE t.typtype = 'd'
    )
    SELECT format_type(t.oid, NULL) AS name, t.typname AS plain, base.base::int,
      ARRAY(SELECT literal FROM unnest($1::text[]) literal WHERE accepts(format_type(t.oid, NULL), literal)) AS accepted
    FROM pg_type t JOIN base USING (oid) LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
    WHERE t.typtype <> 'p' AND coalesce(e.typtype, '') <> 'p' AND t.typisdefined
      AND NOT EXISTS (
        SELECT FROM pg_class c WHERE c.oid IN (t.typrelid, e.typrelid) AND c.relnamespace <> 'public'::regnamespace
      )
    ORDER BY t.oid`,
    [LITERALS],
  );
}

test.each<[string, TypeParsers]>([
  ['of node-postgres', pg.types],
  ['of the user', { getTypeParser: (oid) => (text) => [oid, text] }],
])('every type is decoded as a SELECT has it, by the parsers %s', async (_, types) => {
  const database = await createDatabase();
  await database.query(SCHEMA);
  const printing = await database.client();
  await printing.query(PRINTING);
  // Texts depend on the session that prints them: the user's parsers see the same ones if the session has the same settings.
  const reading = await database.client({ types: types as typeof pg.types });
  if (types !== pg.types) await reading.query(PRINTING);
  const decoder = new RowDecoder(types);
  const all = await typesOf(database);
  const differing: unknown[] = [];
  for (const { name, base, accepted } of all) {
    const values = [
      ...accepted.map((literal) => `(${pg.escapeLiteral(literal)}::${name})`),
      `(NULL::${name})`,
    ];
    const from = `FROM (VALUES ${values.join(', ')}) v (c)`;
    const { rows: expected } = await reading.query(`SELECT c, 'a,"b' AS t, c AS again ${from}`);
    const { rows: printed } = await printing.query(`SELECT concat(ROW(c, 'a,"b', c)) AS row ${from}`);
    for (const [n, { row }] of printed.entries()) {
      const details = { before: null, after: row as string, shape: 's', origin: null, context: null };
      const change = new Change('1', 't', 'create', '1', null, null, null, '', details);
      change.shape = [
        ['c', base],
        ['t', 25],
        ['again', base],
      ];
      const { after } = decoder.decode(change);
      if (!isDeepStrictEqual(after, expected[n])) differing.push({ name, row, after, expected: expected[n] });
    }
  }
  expect(differing).toEqual([]);
  const untried = all.filter(({ accepted, plain }) => accepted.length === 0 && !WITHOUT_INPUT.test(plain));
  expect(untried.map(({ name }) => name)).toEqual([]);
  expect(all.length).toBeGreaterThan(150);
});
