import { quoteIdentifier } from '../../src/postgres/quoting.ts';

/** Types that can be a key, and two values of each. */
export const KEYS: Record<string, [string, string]> = {
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
  oidvector: ['1 2 3', '0'],
  tid: ['(0,1)', '(4294967295,65535)'],
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

/** The table whose key is a column `k` of that type, quoted. */
export const keyTable = (type: string) => quoteIdentifier(`${type} key`);

/** A table for each of them. */
export const TABLES_WITH_KEYS = `
  CREATE EXTENSION citext;
  CREATE TABLE mood_table ();
  CREATE TYPE mood AS ENUM ('so so', 'it''s');
  CREATE DOMAIN positive AS numeric(5,1) CHECK (value > 0);
  CREATE DOMAIN dated AS date;
  CREATE TYPE pair AS (a int, b date);
  ${Object.keys(KEYS)
    .map((type) => `CREATE TABLE ${keyTable(type)} (k ${type} PRIMARY KEY, n int);`)
    .join('\n')}`;
