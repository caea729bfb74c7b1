/** What is kept of changes that failed, and how changes are parked, redriven and discarded; without the policy of retries. */
import { describe, expect, test } from 'vitest';
import { acknowledgementsSql } from '../../src/capture/acknowledgements-sql.ts';
import { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import { ChangeLog } from '../../src/capture/change-log.ts';
import type { Change } from '../../src/capture/change.ts';
import { FailureTable } from '../../src/capture/failures.ts';
import { discardParked, listParked, redriveParked } from '../../src/capture/parked.ts';
import { Redriven } from '../../src/capture/redriven.ts';
import { eventOf } from '../../src/delivery/event.ts';
import { Lease } from '../../src/node/lease.ts';
import { writtenRow } from '../../src/schema/log-layout.ts';
import { Consumer, once } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const never = new AbortController().signal;

/** A term's parts, over changes of these ids: those above 50 are packed. */
async function setup(ids: number) {
  const fixture = await setupSessions({ lease: { duration: 60_000 } });
  const { database, names, settings } = fixture;
  const session = await fixture.session();
  const lease = new Lease(session, names, settings.lease);
  await lease.standBy(never);
  const client = await database.client();
  await client.query(`
    BEGIN; SET LOCAL postgres_input.context = '{"who":"anne"}';
    INSERT INTO items SELECT generate_series(1, ${ids}); COMMIT`);
  const log = new ChangeLog(session, names);
  const { changes, last } = await log.readPage(1000);
  expect(last).toBe(true);
  const read: Change[] = [];
  const sink = {
    room: 1000,
    roomApart: 1000,
    push: (more: readonly Change[]) => void read.push(...more),
    waitForRoom: async () => {},
  };
  const redriven = new Redriven(session, names, sink, null);
  const failures = new FailureTable(session, names, lease.holding, (number) => redriven.forget(number));
  const acknowledgements = new Acknowledgements(session, names, lease.holding, () => {});
  /** Changes in the log, in the order of their ids, however they are stored. */
  const left = async () => {
    const again = await new ChangeLog(session, names).readPage(1000);
    return again.changes.map(({ id }) => Number(id));
  };
  const another = await fixture.session();
  return {
    ...fixture,
    session,
    another,
    lease,
    changes,
    log,
    read,
    redriven,
    failures,
    acknowledgements,
    left,
    named,
  };
}
const named = ({ sequence, stamp }: Change) => ({ sequence: sequence!, stamp });
const range = (n: number) => Array.from({ length: n }, (_, i) => i + 1);
const all = { limit: 1000, after: null };

test('redriven changes come in pages of bounded text', async () => {
  await using bundle = await setup(1);
  const { database, names, session } = bundle;
  await database.query(`
    INSERT INTO ${names.logTable.sql} (seq, at, tbl, id, op, after, shape)
    SELECT -n, now(), 'items', n::text, 'INSERT', repeat('x', CASE WHEN n <= 3 THEN 100000 ELSE 10 END), 'some-shape' FROM generate_series(1, 5) n`);
  const pages: string[][] = [];
  const sink = {
    room: 1000,
    roomApart: 1000,
    push: (changes: readonly Change[]) => void pages.push(changes.map(({ id }) => id)),
    waitForRoom: async () => {},
  };
  await new Redriven(session, names, sink, null).read(never);
  expect(pages).toEqual([['1'], ['2'], ['3'], ['4', '5']]);
});

test('redriven changes for which there is no room come when there is', async () => {
  await using bundle = await setup(1);
  const { database, names, session } = bundle;
  await database.query(`
    INSERT INTO ${names.logTable.sql} (seq, at, tbl, id, op)
    SELECT -n, now(), 'items', n::text, 'INSERT' FROM generate_series(1, 250) n`);
  const ids: string[] = [];
  const sink = {
    room: 1000,
    roomApart: 200,
    push(changes: readonly Change[]) {
      ids.push(...changes.map(({ id }) => id));
      sink.roomApart -= changes.length;
    },
    waitForRoom: async () => {},
  };
  const redriven = new Redriven(session, names, sink, null);
  await redriven.read(never);
  expect([ids.length, redriven.mayWait]).toEqual([200, true]);
  // One of those that were read is told of meanwhile.
  redriven.notice();
  sink.roomApart = 1000;
  await redriven.read(never);
  expect([ids.length, redriven.mayWait]).toEqual([250, true]);
  await redriven.read(never);
  expect([ids.length, redriven.mayWait]).toEqual([250, false]);
  expect(new Set(ids).size).toBe(250);
});

describe('failures', () => {
  test('are known to the next term, with the attempts and what is left of the delay', async () => {
    await using bundle = await setup(60);
    const { changes, failures, session, names, lease } = bundle;
    await Promise.all([
      failures.fail(named(changes[3]!), { error: 'no \0 route', delay: 60_000, attempts: 1 }),
      failures.fail(named(changes[4]!), { error: 'x'.repeat(20_000), delay: -5, attempts: 7 }),
    ]);
    await failures.fail(named(changes[3]!), { error: 'still none', delay: 90_000, attempts: 2 });
    const known = await new FailureTable(session, names, lease.holding).load();
    expect(known).toEqual([
      { ...named(changes[3]!), attempts: 2, deaths: 0, error: 'still none', delay: expect.any(Number) },
      { ...named(changes[4]!), attempts: 7, deaths: 0, error: 'x'.repeat(10_000), delay: expect.any(Number) },
    ]);
    expect(known[0]!.delay).toBeGreaterThan(60_000);
    expect(known[0]!.delay).toBeLessThanOrEqual(90_000);
    expect(known[1]!.delay).toBeLessThan(0);
  });

  test('wait as long as the last failure said, although the clock was years ahead then', async () => {
    await using bundle = await setup(1);
    const { changes, failures, database, names } = bundle;
    for (const delay of [30_000, 90_000, 60_000])
      await failures.fail(named(changes[0]!), { error: 'no', delay, attempts: 1 });
    await database.query(`UPDATE ${names.failedTable.sql} SET next_at = next_at + interval '10 years'`);
    expect(await failures.load()).toMatchObject([{ delay: 60_000 }]);
  });

  test('of which a node of version 4 has written wait until the time that it wrote, or less', async () => {
    await using bundle = await setup(2);
    const { changes, failures, database, names } = bundle;
    const [one, other] = changes.map(named);
    await failures.fail(other!, { error: 'no', delay: 5000, attempts: 1 });
    await database.query(`
      INSERT INTO ${names.failedTable.sql} (sequence, seq, attempts, next_at)
      VALUES ('${one!.sequence}${one!.stamp}', ${one!.sequence}, 1, clock_timestamp() + interval '1 hour');
      UPDATE ${names.failedTable.sql} SET next_at = clock_timestamp() + interval '1 hour'`);
    const [first, second] = (await failures.load()).map(({ delay }) => delay);
    expect(first).toBeGreaterThan(3_000_000);
    expect(first).toBeLessThanOrEqual(3_600_000);
    expect(second).toBe(5000);
  });

  test('are forgotten with their changes', async () => {
    await using bundle = await setup(60);
    const { changes, failures, acknowledgements } = bundle;
    for (const change of changes.slice(0, 2))
      await failures.fail(named(change), { error: 'no', delay: 0, attempts: 1 });
    await acknowledgements.acknowledge(changes[0]!.sequence!);
    expect((await failures.load()).map(({ sequence }) => sequence)).toEqual([changes[1]!.sequence]);
  });

  test('that fail together are one statement', async () => {
    await using bundle = await setup(40);
    const { changes, failures, database, names } = bundle;
    await Promise.all(
      changes.map((change) => failures.fail(named(change), { error: 'no', delay: 0, attempts: 1 })),
    );
    const [row] = await database.query(
      `SELECT count(*)::int AS rows, count(DISTINCT xmin::text)::int AS statements FROM ${names.failedTable.sql}`,
    );
    expect(row).toEqual({ rows: 40, statements: 1 });
  });

  test('of one change that follow each other within a turn are one failure, the last', async () => {
    await using fixture = await setup(1);
    const { failures, changes } = fixture;
    const one = named(changes[0]!);
    await Promise.all(
      [1, 2].map((attempts) => failures.fail(one, { error: `failure ${attempts}`, delay: 0, attempts })),
    );
    expect(await failures.load()).toMatchObject([{ ...one, attempts: 2, error: 'failure 2' }]);
  });

  test('count how often a suspect was in hand when its node died', async () => {
    await using bundle = await setup(3);
    const { changes, failures } = bundle;
    await failures.suspect([]);
    await failures.suspect(changes.map(named));
    await failures.clear([named(changes[0]!)]);
    await failures.suspect(changes.slice(1).map(named));
    await failures.fail(named(changes[2]!), { error: 'no', delay: 0, attempts: 1 });
    await failures.clear([named(changes[2]!)]);
    expect((await failures.load()).map(({ deaths, attempts }) => [deaths, attempts])).toEqual([
      [2, 0],
      [0, 1],
    ]);
  });

  test('of a node that has lost the lease are refused, and change nothing', async () => {
    await using bundle = await setup(60);
    const { changes, failures, database, names, left } = bundle;
    await database.query(`UPDATE ${names.lockTable.sql} SET token = token + 1, holder = 'another'`);
    const change = named(changes[7]!);
    const lost = { code: 'ERR_LEASE_LOST' };
    const failure = { error: 'no', delay: 0, attempts: 1 };
    await expect(failures.fail(change, failure)).rejects.toMatchObject(lost);
    await expect(failures.suspect([change])).rejects.toMatchObject(lost);
    await expect(failures.clear([change])).rejects.toMatchObject(lost);
    await expect(failures.park(change, failure)).rejects.toMatchObject(lost);
    expect(await database.query(`SELECT FROM ${names.failedTable.sql}`)).toEqual([]);
    expect(await database.query(`SELECT FROM ${names.parkedTable.sql}`)).toEqual([]);
    expect(await left()).toEqual(range(60));
  });
});

describe.each([
  ['a single row', 1],
  ['one of a packed row', 60],
])('a change that is %s', (_, ids) => {
  test('is parked with all that it carries, and comes back as it was', async () => {
    await using bundle = await setup(ids);
    const { changes, failures, another, names, left, read, redriven, acknowledgements } = bundle;
    const change = changes.at(-1)!;
    await failures.fail(named(change), { error: 'no', delay: 0, attempts: 1 });
    await failures.park(named(change), { error: 'never', attempts: 5 });
    expect(await left()).toEqual(range(ids - 1));
    expect(await failures.load()).toEqual([]);
    const parked = await listParked(another, names, null, all);
    expect(parked).toEqual([
      { change, attempts: 5, error: 'never', parkedAt: expect.stringMatching(/^\d{4}-.*Z$/) },
    ]);

    const { sequence } = eventOf(change, 'test', null, null);
    expect(await redriveParked(another, names, ['1', sequence!])).toBe(1);
    expect(await listParked(another, names, null, all)).toEqual([]);
    // No pass meets it.
    expect(await left()).toEqual(range(ids - 1));
    await redriven.read(never);
    expect(read.map((each) => eventOf(each, 'test', null, null))).toEqual([
      eventOf(change, 'test', null, null),
    ]);
    // It is read once.
    await redriven.read(never);
    expect(read).toHaveLength(1);

    // It fails as any other, and is acknowledged as any other.
    const again = read[0]!;
    await failures.fail(named(again), { error: 'no', delay: 0, attempts: 1 });
    expect(await failures.load()).toMatchObject([{ ...named(again), attempts: 1 }]);
    await failures.park(named(again), { error: 'again', attempts: 1 });
    expect(await listParked(another, names, null, all)).toMatchObject([{ change, error: 'again' }]);
    expect(await redriveParked(another, names, 'all')).toBe(1);
    await redriven.read(never);
    expect(read).toHaveLength(2);
    await acknowledgements.acknowledge(redriven.numberOf(change.sequence!));
    expect(await bundle.database.query(`SELECT FROM ${names.logTable.sql} WHERE seq < 0`)).toEqual([]);
    expect(await left()).toEqual(range(ids - 1));
  });

  test('is discarded for good', async () => {
    await using bundle = await setup(ids);
    const { changes, failures, another, names, left } = bundle;
    for (const change of changes) await failures.park(named(change), { error: 'no', attempts: 1 });
    const sequences = changes.map((change) => eventOf(change, 'test', null, null).sequence!);
    expect((await listParked(another, names, null, all)).map(({ change }) => change)).toEqual(changes);
    const afterFirst = { limit: 1, after: sequences[0]! };
    expect((await listParked(another, names, null, afterFirst)).map(({ change }) => change)).toEqual(
      changes.slice(1, 2),
    );
    expect(await discardParked(another, names, sequences.slice(0, 1))).toBe(1);
    expect(await discardParked(another, names, 'all')).toBe(ids - 1);
    expect(await left()).toEqual([]);
    expect(await redriveParked(another, names, 'all')).toBe(0);
  });

  test('is parked once, although it was acknowledged or parked before', async () => {
    await using bundle = await setup(ids);
    const { changes, failures, another, names, acknowledgements, left } = bundle;
    const change = changes[0]!;
    await acknowledgements.acknowledge(change.sequence!);
    await failures.park(named(change), { error: 'no', attempts: 1 });
    expect(await listParked(another, names, null, all)).toEqual([]);
    expect(await left()).toEqual(range(ids).slice(1));
  });
});

test('a change is parked without another one that has the number of its row, since the sequence was set back', async () => {
  await using bundle = await setup(60);
  const { changes, failures, acknowledgements, database, names, another, left } = bundle;
  const change = changes.at(-1)!;
  await acknowledgements.acknowledge(changes[0]!.sequence!);
  const row = BigInt(writtenRow(change.sequence!));
  await database.query(`SELECT setval('${names.logSequence.sql}', $1, false)`, [row / 1000n]);
  await database.query('INSERT INTO items VALUES (1000)');
  await failures.park(named(change), { error: 'no', attempts: 1 });
  expect(await listParked(another, names, null, all)).toMatchObject([{ change }]);
  expect(await left()).toEqual([1000, ...range(59).slice(1)]);
  // Nothing is left of the change to be parked.
  await failures.park(named(change), { error: 'no', attempts: 1 });
  expect(await left()).toEqual([1000, ...range(59).slice(1)]);
});

test('a change is parked without a packed row that has the number of its row, since the sequence was set back', async () => {
  await using bundle = await setup(60);
  const { changes, failures, acknowledgements, database, names, another, left } = bundle;
  for (const { sequence } of changes.slice(2)) acknowledgements.acknowledgeSoon(sequence!);
  await acknowledgements.flush();
  const row = BigInt(writtenRow(changes[0]!.sequence!));
  await database.query(`SELECT setval('${names.logSequence.sql}', $1, false)`, [row / 1000n]);
  await database.query('INSERT INTO items SELECT generate_series(1001, 1060)');
  for (const change of changes.slice(0, 2)) {
    await failures.park(named(change), { error: 'no', attempts: 1 });
    // Nothing is left of the change to be parked.
    await failures.park(named(change), { error: 'no', attempts: 1 });
  }
  expect((await listParked(another, names, null, all)).map(({ change }) => change)).toEqual(
    changes.slice(0, 2),
  );
  expect(await left()).toEqual(Array.from({ length: 60 }, (_, n) => 1001 + n));
});

test('a change is parked although another session unpacks its row meanwhile', async () => {
  await using bundle = await setup(60);
  const { changes, failures, database, names, another, left } = bundle;
  const change = changes.at(-1)!;
  const client = await database.client();
  await client.query('BEGIN');
  const { unpack } = acknowledgementsSql(names);
  await client.query(unpack.text, ['{}', `{${writtenRow(change.sequence!)}}`]);
  const parking = failures.park(named(change), { error: 'no', attempts: 1 });
  await until(async () => (await database.query('SELECT FROM pg_locks WHERE NOT granted')).length > 0);
  await client.query('COMMIT');
  await parking;
  expect(await listParked(another, names, null, all)).toMatchObject([{ change }]);
  expect(await left()).toEqual(range(59));
});

test('the active node hands out what is redriven, also while it sleeps, and the next one what it left', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const first = await fixture.input();
  const consumer = new Consumer(first, { ack: 'manual' });
  await once(first, 'asleep');
  await database.query('INSERT INTO items SELECT generate_series(1, 3)');
  await consumer.count(3);
  const lockTable = 'postgres_input.lock_postgres_input_test_input';
  const parkedTable = 'postgres_input.parked_postgres_input_test_input';
  // What park() does, for a node that has no policy.
  await database.query(`
    WITH gone AS (DELETE FROM postgres_input.log_postgres_input_test_input RETURNING *)
    INSERT INTO ${parkedTable} (sequence, seq, xid, at, tbl, id, op, key, attempts, error)
    SELECT seq || (extract(epoch FROM at) * 1000000)::bigint::text, seq, xid, at, tbl, id, op, key, 1, 'no' FROM gone`);
  const before = consumer.events.slice();
  const parked = await first.parked();
  expect(parked).toEqual(
    before.map((event) => ({
      ...event,
      fencingToken: null,
      attempts: 1,
      error: 'no',
      parkedAt: expect.any(String),
    })),
  );
  expect(await first.redrive([parked[1]!.sequence!])).toBe(1);
  await consumer.count(4);
  expect(consumer.events[3]).toEqual(before[1]);
  // With a client, too.
  const client = await database.client();
  await client.query('BEGIN');
  await first.ack(consumer.events[3]!, client);
  await client.query('COMMIT');
  expect(await first.redrive('all')).toBe(2);
  await consumer.count(6);
  await first.ack(consumer.events[4]!);
  await first[Symbol.asyncDispose]();

  const second = new Consumer(await fixture.input());
  await second.count(1);
  expect(second.events).toMatchObject([
    { sequence: consumer.events[5]!.sequence, id: consumer.events[5]!.id },
  ]);
  const [lease] = await database.query(`SELECT holder FROM ${lockTable}`);
  expect(lease.holder).not.toBeNull();
});

