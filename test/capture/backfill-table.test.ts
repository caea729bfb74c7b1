import { expect, test } from 'vitest';
import { BackfillTable } from '../../src/capture/backfill-table.ts';
import { setupSessions } from '../support/setup-sessions.ts';

test.each([
  ['of one type', 'tenant int, slug int'],
  ['of several types', 'tenant int, slug citext'],
])('a chunk begins at its cursor in the index, with a key %s', async (_, columns) => {
  await using fixture = await setupSessions();
  const { database, settings } = fixture;
  await database.query(
    `CREATE EXTENSION citext; CREATE TABLE t (${columns}, PRIMARY KEY (tenant, slug));
     INSERT INTO t SELECT n % 100, n FROM generate_series(1, 10000) n; ANALYZE t`,
  );
  const [{ oid }] = (await database.query<{ oid: string }>("SELECT 't'::regclass::oid::text AS oid")) as [
    { oid: string },
  ];
  const session = await fixture.session();
  const table = (await BackfillTable.find(session, oid, settings))!;
  const { text, values } = table.chunk(['98', '7'], 10, null);
  const [row] = await session.query<{ 'QUERY PLAN': object[] }>(
    `EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) ${text}`,
    [...values],
  );
  const plan = JSON.stringify(row);
  expect(plan).toMatch(/"Index Cond"/);
  // No more than the rows of the tenant that has the cursor.
  const removed = Number(/"Rows Removed by Filter":(\d+)/.exec(plan)?.[1] ?? 0);
  expect(removed).toBeLessThanOrEqual(100);
});
