/** What the application must never notice of the rows in the log: printing fails no statement, and costs what is asked for. */
import { describe, expect, test } from 'vitest';
import { withSession } from '../../src/node/connect.ts';
import { replaceFunction } from '../../src/schema/create-function.ts';
import type { Wanted } from '../../src/schema/logging-statements.ts';
import { insertShape } from '../../src/schema/row-data.ts';
import { type CandidateTable, candidateTables, chooseTables } from '../../src/schema/tables.ts';
import { recordFunction } from '../../src/schema/trigger-function.ts';
import { type LoggedRow, setupInstallation } from '../support/setup-installation.ts';
import { shapeOf } from '../support/shapes.ts';

type Fixture = Awaited<ReturnType<typeof setupInstallation>>;

const byText = (a: unknown, b: unknown) => (String(a) < String(b) ? -1 : 1);
const summary = ({ op, before, after, shape }: LoggedRow) => [op, before, after, shape];

/** Makes the trigger functions of all tables for some columns only. */
async function wantColumns(
  { settings, names, database }: Fixture,
  columns: string[],
  maxRowBytes = 1_000_000,
) {
  const wanted: Wanted = {
    events: new Set(['insert', 'update', 'delete']),
    rows: 'both',
    columns,
    maxRowBytes,
    filter: { changed: null, when: null },
    ignoredOrigins: [],
  };
  const candidates = await withSession(settings, (session) =>
    session.query<CandidateTable>(candidateTables, [settings.schemas, true]),
  );
  for (const table of chooseTables(candidates, settings).tables)
    for (const event of wanted.events) {
      const { shape, ...wantedFunction } = recordFunction(names, table, event, wanted);
      await database.query(insertShape(names, shape!));
      await database.query(replaceFunction(wantedFunction));
    }
}

describe('a row that is too large', () => {
  test('as text is left out, by either of its sides', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n text)', {
      rows: 'both',
      maxRowBytes: 20_000,
    });
    const { database } = fixture;
    const quotes = (count: number) => `repeat('"', ${count})`;
    await database.query(`
      INSERT INTO t VALUES (1, ${quotes(9_996)}); INSERT INTO t VALUES (2, ${quotes(9_998)});
      INSERT INTO t VALUES (3, repeat('x', 19996)); INSERT INTO t VALUES (4, repeat('x', 19997));
      UPDATE t SET n = 'short' WHERE id = 2; UPDATE t SET n = ${quotes(9_998)} WHERE id = 2; UPDATE t SET n = 'short'; DELETE FROM t WHERE id = 1`);
    const logged = (await fixture.rows()).map((row) => [
      row.op,
      row.id,
      row.before?.length ?? null,
      row.after?.length ?? null,
      row.shape === 'too-large',
    ]);
    expect(logged.slice(0, 6)).toEqual([
      ['INSERT', '1', null, 19_998, false],
      ['INSERT', '2', null, null, true],
      ['INSERT', '3', null, 20_000, false],
      ['INSERT', '4', null, null, true],
      ['UPDATE', '2', null, null, true],
      ['UPDATE', '2', null, null, true],
    ]);
    expect(logged.slice(6, 10).toSorted(byText)).toEqual([
      ['UPDATE', '1', 19_998, 9, false],
      ['UPDATE', '2', null, null, true],
      ['UPDATE', '3', 20_000, 9, false],
      ['UPDATE', '4', null, null, true],
    ]);
    expect(logged.slice(10)).toEqual([['DELETE', '1', 9, null, false]]);
  });

  test('keeps nothing of its data where its key changes', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n text)', {
      rows: 'both',
      maxRowBytes: 100,
    });
    await fixture.database.query(
      `INSERT INTO t VALUES (1, repeat('x', 1000)), (2, 'y'); UPDATE t SET id = id + 10, n = 'z'`,
    );
    const logged = await fixture.rows();
    expect(
      logged
        .map(({ op, id, before, after, shape }) => [op, id, before, after, shape === 'too-large'])
        .slice(2)
        .toSorted(byText),
    ).toEqual([
      ['DELETE', '1', null, null, true],
      ['DELETE', '2', '(2,y)', null, false],
      ['INSERT', '11', null, '(11,z)', false],
      ['INSERT', '12', null, '(12,z)', false],
    ]);
  });
});

/** `npm run test:heavy`: values of half a gigabyte take a minute. */
const HEAVY = process.env['HEAVY_ROWS'] !== undefined;

