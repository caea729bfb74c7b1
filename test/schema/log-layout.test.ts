import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type Details,
  type Key,
  type LogRow,
  PACK,
  READ_COLUMNS,
  STRIDE,
  Unpacker,
  detailsOf,
  insertPacked,
  insertSingle,
  lastSequenceOfRow,
  logColumns,
  parseSequence,
  sequenceOfRow,
  stampOf,
  unpacked,
  writtenRow,
  writtenRowSql,
} from '../../src/schema/log-layout.ts';
import { setupApplication } from '../support/setup-installation.ts';

type Made = [
  seq: string,
  at: string,
  tbl: string,
  id: string,
  op: string,
  key: Key,
  xid: string,
  stamp: string,
];
type PlainRow = LogRow extends [...infer Row, unknown] ? Row : never;

/** Unpacks rows that have no details. */
const unpack = (...rows: (PlainRow | LogRow)[]): Made[] => {
  const unpacker = new Unpacker<Made>((...made) => made.slice(0, 8) as Made);
  const made: Made[] = [];
  for (const row of rows) unpacker.unpack([...(row.slice(0, 8) as PlainRow), null], made);
  return made;
};

const AT = '2026-01-31 12:00:00.5+00';
const ISO = '2026-01-31T12:00:00.5Z';
const STAMP = '1769860800500000';
/** The highest number of a row whose changes all have sequences that a bigint can hold. */
const MAX_ROW = (2n ** 63n - 1n) / BigInt(STRIDE) - 1n;

describe('without a server', () => {
  test('the sequence of a change says which row was written with it', () => {
    const place = fc.oneof(fc.constantFrom(0, 1, PACK, STRIDE - 1), fc.integer({ min: 0, max: STRIDE - 1 }));
    fc.assert(
      fc.property(fc.bigInt({ min: 1n, max: MAX_ROW }), place, (n, i) => {
        const row = n * BigInt(STRIDE);
        expect(writtenRow(String(row + BigInt(i)))).toBe(String(row));
      }),
    );
  });

  test('a public sequence tells the number and the time, those of version 1 the number alone', () => {
    const time = fc.integer({ min: 0, max: Date.parse('2200-01-01') });
    fc.assert(
      fc.property(
        fc.bigInt({ min: BigInt(STRIDE), max: 2n ** 63n - 1n }),
        time,
        fc.integer({ min: 0, max: 999 }),
        (seq, ms, micros) => {
          const at = new Date(ms).toISOString().replace('Z', `${String(micros).padStart(3, '0')}Z`);
          expect(parseSequence(`${seq}${stampOf(at)}`)).toEqual({ seq: String(seq), at });
          expect(parseSequence(String(seq))).toEqual({ seq: String(seq), at: null });
        },
      ),
    );
    expect(stampOf('2026-01-31T12:00:00Z')).toBe('1769860800000000');
    expect(stampOf(ISO)).toBe(STAMP);
  });

  test.each([1000, 1000n, null, undefined, '', '0', 'x', '-1', '1e3', '9223372036854775808', '١', {}])(
    '%s is no public sequence',
    (value) => expect(parseSequence(value)).toBeNull(),
  );

  test('a single row is one change, which has the sequence of the row', () => {
    expect(unpack(['5000', AT, 't', '7', 'INSERT', '"id" ', null, '757'])).toEqual([
      ['5000', ISO, 't', '7', 'INSERT', 'id', '757', STAMP],
    ]);
    // A change that version 1 logged.
    expect(unpack(['5000', AT, 't', '7', 'INSERT', '"id"', null, '757'])).toEqual([
      ['5000', ISO, 't', '7', 'INSERT', 'id', '757', ''],
    ]);
    expect(unpack(['5000', AT, 't', '7', 'INSERT', null, null, '757'])).toEqual([
      ['5000', ISO, 't', '7', 'INSERT', null, '757', ''],
    ]);
    expect(unpack(['5001', AT, 't', '[]', 'UPDATE', '{"a":"1","b":"[2]"} ', null, '757'])).toEqual([
      ['5001', ISO, 't', '[]', 'UPDATE', { a: '1', b: '[2]' }, '757', STAMP],
    ]);
    expect(unpack(['6000', AT, 't', '', 'DELETE', 'null ', null, '757'])).toEqual([
      ['6000', ISO, 't', '', 'DELETE', null, '757', STAMP],
    ]);
  });

  test('a packed row is many changes, which have the sequences after it, and a key each or one together', () => {
    const ids = '["1","\\"","[3]"]';
    expect(unpack([`${2n ** 53n}`, AT, 't', ids, 'INSERT', '"[id" ', 3, '757'])).toEqual([
      ['9007199254740993', ISO, 't', '1', 'INSERT', '[id', '757', STAMP],
      ['9007199254740994', ISO, 't', '"', 'INSERT', '[id', '757', STAMP],
      ['9007199254740995', ISO, 't', '[3]', 'INSERT', '[id', '757', STAMP],
    ]);
    expect(unpack(['1000', AT, 't', '["1","2"]', 'DELETE', '[{"a":"x"},{"a":"y"}] ', 2, '757'])).toEqual([
      ['1001', ISO, 't', '1', 'DELETE', { a: 'x' }, '757', STAMP],
      ['1002', ISO, 't', '2', 'DELETE', { a: 'y' }, '757', STAMP],
    ]);
    expect(unpack(['1000', AT, 't', '["",""]', 'DELETE', 'null ', 2, '757'])).toEqual([
      ['1001', ISO, 't', '', 'DELETE', null, '757', STAMP],
      ['1002', ISO, 't', '', 'DELETE', null, '757', STAMP],
    ]);
  });
});

