import { inspect } from 'node:util';
import { onTestFinished, expect, test, vi } from 'vitest';
import { PostgresInputError } from '../../src/api/errors.ts';
import type { LifecycleEvents, Notice } from '../../src/api/lifecycle-events.ts';
import { RequestedBackfill, requestBackfill } from '../../src/capture/backfill-request.ts';
import { Backfills } from '../../src/capture/backfills.ts';
import type { Change } from '../../src/capture/change.ts';
import { Lease } from '../../src/node/lease.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const never = new AbortController().signal;

/** Backfills of a term whose steps the test makes, and what they push. */
async function setup() {
  const fixture = await setupSessions({ lease: { duration: 60_000 } });
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { names, settings } = fixture;
  const session = await fixture.session();
  const lease = new Lease(session, names, settings.lease);
  await lease.standBy(never);
  const pushed: Change[] = [];
  const failed: LifecycleEvents['backfillFailed'][0][] = [];
  const done: { backfill: string; table: string }[] = [];
  /** How many chunks have been read, also ahead. */
  const chunks = { read: 0 };
  const backfills = new Backfills({
    session,
    names,
    sink: {
      push: (changes) => void pushed.push(...changes),
      room: 4000,
      roomApart: 4000,
      waitForRoom: async () => {},
    },
    hold: lease.holding,
    rowSettings: settings,
    async openSession(statementTimeout) {
      const own = await fixture.session({ statementTimeout });
      const batch = own.batch.bind(own);
      vi.spyOn(own, 'batch').mockImplementation(async (...parts) => {
        await batch(...parts);
        chunks.read++;
      });
      return own;
    },
    rouse: () => {},
    notify: (...notice: Notice) => {
      if (notice[0] === 'backfillFailed') failed.push(notice[1]);
      if (notice[0] === 'backfillDone') done.push(notice[1]);
    },
    fail: (error) => {
      throw error;
    },
  });
  onTestFinished(() => backfills.end());
  const read = async (chunk: number, where: string | null = null) =>
    requestBackfill(await fixture.session(), settings, names, { tables: ['items'], where, chunk });
  /** Goes on until nothing is left to read. */
  const steps = async () => {
    while (await backfills.step(async () => true, never));
  };
  return { fixture, session, backfills, pushed, failed, done, chunks, read, steps };
}

test('a chunk of the old order that is on its way is given up when its table is begun anew', async () => {
  const { fixture, backfills, pushed, chunks, read, steps } = await setup();
  const { database, names } = fixture;
  await database.query(
    'ALTER TABLE items DROP CONSTRAINT items_pkey; INSERT INTO items SELECT generate_series(1, 100); CREATE INDEX by_id ON items (id DESC)',
  );
  await read(10);
  await backfills.step(async () => true, never);
  expect(pushed).toHaveLength(10);
  await until(() => chunks.read === 2);
  const job = `${names.backfillTable.sql} WHERE sequence = ''`;
  const other = await database.client();
  await other.query(`BEGIN; SELECT FROM ${job} FOR UPDATE`);
  await database.query('CLUSTER items USING by_id');
  // The second chunk was read before. The third finds the table written anew, and has to wait until that is kept.
  const isWaiting = async () => {
    const found = await database.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return found.length > 0;
  };
  await backfills.step(async () => {
    await until(isWaiting);
    return true;
  }, never);
  await other.query('COMMIT');
  expect(pushed).toHaveLength(10);
  await steps();
  expect(pushed).toHaveLength(110);
  for (const { sequence } of pushed) backfills.acknowledgements.acknowledgeSoon(sequence!);
  await backfills.acknowledgements.flush();
  expect(await database.query(`SELECT state, done::int FROM ${job}`)).toEqual([{ state: 'done', done: 110 }]);
});

