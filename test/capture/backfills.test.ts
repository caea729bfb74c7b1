import { onTestFinished, expect, test, vi } from 'vitest';
import { requestBackfill } from '../../src/capture/backfill-request.ts';
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
    fail: (error) => {
      throw error;
    },
  });
  onTestFinished(() => backfills.end());
  const read = async (chunk: number) =>
    requestBackfill(await fixture.session(), settings, names, { tables: ['items'], where: null, chunk });
  return { fixture, backfills, pushed, chunks, read };
}

test('a chunk of the old order that is on its way is given up when its table is begun anew', async () => {
  const { fixture, backfills, pushed, chunks, read } = await setup();
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
  while (await backfills.step(async () => true, never));
  expect(pushed).toHaveLength(110);
  for (const { sequence } of pushed) backfills.acknowledgements.acknowledgeSoon(sequence!);
  await backfills.acknowledgements.flush();
  expect(await database.query(`SELECT state, done::int FROM ${job}`)).toEqual([{ state: 'done', done: 110 }]);
});

test('the term ends when the failure of a backfill is refused', async () => {
  const { fixture, backfills, read } = await setup();
  const { database, names } = fixture;
  await database.query('INSERT INTO items SELECT generate_series(1, 100)');
  await read(10);
  await backfills.step(async () => true, never);
  await database.query(
    `DROP TABLE items; ALTER TABLE ${names.backfillTable.sql} RENAME COLUMN error TO gone`,
  );
  const steps = async () => {
    while (await backfills.step(async () => true, never));
  };
  await expect(steps()).rejects.toMatchObject({ code: '42703' });
});