test('changes with data that are redriven one right after the other come once each', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const input = await fixture.input({ rows: 'after' });
  const consumer = new Consumer(input, { ack: 'manual' });
  await once(input, 'asleep');
  for (let round = 1; round <= 3; round++) {
    // A shape that the term has not read yet.
    await database.query(`CREATE TABLE t${round} (id int PRIMARY KEY, c${round} text)`);
  }
  await until(async () => (await input.status()).watched.length === 4);
  for (let round = 1; round <= 3; round++)
    await database.query(`INSERT INTO t${round} SELECT generate_series(1, 10)`);
  await consumer.count(30);
  const events = consumer.events.slice();
  await Promise.all(events.map((event) => input.park(event)));
  await input[Symbol.asyncDispose]();

  const next = await fixture.input({ rows: 'after' });
  const again = new Consumer(next);
  await once(next, 'asleep');
  await Promise.all(events.map(({ sequence }) => next.redrive([sequence!])));
  await again.count(30);
  await database.query('INSERT INTO items VALUES (1, 1)');
  await until(() => again.ids.length > 30 && again.events.at(-1)!.location === 'items');
  const told = ({ sequence, after }: (typeof events)[number]) => JSON.stringify([sequence, after]);
  expect(again.events.slice(0, -1).map(told).toSorted()).toEqual(events.map(told).toSorted());
});

test.each([[null], ['some'], [['x']], [[5000]]])('redrive and discard refuse %o', async (which) => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const refused = { code: 'ERR_CONFIG_INVALID', message: expect.stringContaining('sequences') };
  await expect(input.redrive(which as never)).rejects.toMatchObject(refused);
  await expect(input.discard(which as never)).rejects.toMatchObject(refused);
});