test('the term ends when the failure of a backfill is refused', async () => {
  const { fixture, backfills, read, steps } = await setup();
  const { database, names } = fixture;
  await database.query('INSERT INTO items SELECT generate_series(1, 100)');
  await read(10);
  await backfills.step(async () => true, never);
  await database.query(
    `DROP TABLE items; ALTER TABLE ${names.backfillTable.sql} RENAME COLUMN error TO gone`,
  );
  await expect(steps()).rejects.toMatchObject({ code: '42703' });
});

test('a backfill that fails is told of once, also if its events are out, and nothing of a row is told', async () => {
  const { fixture, backfills, pushed, failed, read, steps } = await setup();
  await fixture.database.query('INSERT INTO items SELECT generate_series(1, 100)');
  const backfill = await read(10, "CASE WHEN id < 50 THEN '1' ELSE 'hunter' || id END::int > 0");
  await steps();
  for (const { sequence } of pushed) backfills.acknowledgements.acknowledgeSoon(sequence!);
  await backfills.acknowledgements.flush();
  backfills.onChanged();
  await steps();
  expect(failed).toEqual([{ backfill, table: 'items', error: expect.any(PostgresInputError) }]);
  const { error } = failed[0]!;
  expect(error.message).toContain(`22P02: \`backfill --id ${backfill} --wait\``);
  expect(inspect(error, { depth: null, showHidden: true })).not.toContain('hunter');
  const found = new RequestedBackfill(backfill, fixture.names, (task) => fixture.session().then(task));
  expect(await found.progress()).toMatchObject([
    { state: 'cancelled', error: expect.stringContaining('hunter50') },
  ]);
});

test('a backfill whose failure has been kept is told of, although the connection was lost before the answer came', async () => {
  const { fixture, session, backfills, failed, read, steps } = await setup();
  await fixture.database.query('INSERT INTO items SELECT generate_series(1, 100)');
  const backfill = await read(10);
  await backfills.step(async () => true, never);
  await fixture.database.query('DROP TABLE items');
  const ask = session.query.bind(session);
  vi.spyOn(session, 'query').mockImplementation(async (statement, ...rest) => {
    const rows = await ask<never>(statement, ...rest);
    if (typeof statement === 'string' || statement.name !== 'backfill_fail') return rows;
    session.destroy();
    return ask<never>('SELECT');
  });
  await expect(steps()).rejects.toThrow();
  const found = new RequestedBackfill(backfill, fixture.names, (task) => fixture.session().then(task));
  expect(await found.progress()).toMatchObject([{ state: 'cancelled', error: expect.any(String) }]);
  expect(failed).toEqual([{ backfill, table: 'items', error: expect.any(PostgresInputError) }]);
});

test('a backfill is done when its last event is acknowledged, unless it was cancelled before', async () => {
  const { fixture, backfills, pushed, done, read, steps } = await setup();
  const { database, names } = fixture;
  await database.query('INSERT INTO items SELECT generate_series(1, 100)');
  const acknowledge = async () => {
    await steps();
    for (const { sequence } of pushed.splice(0)) backfills.acknowledgements.acknowledgeSoon(sequence!);
    await backfills.acknowledgements.flush();
  };
  const first = await read(10);
  await acknowledge();
  await read(10);
  backfills.onChanged();
  await steps();
  // Nobody tells the node.
  await database.query(`UPDATE ${names.backfillTable.sql} SET state = 'cancelled' WHERE state = 'running'`);
  await acknowledge();
  expect(done).toEqual([{ backfill: first, table: 'items' }]);
});

test('a backfill that was cancelled before its table failed has not failed', async () => {
  const { fixture, backfills, failed, read, steps } = await setup();
  const { database, names } = fixture;
  await database.query('INSERT INTO items SELECT generate_series(1, 100)');
  const backfill = await read(10);
  await backfills.step(async () => true, never);
  // Nobody tells the node.
  await database.query(`DROP TABLE items; UPDATE ${names.backfillTable.sql} SET state = 'cancelled'`);
  await steps();
  expect(failed).toEqual([]);
  const found = new RequestedBackfill(backfill, names, (task) => fixture.session().then(task));
  expect(await found.progress()).toMatchObject([{ state: 'cancelled', error: null }]);
});