describe('SQL and TypeScript agree', () => {
  const log = { name: 'log', sql: '"log"' };

  /** A log without the rest of an input. */
  async function createLog() {
    const database = await setupApplication();
    const client = await database.client({ types: { getTypeParser: () => String } });
    await client.query(
      `SET TimeZone = 'UTC'; CREATE SEQUENCE "numbers"; CREATE TABLE "log" (${logColumns({ name: 'numbers', sql: '"numbers"' })})`,
    );
    const read = async (from = '"log"') => {
      const columns = READ_COLUMNS.map((column) => (column === 'details' ? detailsOf('log') : column));
      const text = `SELECT ${columns.join(', ')} FROM ${from} log ORDER BY seq`;
      return (await client.query({ text, rowMode: 'array' })).rows as LogRow[];
    };
    return { client, read };
  }

  test('on sequences', async () => {
    const { client } = await createLog();
    const sequences = [1000n, 1001n, 1099n, 1999n, 2000n, 2n ** 53n + 1n, 2n ** 63n - 1n].map(String);
    const { rows } = await client.query(
      `SELECT seq::text, (${writtenRowSql('seq')})::text AS written FROM unnest($1::bigint[]) seq`,
      [sequences],
    );
    expect(rows).toEqual(sequences.map((seq) => ({ seq, written: writtenRow(seq) })));
    const [first] = (
      await client.query(`SELECT (${sequenceOfRow('7')})::text, (${lastSequenceOfRow('7')})::text AS last`)
    ).rows;
    expect([writtenRow(first.last), String(BigInt(first.last) + 1n)]).toEqual([
      String(7 * STRIDE),
      String(8 * STRIDE),
    ]);
  });

  test.each([
    ['the name of a column', `'"[id"'`],
    ['objects', `json_build_object('[', text, 'n', i::text)::text`],
    ['nothing', 'NULL::text'],
    ['a name for some, nothing for the others', `CASE WHEN i % 2 = 0 THEN '"id"' END`],
  ])('on packed rows whose keys are %s', async (_, key) => {
    const { client, read } = await createLog();
    const texts = ['', '"', '\\', '[]', '[1]', '{}', ',', '\n', '\u2028', '\u{1F600}', "'", 'null'];
    const changes = `
      SELECT text AS id, CASE WHEN i > 150 THEN 'DELETE' ELSE 'UPDATE' END AS op, ${key} AS key
      FROM generate_series(1, 230) i, LATERAL (SELECT coalesce(($1::text[])[i], i::text) AS text) t`;
    const source = { at: `'${AT}'::timestamptz`, tbl: `'t'` };
    const told = (made: Made[]) =>
      made.map(([, ...columns]) => JSON.stringify(columns.slice(0, -2))).toSorted();

    await client.query(
      `${insertSingle(log, { ...source, id: 'c.id', op: 'c.op', key: 'c.key' })} FROM (${changes}) c`,
      [texts],
    );
    const singles = unpack(...(await read()));
    expect(singles).toHaveLength(230);
    await client.query('TRUNCATE log');
    await client.query(insertPacked(log, source, changes, { isLong: `c.id = '99'`, order: 'c.op' }), [texts]);
    const rows = await read();
    expect(rows.length).toBeLessThan(15);
    expect(rows.filter(([, , , id]) => id === '99')).toMatchObject([{ 6: null }]);
    const made = unpack(...rows);
    expect(told(made)).toEqual(told(singles));
    expect(new Set(made.map(([seq]) => seq)).size).toBe(230);

    // What SQL unpacks is the same change by change, sequences included.
    const putBack = await read(`(SELECT *, NULL AS size FROM (${unpacked('log')}) u)`);
    expect(unpack(...putBack)).toEqual(made.filter(([seq]) => writtenRow(seq) !== seq));
  });

  test('on the rows of packed changes, whatever they hold', async () => {
    const { client, read } = await createLog();
    await client.query('CREATE TYPE public.item AS (a text, b text[])');
    const hostile = fc
      .array(fc.constantFrom('"', '\\', ',', '(', ')', '\n', ' ', '{', '}', '', 'NULL', 'é', '\u{1F600}'), {
        maxLength: 8,
      })
      .map((characters) => characters.join(''));
    const text = fc.option(hostile, { nil: null });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(text, text), { minLength: 1, maxLength: PACK }),
        fc.boolean(),
        async (pairs, both) => {
          await client.query('TRUNCATE log');
          const printed = `concat(ROW(x, NULL, y, ROW(x, ARRAY[y, x])::public.item, ARRAY[ROW(y, ARRAY[x])::public.item]))`;
          const texts = [pairs.map(([x]) => x), pairs.map(([, y]) => y)];
          await client.query(
            `INSERT INTO log (at, tbl, id, op, key, size, before, after, shape)
           SELECT '${AT}', 't', json_agg(n::text), 'UPDATE', '"id" ', count(*),
             string_agg(${printed}, '' ORDER BY n), CASE WHEN $3 THEN string_agg(concat(ROW(y, n)), '' ORDER BY n) END, 's'
           FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u (x, y, n)`,
            [...texts, both],
          );
          const { rows: expected } = await client.query(
            `SELECT ${printed} AS before, CASE WHEN $3 THEN concat(ROW(y, n)) END AS after
           FROM unnest($1::text[], $2::text[]) WITH ORDINALITY u (x, y, n) ORDER BY n`,
            [...texts, both],
          );
          const detailed = (rows: LogRow[]) => {
            const unpacker = new Unpacker((...made) => [made[0], made[8]] as const);
            const made: (readonly [string, Details | null])[] = [];
            for (const row of rows) unpacker.unpack(row, made);
            return made;
          };
          const inTypeScript = detailed(await read());
          expect(inTypeScript.map(([, details]) => details)).toMatchObject(
            expected.map((each) => ({ ...each, shape: 's' })),
          );
          const inSql = detailed(await read(`(SELECT *, NULL AS size FROM (${unpacked('log')}) u)`));
          expect(inSql).toEqual(inTypeScript);
        },
      ),
      { numRuns: 50 },
    );
  });
});
