import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { Reader, type ReaderOptions } from '../../src/capture/reader.ts';
import type { ChangeEvent, PostgresInput, PostgresInputOptions } from '../../src/index.ts';
import { quoteIdentifier } from '../../src/postgres/quoting.ts';
import { Wakeup } from '../../src/postgres/wakeup.ts';
import { namesOf } from '../../src/schema/names.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { type TestDatabase } from '../support/database.ts';
import { NO_DETAILS } from '../support/no-details.ts';
import { startProxy } from '../support/proxy.ts';
import { replaceNotify } from '../support/replace-notify.ts';
import { setupInputs, untilQueueIsFull } from '../support/setup-inputs.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const { sleepKey, nodeChannel } = namesOf('test_input', 'postgres_input');

interface Fixture {
  readonly database: TestDatabase;
  readonly input: PostgresInput;
  readonly consumer: Consumer;
  /** What the triggers and others have sent on the input's channel. */
  readonly payloads: string[];
  /** One more input on the same database. */
  another(): Promise<PostgresInput>;
}

/** An input that is asleep, whose events are taken. */
async function setup(
  options: PostgresInputOptions = {},
  how: {
    prepare?: string;
    url?: (direct: string) => string;
    each?: (event: ChangeEvent) => unknown;
    ack?: 'manual';
  } = {},
): Promise<Fixture> {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database } = fixture;
  if (how.prepare) await database.query(how.prepare);
  const input = await fixture.input(options, how.url ? { url: how.url(database.url) } : {});
  const asleep = once(input, 'asleep');
  const consumer = new Consumer(input, { ack: how.ack ?? 'auto' }, how.each);
  await asleep;
  const ear = await database.client();
  const payloads: string[] = [];
  ear.on('notification', ({ payload }) => payloads.push(payload ?? ''));
  await ear.query('LISTEN test_input');
  return { database, input, consumer, payloads, another: () => fixture.input() };
}