describe('no statement fails', { timeout: 240_000 }, () => {
  const reasons = (logged: LoggedRow[]) => {
    for (const { before, after } of logged) expect([before, after]).toEqual([null, null]);
    return logged.map(({ op, shape }) => `${op} ${shape}`);
  };

  test.runIf(HEAVY)('for a text and a bytea of 600 MB each', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int, a text, b bytea)', {
      rows: 'both',
      maxRowBytes: 40_000_000,
    });
    const client = await fixture.database.client();
    await client.query(`INSERT INTO t (id, a) VALUES (1, repeat('"', 600000000))`);
    // They are some megabytes as they are stored.
    await client.query(`UPDATE t SET b = convert_to(repeat('x', 600000000), 'UTF8')`);
    await client.query('UPDATE t SET n = 2');
    await client.query('UPDATE t SET id = 2');
    await client.query('DELETE FROM t');
    expect(reasons(await fixture.rows())).toEqual(
      ['INSERT', 'UPDATE', 'UPDATE', 'DELETE', 'INSERT', 'DELETE'].map((op) => `${op} too-large`),
    );
  });

  test('for numbers that take little and print much', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int, a numeric[])', {
      rows: 'both',
    });
    await fixture.database.query(
      `INSERT INTO t (id, a) VALUES (1, array_fill(1e131071, ARRAY[50])); UPDATE t SET n = 2; DELETE FROM t`,
    );
    expect(reasons(await fixture.rows())).toEqual([
      'INSERT too-large',
      'UPDATE too-large',
      'DELETE too-large',
    ]);
  });

  test.runIf(HEAVY)(
    'for a text that takes some megabytes as it is stored, and prints more than the server can',
    async () => {
      const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, j json)', {
        rows: 'both',
      });
      const { database, names } = fixture;
      await database.query(
        `INSERT INTO t VALUES (1, ('"' || repeat(chr(92) || '"', 300000000) || '"')::json)`,
      );
      await database.query('DELETE FROM t');
      // The error that was caught has taken no transaction id.
      expect(
        await database.query(
          `SELECT op, xmin::text::bigint = xid::text::bigint % (1::bigint << 32) AS plain FROM ${names.logTable.sql} ORDER BY seq`,
        ),
      ).toEqual([
        { op: 'INSERT', plain: true },
        { op: 'DELETE', plain: true },
      ]);
      expect(reasons(await fixture.rows())).toEqual(['INSERT too-large', 'DELETE unreadable']);
    },
  );

  test('for composite values within each other, whose quotes double on each level', async () => {
    const types = Array.from({ length: 21 }, (_, i) => `CREATE TYPE c${i + 1} AS (c c${i})`);
    const fixture = await setupInstallation(
      `CREATE TYPE c0 AS (c text); ${types.join('; ')}; CREATE TABLE t (id int PRIMARY KEY, n int, c c21)`,
      { rows: 'both' },
    );
    const value = `ROW('"')::c0`;
    const nested = Array.from({ length: 21 }).reduce<string>(
      (inner, _, i) => `ROW(${inner})::c${i + 1}`,
      value,
    );
    await fixture.database.query(`INSERT INTO t VALUES (1, 1, ${nested}); UPDATE t SET n = 2; DELETE FROM t`);
    expect(new Set(reasons(await fixture.rows()).map((reason) => reason.split(' ')[1]))).toEqual(
      new Set(['too-large']),
    );
  });

  test('where the owner of the functions may not use the types', async () => {
    const fixture = await setupInstallation(
      `CREATE TYPE mood AS ENUM ('sad'); CREATE SCHEMA hidden; CREATE TYPE hidden.pair AS (a int, b mood); CREATE DOMAIN hidden.few AS int[];
       CREATE TABLE t (id int PRIMARY KEY, m mood, p hidden.pair, f hidden.few)`,
      { rows: 'both' },
    );
    const { database, names } = fixture;
    await database.query(`
      DROP ROLE IF EXISTS row_data_owner; CREATE ROLE row_data_owner; REVOKE ALL ON TYPE mood FROM PUBLIC; REVOKE ALL ON SCHEMA hidden FROM PUBLIC; REVOKE ALL ON SCHEMA public FROM PUBLIC;
      ALTER SCHEMA postgres_input OWNER TO row_data_owner;
      DO $$ DECLARE f text; BEGIN
        FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace LOOP EXECUTE 'ALTER FUNCTION ' || f || ' OWNER TO row_data_owner'; END LOOP;
        FOR f IN SELECT oid::regclass FROM pg_class WHERE relnamespace = 'postgres_input'::regnamespace AND relkind = 'r' LOOP EXECUTE 'ALTER TABLE ' || f || ' OWNER TO row_data_owner'; END LOOP;
        ALTER SEQUENCE ${names.logSequence.sql} OWNER TO row_data_owner;
      END $$`);
    try {
      const write = `INSERT INTO t VALUES (1, 'sad', ROW(1, 'sad'), '{1}'); UPDATE t SET f = '{2}'; DELETE FROM t`;
      await database.query(write);
      await database.query(`ALTER TABLE t ADD again mood; ${write}`);
      const logged = await fixture.rows();
      expect(logged.map(({ op, before, after }) => [op, before, after])).toEqual([
        ['INSERT', null, '(1,sad,"(1,sad)",{1})'],
        ['UPDATE', '(1,sad,"(1,sad)",{1})', '(1,sad,"(1,sad)",{2})'],
        ['DELETE', '(1,sad,"(1,sad)",{2})', null],
        ['INSERT', null, '(1,sad,"(1,sad)",{1},)'],
        ['UPDATE', '(1,sad,"(1,sad)",{1},)', '(1,sad,"(1,sad)",{2},)'],
        ['DELETE', '(1,sad,"(1,sad)",{2},)', null],
      ]);
    } finally {
      await database.query('DROP SCHEMA postgres_input CASCADE; DROP ROLE row_data_owner');
    }
  });
});

