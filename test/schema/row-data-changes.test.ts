/** The rows in the log of a table that has changed since its triggers were made. */
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { type LoggedRow, setupInstallation } from '../support/setup-installation.ts';
import { shapeOf } from '../support/shapes.ts';

const T = `
  CREATE TYPE mood AS ENUM ('sad');
  CREATE DOMAIN few AS int CHECK (VALUE < 1000000);
  CREATE TABLE t (id int PRIMARY KEY, a int, b text DEFAULT 'b', c varchar(20) DEFAULT '{"c": 1}', d int[] DEFAULT '{1}');
  INSERT INTO t (id) SELECT generate_series(-300, -1)`;

/** Whether the expressions of the trigger functions still fit the table after it. */
const CHANGES: [change: string, fits: boolean][] = [
  ['ALTER TABLE t DROP b', false],
  [`ALTER TABLE t ADD e jsonb DEFAULT '{"e": 1}'`, false],
  ['ALTER TABLE t ADD e int, DROP a', false],
  ['ALTER TABLE t ADD e int; ALTER TABLE t DROP e; ALTER TABLE t ADD f int DEFAULT 6', false],
  ['ALTER TABLE t RENAME b TO "B""%s"', false],
  ['ALTER TABLE t RENAME b TO x; ALTER TABLE t RENAME c TO b; ALTER TABLE t RENAME x TO c', false],
  ['ALTER TABLE t ALTER a TYPE text', false],
  ['ALTER TABLE t ALTER a TYPE bigint', false],
  ['ALTER TABLE t ALTER c DROP DEFAULT, ALTER c TYPE jsonb USING c::jsonb', false],
  // These two rewrite nothing: binary compatible types.
  ['ALTER TABLE t ALTER c TYPE text', false],
  ['ALTER TABLE t ALTER c TYPE varchar', true],
  ['ALTER TABLE t ALTER a TYPE few', true],
  ['ALTER TABLE t ALTER d TYPE text USING d::text', false],
  [`ALTER TABLE t DROP a; ALTER TABLE t ADD a mood DEFAULT 'sad'`, false],
  ['ALTER TABLE t ALTER b DROP DEFAULT, ADD CHECK (id < 10000)', true],
  ['ALTER TABLE t DROP CONSTRAINT t_pkey', false],
];

/** Statements of every form, from `first` on. */
const writes = (first: number) => [
  `INSERT INTO t (id) VALUES (${first})`,
  `INSERT INTO t (id) SELECT generate_series(${first + 1}, ${first + 200})`,
  `UPDATE t SET id = id WHERE id = ${first}`,
  `UPDATE t SET id = id WHERE id > ${first}`,
  `UPDATE t SET id = id + 1000 WHERE id = ${first}`,
  `UPDATE t SET id = id WHERE id BETWEEN ${first + 1} AND ${first + 5}`,
];
const deletes = (first: number) => [
  `DELETE FROM t WHERE id = ${first + 1}`,
  `DELETE FROM t WHERE id >= ${first}`,
];

/** All texts of rows that the table has, and the shape that a client sees. */
async function presentRows(client: pg.ClientBase) {
  const { rows } = await client.query('SELECT concat(t.*) AS text FROM t');
  const { fields } = await client.query('SELECT * FROM t LIMIT 0');
  return {
    texts: new Set(rows.map(({ text }) => text as string)),
    shape: fields.map(({ name, dataTypeID }): [string, number] => [name, dataTypeID]),
  };
}

describe.for(CHANGES)('after %s', ([change, fits]) => {
  const expectTrue = async (
    fixture: Awaited<ReturnType<typeof setupInstallation>>,
    logged: LoggedRow[],
    { texts, shape }: Awaited<ReturnType<typeof presentRows>>,
    isKnown: boolean,
  ) => {
    expect(logged.length).toBeGreaterThan(400);
    const named = new Set(logged.map((row) => row.shape));
    expect(named.size).toBe(1);
    expect(await shapeOf(fixture, logged[0]!)).toEqual(shape);
    expect([...named][0]!.startsWith('[')).toBe(!isKnown);
    for (const { op, before, after, tbl } of logged) {
      expect(tbl).toBe('t');
      const sides = { INSERT: [null, true], UPDATE: [true, true], DELETE: [true, null] }[op];
      expect([before && texts.has(before), after && texts.has(after)]).toEqual(sides);
    }
  };

  test('in the same session and in the same transaction', async () => {
    expect.hasAssertions();
    const fixture = await setupInstallation(T, { rows: 'both' });
    const { database } = fixture;
    const client = await database.client();
    for (const sql of [...writes(1), ...deletes(1)])
      for (let i = 0; i < 7; i++)
        await client.query(
          sql

            .replace(/$/, i === 0 || !sql.startsWith('INSERT') ? '' : ' ON CONFLICT DO NOTHING'),
        );
    await fixture.rows();
    await client.query('BEGIN');
    await client.query(change);
    for (const sql of writes(1)) await client.query(sql);
    const present = await presentRows(client);
    for (const sql of deletes(1)) await client.query(sql);
    await client.query('COMMIT');
    const logged = await fixture.rows();
    // A row that was updated, with its old key, is gone; its text is that of the row but for the key.
    present.texts.add([...present.texts].find((text) => text.includes('1001'))!.replace('1001', '1'));
    await expectTrue(fixture, logged, present, fits);
    for (const sql of writes(2001)) await client.query(sql);
    const later = await presentRows(client);
    later.texts.add([...later.texts].find((text) => text.includes('3001'))!.replace('3001', '2001'));
    await expectTrue(fixture, await fixture.rows(), later, fits);
    // Another installation makes the functions anew.
    await fixture.install();
    for (const sql of writes(4001)) await client.query(sql);
    const renewed = await presentRows(client);
    renewed.texts.add([...renewed.texts].find((text) => text.includes('5001'))!.replace('5001', '4001'));
    await expectTrue(fixture, await fixture.rows(), renewed, true);
  });

  test.for([
    ['that has written before', true],
    ['whose first statement it is', false],
  ] as const)('in a transaction with an older snapshot, of a session %s', async ([, hasWritten]) => {
    expect.hasAssertions();
    const fixture = await setupInstallation(T, { rows: 'both' });
    const { database } = fixture;
    const client = await database.client();
    if (hasWritten) for (const sql of [...writes(1), ...deletes(1)]) await client.query(sql);
    await fixture.rows();
    for (const isolation of ['REPEATABLE READ', 'READ COMMITTED']) {
      const first = isolation === 'REPEATABLE READ' ? 1 : 4001;
      await client.query(`BEGIN ISOLATION LEVEL ${isolation}; SELECT FROM pg_class LIMIT 1`);
      if (first === 1) await database.query(change);
      for (const sql of writes(first)) await client.query(sql);
      await client.query('COMMIT');
      const present = await presentRows(client);
      present.texts.add(
        [...present.texts]
          .find((text) => text.includes(`${first + 1000}`))!
          .replace(`${first + 1000}`, `${first}`),
      );
      await expectTrue(fixture, await fixture.rows(), present, fits);
    }
  });
});
