/**
 * The last event of a row agrees with the table, whatever a statement does to its key: what is promised, and which forms are not.
 *
 * Not promised is a statement that both deletes and creates one key, if PostgreSQL runs the deletion to its end after the creation:
 * where the deletion is a WITH query that the rest of the statement does not read to its end, or the table refers to itself with a
 * cascade. The triggers run in the order in which the parts of the statement end.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { majorVersion } from '../support/database.ts';
import { setupInstallation } from '../support/setup-installation.ts';

const key = fc.integer({ min: 1, max: 8 });
const keys = fc.uniqueArray(key, { minLength: 1, maxLength: 4 });
const list = (ids: readonly number[]) => ids.join(', ');
const rows = (ids: readonly number[]) => ids.map((id) => `(${id})`).join(', ');

/**
 * A statement may fail as a whole: of a key that is taken (23505), a row that it would change twice (21000), a row that is referred to
 * (23503), or ON CONFLICT where the key is checked at the end (55000).
 */
const REFUSALS = new Set(['23505', '21000', '23503', '55000']);

/** Statements of one kind each. */
const plain = [
  keys.map((ids) => `INSERT INTO t (id) VALUES ${rows(ids)} ON CONFLICT DO NOTHING`),
  keys.map((ids) => `DELETE FROM t WHERE id IN (${list(ids)})`),
  keys.map((ids) => `UPDATE t SET n = n + 1 WHERE id IN (${list(ids)})`),
  fc.tuple(keys, key).map(([ids, by]) => `UPDATE t SET id = (id + ${by}) % 9 WHERE id IN (${list(ids)})`),
  fc.constant('UPDATE t SET id = 9 - id WHERE id BETWEEN 1 AND 8'),
];

/** Statements that delete, create and change keys at once. */
const mixed = [
  fc
    .tuple(keys, key)
    .map(
      ([ids, by]) =>
        `INSERT INTO t (id) VALUES ${rows(ids)} ON CONFLICT (id) DO UPDATE SET id = (t.id + ${by}) % 9`,
    ),
  keys.map(
    (ids) =>
      `WITH d AS (DELETE FROM t WHERE id IN (${list(ids)}) RETURNING id) INSERT INTO t (id) SELECT id FROM d`,
  ),
  fc.tuple(keys, key).map(
    ([ids, by]) => `WITH d AS (DELETE FROM t WHERE id IN (${list(ids)}) RETURNING id)
      INSERT INTO t (id) SELECT (id + ${by}) % 9 FROM d`,
  ),
];
const merge = fc.tuple(keys, keys, key).map(
  ([ids, gone, by]) => `MERGE INTO t USING (VALUES ${rows(ids)}) s (id) ON t.id = s.id
    WHEN MATCHED AND t.id IN (${list(gone)}) THEN DELETE
    WHEN MATCHED THEN UPDATE SET id = (t.id + ${by}) % 9
    WHEN NOT MATCHED THEN INSERT (id) VALUES ((s.id + ${by}) % 9)`,
);

test.each([
  ['of every kind', 'CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0)', true],
  [
    'of every kind, on a key that is checked at the end',
    'CREATE TABLE t (id int, n int DEFAULT 0, PRIMARY KEY (id) DEFERRABLE INITIALLY DEFERRED, u int UNIQUE)',
    true,
  ],
  [
    'of one kind each, with cascades within the table',
    `CREATE TABLE t (id int PRIMARY KEY, n int DEFAULT 0, parent int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE);
     CREATE FUNCTION adopt() RETURNS trigger LANGUAGE plpgsql AS
       'BEGIN SELECT max(id) INTO NEW.parent FROM t WHERE id < NEW.id; RETURN NEW; END';
     CREATE TRIGGER adopt BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION adopt()`,
    false,
  ],
])(
  'the last event of a key agrees with the table, by statements %s',
  { timeout: 120_000 },
  async (_, schema, all) => {
    const { database, changes } = await setupInstallation(schema);
    const kinds = [
      ...plain,
      ...(all ? mixed : []),
      ...(all && (await majorVersion(database)) >= 15 ? [merge] : []),
    ];
    const client = await database.client();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.oneof(...kinds), { minLength: 1, maxLength: 12 }), async (statements) => {
        await client.query('TRUNCATE t');
        await changes();
        for (const sql of statements)
          await client.query(sql).catch((error: { code: string }) => {
            if (!REFUSALS.has(error.code)) throw error;
          });
        const present = new Set<string>();
        for (const change of await changes()) {
          const [op, , id] = change.split(' ') as [string, string, string];
          if (op === 'DELETE') present.delete(id);
          else present.add(id);
        }
        const { rows: left } = await client.query('SELECT id::text FROM t ORDER BY 1');
        expect([...present].toSorted()).toEqual(left.map(({ id }) => id));
      }),
      { numRuns: 200 },
    );
  },
);