test('a trigger takes no subtransaction, also where it prints large rows', async () => {
  const { database, names } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY, n text); CREATE TABLE u (n int)',
    { rows: 'both' },
  );
  await database.query(
    `INSERT INTO t VALUES (1, repeat('x', 100000)); UPDATE t SET n = n || '!'; UPDATE t SET id = 2; DELETE FROM t; INSERT INTO u VALUES (1); UPDATE u SET n = 2;
     ALTER TABLE u ADD e text; INSERT INTO u VALUES (1, repeat('x', 100000)); UPDATE u SET n = 2`,
  );
  expect(
    await database.query(`
      SELECT count(*)::int AS all, count(*) FILTER (WHERE xmin::text::bigint = xid::text::bigint % (1::bigint << 32))::int AS plain
      FROM ${names.logTable.sql}`),
  ).toEqual([{ all: 10, plain: 10 }]);
});

describe('of some columns only', () => {
  test('no other is read, so that wide ones stay where they are', async () => {
    const fixture = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int, wide text, note text); ALTER TABLE t ALTER wide SET STORAGE EXTERNAL',
      { rows: 'both' },
    );
    const { database } = fixture;
    await wantColumns(fixture, ['id', 'n', 'note']);
    const toastRead = async (changes: number) => {
      const stats = async () =>
        (
          await database.query<{ changes: number; blocks: number }>(`
          SELECT (n_tup_ins + n_tup_upd)::int AS changes, (toast_blks_hit + toast_blks_read)::int AS blocks
          FROM pg_statio_user_tables io JOIN pg_stat_user_tables USING (relid) WHERE io.relname = 't'`)
        )[0]!;
      await expect.poll(async () => (await stats()).changes).toBe(changes);
      return (await stats()).blocks;
    };
    const run = async (sql: string) => {
      const client = await database.client();
      await client.query(sql);
      await client.end();
    };
    await run("INSERT INTO t SELECT i, 0, repeat('x', 100000), 'note' FROM generate_series(1, 20) i");
    const before = await toastRead(20);
    await run('UPDATE t SET n = 1');
    await run('UPDATE t SET n = 2 WHERE id = 1');
    await run('ALTER TABLE t RENAME note TO remark');
    await run('UPDATE t SET n = 3');
    await run('UPDATE t SET n = 4 WHERE id = 1');
    expect(await toastRead(62)).toBe(before);
    const logged = await fixture.rows();
    expect(summary(logged.at(-1)!)).toEqual(['UPDATE', '(1,3)', '(1,4)', '[["id", 23], ["n", 23]]']);
    await wantColumns(fixture, ['id', 'wide']);
    await run('UPDATE t SET n = 5 WHERE id = 1');
    expect(await toastRead(63)).toBeGreaterThan(before);
    expect(await shapeOf(fixture, (await fixture.rows())[0]!)).toEqual([
      ['id', 23],
      ['wide', 25],
    ]);
  });

  test('another column may come and go', async () => {
    const fixture = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int, other text)', {
      rows: 'both',
    });
    await wantColumns(fixture, ['n']);
    await fixture.database.query(
      'INSERT INTO t VALUES (1, 1); ALTER TABLE t ADD e int, DROP other; UPDATE t SET n = 2',
    );
    const logged = await fixture.rows();
    expect(logged.map(summary)).toEqual([
      ['INSERT', null, '(1)', expect.stringMatching(/^[0-9a-f]{16}$/)],
      ['UPDATE', '(1)', '(2)', logged[0]!.shape],
    ]);
  });
});