/** Wakes the reader, which then stays awake until the returned function is called. */
async function keepAwake({ database, input }: Fixture): Promise<() => Promise<void>> {
  const client = await database.client();
  const awake = once(input, 'awake');
  const locked = client.query('SELECT pg_advisory_lock_shared($1)', [sleepKey]);
  await until(async () => {
    const waiting = await database.query(
      `SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return waiting.length > 0;
  });
  await database.query(`NOTIFY test_input, '[]'`);
  await Promise.all([awake, locked]);
  return async () => {
    const asleep = once(input, 'asleep');
    await client.query('SELECT pg_advisory_unlock_shared($1)', [sleepKey]);
    await asleep;
  };
}

/** With these, and without acknowledgements, the control session asks only what the reader does. */
const QUIET: PostgresInputOptions = {
  lease: { duration: 600_000, renewInterval: 200_000 },
  discoveryInterval: 600_000,
};

/** When the active node's control session began its last statement. */
async function lastStatement(database: TestDatabase): Promise<string> {
  const [row] = await database.query(
    `SELECT query_start::text AS began FROM pg_stat_activity
     WHERE pid = (SELECT backend_pid FROM postgres_input.lock_postgres_input_test_input)`,
  );
  return row.began;
}

/** Waits until the node has heard all that was notified before: the forgery comes after it. Wakes a sleeping reader. */
async function untilHeard({ database, input }: Fixture): Promise<void> {
  const forged = new Promise<void>((resolve) => void input.once('forged', () => resolve()));
  await database.query(`NOTIFY test_input, '[{"mac":"","is":"the end"}]'`);
  await forged;
}

/** Waits until the reader has the sleep lock. */
const untilLocked = (database: TestDatabase) =>
  until(async () => {
    const locks = await database.query(
      `SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    );
    return locks.length > 0;
  });

/** Waits until the reader has the sleep lock, knows so, and goes on to read the log. */
async function untilTurning(database: TestDatabase): Promise<void> {
  await untilLocked(database);
  await until(async () => {
    const trying = await database.query(
      `SELECT FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock%'
       AND pid = (SELECT backend_pid FROM postgres_input.lock_postgres_input_test_input)`,
    );
    return trying.length === 0;
  });
}

const insert = ({ query }: Pick<TestDatabase, 'query'>, ...ids: number[]) =>
  query('INSERT INTO items SELECT unnest($1::int[])', [ids]);

/** A connection for a transaction. */
async function transaction(database: TestDatabase): Promise<Pick<TestDatabase, 'query'>> {
  const client = await database.client();
  await client.query('BEGIN');
  return { query: async (sql, params) => (await client.query(sql, params)).rows };
}

/** What has come, and comes until one more change does; each with a sequence of its own. */
async function allIds({ database, consumer }: Fixture): Promise<number[]> {
  await insert(database, -1);
  await until(() => consumer.ids.includes('-1'));
  expect(new Set(consumer.events.map(({ sequence }) => sequence)).size).toBe(consumer.events.length);
  expect(consumer.ids.at(-1)).toBe('-1');
  return consumer.ids.slice(0, -1).map(Number);
}

describe('a reader that is asleep', () => {
  test('hands out a notified change without a query', async () => {
    const { database, consumer, payloads } = await setup(QUIET, { ack: 'manual' });
    const before = await lastStatement(database);
    await insert(database, 1, 2);
    await insert(database, 3);
    await consumer.count(3);
    expect(await lastStatement(database)).toBe(before);
    await until(() => payloads.length === 2);
    expect(consumer.events[0]).toEqual({
      location: 'items',
      operation: 'create',
      id: '1',
      trigger: 'test_input',
      sequence: expect.stringMatching(/^\d+$/),
      key: { id: '1' },
      occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/),
      transaction: expect.stringMatching(/^\d+$/),
      ...NO_DETAILS,
      fencingToken: expect.stringMatching(/^\d{16}$/),
    });
  });

  test('gives a change the same fields as when it is awake', async () => {
    const name = `"T ""1"" é"`;
    const prepare = `CREATE TABLE ${name} (a text, b timestamptz, v int, PRIMARY KEY (a, b)); CREATE TABLE keyless (v int)`;
    const fixture = await setup({}, { prepare });
    const { database, consumer } = fixture;
    const write = async () => {
      await database.query(
        `INSERT INTO ${name} VALUES ('"x', '2026-01-31', 1); INSERT INTO keyless VALUES (1)`,
      );
      await database.query(`UPDATE ${name} SET v = 2; DELETE FROM ${name}; TRUNCATE keyless`);
    };
    await write();
    await consumer.count(5);
    const release = await keepAwake(fixture);
    await write();
    await consumer.count(10);
    await release();
    const told = consumer.events.map((event) => ({
      ...event,
      sequence: '',
      occurredAt: '',
      transaction: '',
    }));
    expect(told.slice(5)).toEqual(told.slice(0, 5));
    const times = consumer.events.map(({ occurredAt }) => occurredAt!);
    expect(times).toEqual(times.toSorted());
  });

  test.each([
    [50, /^\[\{"mac":"[0-9a-f]{64}"\},\{.*\}\]$/],
    [51, /^\[\]$/],
  ])('gets %i changes of one statement by a payload like %s', async (count, form) => {
    const fixture = await setup();
    const ids = Array.from({ length: count }, (_, n) => n + 1);
    await insert(fixture.database, ...ids);
    await fixture.consumer.count(count);
    await until(() => fixture.payloads.length > 0);
    expect(fixture.payloads).toEqual([expect.stringMatching(form)]);
    expect(await allIds(fixture)).toEqual(ids);
  });

  test('gets payloads of nearly 8000 bytes, and longer ones by the log', async () => {
    const fixture = await setup({}, { prepare: 'CREATE TABLE long (id text PRIMARY KEY)' });
    const { database, consumer, payloads } = fixture;
    let sleeps = 0;
    fixture.input.on('asleep', () => sleeps++);
    // Two bytes each, so that bytes and characters are told apart.
    const ids = Array.from({ length: 60 }, (_, n) => 'é'.repeat(3820 + 2 * n));
    for (const [n, id] of [...ids, '"'.repeat(5000), 'x'.repeat(100_000)].entries()) {
      const before = sleeps;
      await database.query('INSERT INTO long VALUES ($1)', [id]);
      await consumer.count(n + 1);
      await until(() => payloads.length === n + 1);
      if (payloads[n] === '[]') await until(() => sleeps > before);
    }
    const lengths = payloads.map((payload) => Buffer.byteLength(payload));
    expect(Math.max(...lengths)).toBeLessThan(8000);
    expect(Math.max(...lengths)).toBeGreaterThan(7950);
    expect(payloads[0]).toMatch(/^\[\{"mac"/);
    expect(payloads.slice(-10)).toEqual(Array.from({ length: 10 }, () => '[]'));
    expect(consumer.ids.slice(0, 60)).toEqual(ids);
  });
});

describe('the reader', () => {
  test('is not notified while it is awake, or gone', async () => {
    const fixture = await setup();
    const { database, input, consumer, payloads } = fixture;
    const release = await keepAwake(fixture);
    await insert(database, 1);
    await consumer.count(1);
    await release();
    await insert(database, 2);
    await consumer.count(2);
    await input.close();
    await insert(database, 3);
    await database.query(`NOTIFY test_input, 'end'`);
    await until(() => payloads.includes('end'));
    expect(payloads).toEqual(['[]', expect.stringContaining('"id" : "2"'), 'end']);
  });
});

/** A reader without an input around it. */
const LONE = {
  rows: 'none',
  signature: { secret: Buffer.alloc(0), database: '' },
  hold: { holder: '', token: null },
  foreignNotifications: 'accept',
  notifications: 'changes',
  markerTimeout: 60_000,
  notify: () => {},
  fail: () => {},
} satisfies Partial<ReaderOptions>;

test('waits longer after every empty pass, up to 50 ms', async () => {
  await using fixture = await setupSessions();
  const stop = new AbortController();
  // A transaction that need not notify keeps the reader awake.
  const client = await fixture.database.client();
  await client.query('SELECT pg_advisory_lock_shared($1)', [fixture.names.sleepKey]);
  const passes: number[] = [];
  const reader = new Reader({
    ...LONE,
    session: await fixture.session(),
    names: fixture.names,
    sink: {
      room: 4000,
      roomApart: 4000,
      push: () => {},
      async waitForRoom() {
        passes.push(performance.now()); // it is asked before each page, and here each pass is one
        if (passes.length === 15) stop.abort();
      },
    },
  });
  await reader.run(stop.signal);
  // The pauses are 2, 6, 14, 30 and then 50 ms; a timer may fire a millisecond early.
  expect(passes[14]! - passes[4]!).toBeGreaterThan(10 * 49);
});

test('makes no pass beyond the snapshot of a chunk that is read ahead, until the chunk is there or given up', async () => {
  await using fixture = await setupSessions();
  const stop = new AbortController();
  await fixture.database.query('INSERT INTO items VALUES (1)');
  let steps = 0;
  const pushedAfter: number[] = [];
  const reader = new Reader({
    ...LONE,
    session: await fixture.session(),
    names: fixture.names,
    sink: {
      room: 4000,
      roomApart: 4000,
      push(changes) {
        if (changes.length === 0) return;
        pushedAfter.push(steps);
        stop.abort();
      },
      waitForRoom: async () => {},
    },
    backfills: {
      isReady: true,
      keepAhead: () => steps < 3,
      async step() {
        steps++;
        return false;
      },
      end: async () => {},
    },
  });
  await reader.run(stop.signal);
  expect(pushedAfter).toEqual([3]);
});

describe('a transaction', () => {
  test('that begins while the reader is asleep and ends while it is awake comes once, by the log', async () => {
    const fixture = await setup();
    const { database, consumer } = fixture;
    const writer = await transaction(database);
    await insert(writer, 1);
    const release = await keepAwake(fixture);
    await insert(writer, 2);
    await insert(database, 11);
    await consumer.count(1);
    await writer.query('COMMIT');
    await consumer.count(3);
    await release();
    expect(await allIds(fixture)).toEqual([11, 1, 2]);
  });

  test('that begins in one sleep and ends in a later one comes once, by its notification', async () => {
    const fixture = await setup(QUIET, { ack: 'manual' });
    const { database, consumer } = fixture;
    const writer = await transaction(database);
    await insert(writer, 1);
    for (const id of [11, 12]) {
      const release = await keepAwake(fixture);
      await insert(database, id);
      await consumer.count(id - 10);
      await release();
    }
    await insert(database, 13);
    await consumer.count(3);
    const before = await lastStatement(database);
    await insert(writer, 2);
    await writer.query('COMMIT');
    await consumer.count(5);
    expect(await lastStatement(database)).toBe(before);
    await (
      await keepAwake(fixture)
    )();
    expect(await allIds(fixture)).toEqual([11, 12, 13, 1, 2]);
  });

  test('that does not notify keeps the reader awake until it ends, and delays no other', async () => {
    const fixture = await setup();
    const { database, consumer, input } = fixture;
    const release = await keepAwake(fixture);
    const writer = await transaction(database);
    await insert(writer, 1);
    let asleep = false;
    input.on('asleep', () => (asleep = true));
    const released = release();
    for (let id = 11; id <= 30; id++) {
      await insert(database, id);
      await consumer.count(id - 10);
    }
    await insert(writer, 2);
    expect(asleep).toBe(false);
    await writer.query('COMMIT');
    await released;
    await consumer.count(22);
    expect(await allIds(fixture)).toEqual([...Array.from({ length: 20 }, (_, n) => n + 11), 1, 2]);
  });

  test('that is rolled back, in part or as a whole, does not come', async () => {
    const fixture = await setup();
    const { database, consumer } = fixture;
    const write = async (from: number) => {
      const kept = await transaction(database);
      await insert(kept, from);
      await kept.query('SAVEPOINT s');
      await insert(kept, from + 1);
      await kept.query('ROLLBACK TO s');
      await insert(kept, from + 2);
      await kept.query('COMMIT');
      const undone = await transaction(database);
      await insert(undone, from + 3);
      await undone.query('ROLLBACK');
    };
    await write(10);
    await consumer.count(2);
    const release = await keepAwake(fixture);
    await write(20);
    await consumer.count(4);
    await release();
    expect(await allIds(fixture)).toEqual([10, 12, 20, 22]);
  });

  test.runIf(inject('preparedTransactions'))(
    'prepared while the reader is awake comes when it is committed',
    async () => {
      const fixture = await setup();
      const { database, consumer } = fixture;
      const release = await keepAwake(fixture);
      await database.query(`BEGIN; INSERT INTO items VALUES (1); PREPARE TRANSACTION '${database.name}'`);
      const released = release();
      await insert(database, 2);
      await consumer.count(1);
      await database.query(`COMMIT PREPARED '${database.name}'`);
      await released;
      await consumer.count(2);
      expect(await allIds(fixture)).toEqual([2, 1]);
    },
  );
});

describe('a reader that turns to sleep', () => {
  /** The same behind a proxy, whose second connection is the listener's. */
  async function setupBehindProxy(each?: (event: ChangeEvent) => unknown) {
    const { hostname, port } = new URL(inject('adminUrl'));
    const proxy = await startProxy(hostname, Number(port || 5432));
    onTestFinished(() => proxy.close());
    const lease = { duration: 120_000, renewInterval: 30_000 };
    const url = (direct: string) => proxy.url(direct);
    const fixture = await setup({ lease }, each ? { url, each } : { url });
    const [{ client_port }] = await fixture.database.query(
      `SELECT client_port FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dapper%'
       AND pid <> (SELECT backend_pid FROM postgres_input.lock_postgres_input_test_input)`,
    );
    const freeze = () => proxy.freeze('to-client', ({ clientPort }) => clientPort === client_port);
    return { fixture, proxy, freeze };
  }

  test('hands out once the changes notified before its marker and those notified after it', async () => {
    const { fixture, proxy, freeze } = await setupBehindProxy();
    const { database, consumer } = fixture;
    // Both are told to notify, in this sleep.
    const [early, late] = [await transaction(database), await transaction(database)];
    await insert(early, 1);
    await insert(late, 2);
    const release = await keepAwake(fixture);
    freeze();
    await early.query('COMMIT'); // its notification is on its way; the log is read first
    await consumer.count(1);
    const released = release();
    // Turning: the lock is held again, and the marker does not arrive.
    await untilLocked(database);
    // Committed before or after the page was read: either way once.
    await insert(database, 3);
    await late.query('COMMIT');
    await insert(database, 4);
    await until(() => fixture.payloads.length === 5);
    proxy.thaw();
    await released;
    const ids = await allIds(fixture);
    expect(ids[0]).toBe(1);
    expect(ids.toSorted((a, b) => a - b)).toEqual([1, 2, 3, 4]);
  });

  test('hands out once a change notified while pages of its transaction remain to be read', async () => {
    const hold = new Wakeup();
    const { fixture, proxy, freeze } = await setupBehindProxy(({ id }) =>
      id === '1' ? hold.wait(Infinity, new AbortController().signal) : undefined,
    );
    const { database, consumer } = fixture;
    const writer = await transaction(database);
    await insert(writer, 1); // will be notified
    const release = await keepAwake(fixture);
    freeze();
    await writer.query('INSERT INTO items SELECT generate_series(2, 9000)'); // will not
    await writer.query('COMMIT');
    await consumer.count(1);
    const heard = untilHeard(fixture);
    proxy.thaw();
    await heard;
    hold.wake();
    await consumer.count(9000);
    await release();
    expect(await allIds(fixture)).toEqual(Array.from({ length: 9000 }, (_, n) => n + 1));
  });

  test('turns back when too many notifications arrive, and hands out their changes once', async () => {
    const { fixture, proxy, freeze } = await setupBehindProxy();
    const { database, consumer } = fixture;
    // A statement each, told to notify, in this sleep; a single transaction would not announce so many.
    const writers = await Promise.all([1, 2, 3].map(() => transaction(database)));
    const ids = Array.from({ length: 120 }, (_, n) => n + 1);
    for (const id of ids) await insert(writers[Math.floor((id - 1) / 40)]!, id);
    const release = await keepAwake(fixture);
    freeze();
    for (const writer of writers) await writer.query('COMMIT');
    await consumer.count(120);
    const ear = await database.client();
    let markers = 0;
    ear.on('notification', () => markers++);
    await ear.query(`LISTEN ${quoteIdentifier(nodeChannel)}`);
    const released = release();
    await untilTurning(database);
    proxy.thaw();
    await released;
    await until(() => markers > 1); // each attempt to fall asleep sends one
    expect(await allIds(fixture)).toEqual(ids);
  });

  test('ends the node when its own marker does not arrive', async () => {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const input = await fixture.input({ lease: { duration: 2000, margin: 500, renewInterval: 250 } });
    let isAsleep = false;
    input.on('asleep', () => (isAsleep = true));
    // From a certain moment on, the server loses what is notified on the nodes' channel, and no error tells so.
    await fixture.database.query('CREATE SCHEMA faults; CREATE TABLE faults.begun ()');
    await replaceNotify(
      fixture.database,
      `IF $1 <> '${nodeChannel}' OR NOT EXISTS (SELECT FROM faults.begun) THEN
         PERFORM pg_notify_in_earnest($1, $2);
       END IF;`,
    );
    const client = await fixture.database.client();
    await client.query('SELECT pg_advisory_lock_shared($1)', [sleepKey]);
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    await client.query(
      `INSERT INTO faults.begun DEFAULT VALUES; SELECT pg_advisory_unlock_shared(${sleepKey})`,
    );
    expect(await consumer.ended).toMatchObject({
      code: 'ERR_CONNECTION_LOST',
      message: expect.stringContaining('notifications no longer arrive'),
    });
    expect(isAsleep).toBe(false);
  });
});

describe('anybody on the channel', () => {
  /** A payload of our triggers'. */
  async function recorded(fixture: Fixture): Promise<string> {
    await insert(fixture.database, 1);
    await until(() => fixture.payloads.length > 0);
    await fixture.consumer.count(1);
    return fixture.payloads.pop()!;
  }

  test('gets no event by sending a payload again, in the same sleep or later', async () => {
    const fixture = await setup();
    const { database, input } = fixture;
    const payload = await recorded(fixture);
    const replay = () => database.query(`SELECT pg_notify('test_input', $1)`, [payload]);
    await replay();
    const release = await keepAwake(fixture);
    await replay();
    await release();
    await replay();
    expect(await allIds(fixture)).toEqual([1]);
    expect(await input.status()).toMatchObject({ forgedNotifications: 0, ignoredNotifications: 0 });

    // In a later term.
    await input.close();
    const later = await fixture.another();
    const consumer = new Consumer(later);
    await once(later, 'asleep');
    await replay();
    await insert(database, -2);
    await consumer.count(1);
    expect(consumer.ids).toEqual(['-2']);
  });

  test('causes no repeated event by the payload []', async () => {
    const fixture = await setup();
    await insert(fixture.database, 1);
    await fixture.database.query(`NOTIFY test_input, '[]'`);
    await insert(fixture.database, 2);
    await fixture.database.query(`NOTIFY test_input, '[]'`);
    expect(await allIds(fixture)).toEqual([1, 2]);
  });

  test('gets no event by a forged payload, which is counted', async () => {
    const fixture = await setup();
    const { database, input, payloads } = fixture;
    const payload = await recorded(fixture);
    const forgeries = [
      payload.replace('"id" : "1"', '"id" : "2"'),
      payload.replace(/^\[\{"mac":"[0-9a-f]*"\},/, '['),
      payload.slice(0, -1).replace(/$/, `,{"seq":"999"}]`),
      '{"seq":"1","tbl":"items","id":"1","op":"INSERT"}',
    ];
    let forged = 0;
    input.on('forged', () => forged++);
    // The first one makes the reader look into the log.
    const hasLooked = once(input, 'awake').then(() => once(input, 'asleep'));
    for (const forgery of forgeries) {
      expect(forgery).not.toBe(payload);
      await database.query(`SELECT pg_notify('test_input', $1)`, [forgery]);
    }
    await hasLooked;
    const release = await keepAwake(fixture);
    await database.query(`SELECT pg_notify('test_input', $1)`, [forgeries[0]]);
    await until(() => forged === 5);
    await release();
    await until(() => payloads.length === 6);
    expect(await allIds(fixture)).toEqual([1]);
    expect(await input.status()).toMatchObject({ forgedNotifications: 5, ignoredNotifications: 0 });
  });

  test('makes the reader look in the log by unknown signatures, but not once for each', async () => {
    const fixture = await setup();
    const { database, input, consumer } = fixture;
    await recorded(fixture);
    // As if somebody had installed anew.
    await database.query(`
    UPDATE postgres_input.secret_postgres_input_test_input SET inner_pad = outer_pad, outer_pad = inner_pad`);
    let awake = 0;
    input.on('awake', () => awake++);
    const before = consumer.events.length;
    await database.query('INSERT INTO items VALUES (7)');
    await until(() => consumer.events.length > before);
    let forged = 0;
    input.on('forged', () => forged++);
    const began = performance.now();
    for (let n = 0; n < 100; n++)
      await database.query(`SELECT pg_notify('test_input', '[{"mac":"","n":${n}}]')`);
    await until(() => forged === 100);
    expect(awake).toBeLessThanOrEqual(2 + (performance.now() - began) / 1000);
  });

  test('reads every change that is signed with a new secret, also soon after a forgery made the reader look', async () => {
    const fixture = await setup();
    const { database, input, consumer } = fixture;
    // As if somebody had installed anew.
    await database.query(`
    UPDATE postgres_input.secret_postgres_input_test_input SET inner_pad = outer_pad, outer_pad = inner_pad`);
    for (const id of [7, 8, 9]) {
      const asleepAgain = once(input, 'awake').then(() => once(input, 'asleep'));
      await insert(database, id);
      await until(() => consumer.ids.includes(String(id)), 10_000);
      await asleepAgain;
    }
    expect(consumer.ids).toEqual(['7', '8', '9']);
  });
});

test('a slow consumer gets every change once and in order', async () => {
  const hold = new Wakeup();
  const each = ({ id }: ChangeEvent) =>
    id === '1' ? hold.wait(Infinity, new AbortController().signal) : undefined;
  const { database, consumer } = await setup({}, { each });
  await insert(database, 1);
  await consumer.count(1);
  for (let from = 2; from < 9002; from += 50) {
    await database.query('INSERT INTO items SELECT generate_series($1::int, $1::int + 49)', [from]);
  }
  await untilQueueIsFull(database);
  hold.wake();
  await consumer.count(9001);
  expect(consumer.ids).toEqual(Array.from({ length: 9001 }, (_, n) => String(n + 1)));
});

test('masses of foreign notifications push out no logged change', async () => {
  const hold = new Wakeup();
  const each = ({ id }: ChangeEvent) =>
    id === '1' ? hold.wait(Infinity, new AbortController().signal) : undefined;
  const fixture = await setup({}, { each });
  const { database, consumer } = fixture;
  await insert(database, 1);
  await consumer.count(1);
  await database.query(
    `SELECT pg_notify('test_input', json_build_object('tbl', 'theirs', 'id', n, 'op', 'INSERT')::text)
     FROM generate_series(10001, 15000) n`,
  );
  await insert(database, 2);
  await untilHeard(fixture);
  hold.wake();
  await consumer.count(5002);
  expect(consumer.events.filter(({ location }) => location === 'items').map(({ id }) => id)).toEqual([
    '1',
    '2',
  ]);
});

test('caps queued foreign notifications at 10,000', async () => {
  const fixture = await setup(
    { lease: { duration: 120_000, renewInterval: 30_000 } },
    { each: () => new Wakeup().wait(Infinity, new AbortController().signal) },
  );
  const { database, input, consumer } = fixture;
  await insert(database, 1);
  await consumer.count(1);
  const announce = (from: number, to: number) =>
    database.query(
      `SELECT pg_notify('test_input', json_build_object('tbl', 't', 'id', n, 'op', 'INSERT')::text)
       FROM generate_series($1::int, $2::int) n`,
      [from, to],
    );
  await announce(0, 13_999);
  await untilHeard(fixture);
  expect(await input.status()).toMatchObject({ ignoredNotifications: 0 });
  await announce(14_000, 14_099);
  await untilHeard(fixture);
  expect(await input.status()).toMatchObject({ ignoredNotifications: 100 });
});

test('nothing is lost, repeated or reordered while a changing load puts the reader to sleep and wakes it', async () => {
  const fixture = await setup();
  const { database, consumer, input } = fixture;
  let sleeping = true;
  input.on('asleep', () => (sleeping = true)).on('awake', () => (sleeping = false));
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 40) n');
  await consumer.count(40);
  let seed = 1;
  const random = (below: number) => (seed = (seed * 48_271) % 2_147_483_647) % below;
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  const load = { phase: 'calm' as 'calm' | 'singles' | 'bulks' | 'over' };

  /** Updates rows in the order of their keys, so that writers wait for each other and do not deadlock. */
  async function write(
    writer: Pick<TestDatabase, 'query'>,
    rows = load.phase === 'bulks' ? 30 : 1,
  ): Promise<number> {
    const first = 1 + random(41 - rows);
    const changed = await writer.query(
      `WITH mine AS (SELECT id FROM items WHERE id BETWEEN $1 AND $2 ORDER BY id FOR UPDATE)
       UPDATE items SET value = value + 1 FROM mine WHERE items.id = mine.id RETURNING 1`,
      [first, first + rows - 1],
    );
    return changed.length;
  }
  async function writeTransaction(writer: Pick<TestDatabase, 'query'>): Promise<number> {
    await writer.query('BEGIN');
    const changes = await write(writer);
    await wait(random(60));
    const undone = random(3) === 0;
    await writer.query(undone ? 'ROLLBACK' : 'COMMIT');
    return undone ? 0 : changes;
  }
  const writing = Promise.all(
    Array.from({ length: 6 }, async () => {
      const client = await database.client();
      const writer: Pick<TestDatabase, 'query'> = {
        query: async (sql, params) => (await client.query(sql, params)).rows,
      };
      let changes = 0;
      while (load.phase !== 'over') {
        if (load.phase === 'calm') await wait(150 + random(300));
        changes += random(6) === 0 ? await writeTransaction(writer) : await write(writer);
      }
      return changes;
    }),
  );
  let total = 40;
  for (let round = 0; round < 8; round++) {
    load.phase = round % 2 === 0 ? 'singles' : 'bulks';
    // Single changes wake the reader where they are many a second; all rows at once do so on any machine.
    total += await write(database, 40);
    await until(() => !sleeping);
    await wait(random(300));
    load.phase = 'calm';
    await until(() => sleeping);
    await wait(random(300));
  }
  load.phase = 'over';
  total += (await writing).reduce((sum, changes) => sum + changes, 0);
  await consumer.count(total);
  expect(await allIds(fixture)).toHaveLength(total);

  const last = new Map<string, bigint>();
  const disordered = consumer.events.filter(({ id, sequence }) => {
    const before = last.get(id) ?? 0n;
    last.set(id, BigInt(sequence!));
    return before >= BigInt(sequence!);
  });
  expect(disordered).toEqual([]);
  const [{ sum }] = await database.query('SELECT sum(value)::int FROM items');
  expect(total).toBe(40 + sum);
  expect(total).toBeGreaterThan(1000);
}, 120_000);

describe('with bare notifications, a reader that is asleep', () => {
  const BARE: PostgresInputOptions = { ...QUIET, notifications: 'bare' };

  test('hands out changes of which a stranger who listens hears no key, and stays asleep', async () => {
    const fixture = await setup(BARE, { prepare: 'CREATE TABLE texts (id text PRIMARY KEY)' });
    const { database, input, consumer, payloads } = fixture;
    let awoken = 0;
    input.on('awake', () => awoken++);
    const statements = [
      'INSERT INTO items VALUES (1), (2)',
      'UPDATE items SET value = 1 WHERE id = 1',
      'UPDATE items SET id = 3 WHERE id = 1',
      `INSERT INTO texts VALUES (repeat('x', 2000))`,
      'DELETE FROM items WHERE id = 2',
      'TRUNCATE items',
    ];
    const counts = [2, 3, 5, 6, 7, 8];
    for (const [i, statement] of statements.entries()) {
      await database.query(statement);
      await until(() => consumer.events.length === counts[i]);
    }
    await until(() => payloads.length >= statements.length);
    expect(payloads).toEqual(statements.map(() => '[]'));
    expect(awoken).toBe(0);
  });

  test('hands out what many write at once, each change once', async () => {
    const fixture = await setup(BARE);
    const { database } = fixture;
    const ids = Array.from({ length: 400 }, (_, i) => i + 1);
    const writers = await Promise.all(Array.from({ length: 4 }, () => database.client()));
    await Promise.all(
      writers.map(async (writer, w) => {
        for (const id of ids.filter((n) => n % 4 === w))
          await writer.query('INSERT INTO items VALUES ($1)', [id]);
      }),
    );
    expect((await allIds(fixture)).toSorted((a, b) => a - b)).toEqual(ids);
  });

  test('wakes up for a statement that changes many rows', async () => {
    const fixture = await setup(BARE);
    const awake = once(fixture.input, 'awake');
    await fixture.database.query('INSERT INTO items SELECT generate_series(1, 5000)');
    await awake;
    await until(() => fixture.consumer.events.length >= 5000);
    expect(new Set(fixture.consumer.ids).size).toBe(5000);
  });
});
