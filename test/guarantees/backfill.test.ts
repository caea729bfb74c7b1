/** Rows that tables hold already, as `read` events: exact among the changes, complete, and each once. */
import { expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent, LifecycleEvents } from '../../src/index.ts';
import { tellOfBackfill } from '../../src/schema/initial-backfill.ts';
import { namesOf } from '../../src/schema/names.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { KEYS, TABLES_WITH_KEYS, keyTable } from '../support/keys.ts';
import { setupInputs, untilQueueIsFull } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

/** Resolves when no backfill is under way. */
const untilIdle = (database: TestDatabase): Promise<void> =>
  until(async () => {
    const open = await database.query(
      "SELECT FROM postgres_input.backfill_postgres_input_test_input WHERE state IN ('waiting', 'running')",
    );
    return open.length === 0;
  });

function makeGate() {
  let resolve = () => {};
  const promise = new Promise<void>((open) => (resolve = open));
  return { promise, resolve };
}

/** Resolves when so many sessions wait for a lock. */
const untilLocked = (database: TestDatabase, count = 1): Promise<void> =>
  until(async () => {
    const waiting = await database.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'",
    );
    return waiting.length >= count;
  });

const reads = (events: readonly ChangeEvent[]) => events.filter(({ operation }) => operation === 'read');

test('every row comes once, with its data, also to a node that is asleep', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n * 2 FROM generate_series(1, 5000) n');
  const input = await fixture.input({ rows: 'after' });
  const consumer = new Consumer(input);
  await once(input, 'asleep');
  const backfill = await input.backfill();
  await backfill.done;
  expect(reads(consumer.events).map(({ after }) => after)).toEqual(
    Array.from({ length: 5000 }, (_, i) => ({ id: i + 1, value: (i + 1) * 2 })),
  );
  expect(new Set(consumer.events.map(({ sequence }) => sequence)).size).toBe(5000);
  expect(consumer.events[0]).toMatchObject({
    location: 'items',
    operation: 'read',
    id: '1',
    key: { id: '1' },
    before: null,
    transaction: null,
    attempt: 1,
    sequence: expect.stringMatching(/^\d{48}$/),
  });
  expect(await backfill.progress()).toEqual([
    { table: 'items', done: 5000, estimated: expect.any(Number), state: 'done', error: null },
  ]);
  await database.query('INSERT INTO items VALUES (0, 0)');
  await consumer.count(5001);
  expect(consumer.ids.at(-1)).toBe('0');
});

test.each([{}, { tables: ['items'] }])(
  'a backfill before the installation is refused, and told how tables come to be watched: %j',
  async (request) => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    await expect(input.backfill(request)).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringMatching(/no table is watched[^]*`initial`/),
    });
  },
);

test('a read has what the events of its table have, and no more', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE TABLE users (id int PRIMARY KEY, name text, secret text); INSERT INTO users VALUES (1, 'ada', 'x');
    CREATE TABLE bare (id int PRIMARY KEY); INSERT INTO bare VALUES (1); INSERT INTO items VALUES (1, 2);
    CREATE TABLE unread (id int PRIMARY KEY); INSERT INTO unread VALUES (1)`);
  const input = await fixture.input({
    rows: 'after',
    initial: 'read',
    watch: {
      users: { columns: { exclude: ['secret'] } },
      bare: { rows: 'none' },
      unread: { operations: ['create'] },
      'it*': { columns: ['value'] },
    },
  });
  const consumer = new Consumer(input);
  await consumer.count(3);
  expect(new Map(consumer.events.map(({ location, after }) => [location, after]))).toEqual(
    new Map<string, unknown>([
      ['users', { id: 1, name: 'ada' }],
      ['bare', null],
      ['items', { value: 2 }],
    ]),
  );
  await expect(input.backfill({ tables: ['nothing', 'unread'] })).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
    message: expect.stringMatching(/nothing is not watched[^]*unread: operations leaves out 'read'/),
  });
  const backfill = await input.backfill();
  await backfill.done;
  const tables = (await backfill.progress()).map(({ table }) => table);
  expect(tables).toEqual(['bare', 'items', 'users']);
  expect(consumer.events.length).toBe(6);
});

test('a table whose own operations have reads is read, although those of the others have none', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(
    'CREATE TABLE others (id int PRIMARY KEY); INSERT INTO others VALUES (1); INSERT INTO items VALUES (1, 2)',
  );
  const input = await fixture.input(
    { watch: { items: { operations: ['read', 'create'] }, others: {} } },
    { operations: ['create'] },
  );
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill();
  await backfill.done;
  expect(consumer.events.map(({ location, operation }) => [location, operation])).toEqual([
    ['items', 'read'],
  ]);
});

test('keys of every type are read in their own order, each row once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(TABLES_WITH_KEYS);
  for (const [type, values] of Object.entries(KEYS))
    for (const value of values) await database.query(`INSERT INTO ${keyTable(type)} VALUES ($1)`, [value]);
  const input = await fixture.input({ rows: 'after', tables: { exclude: ['items'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ chunk: 1 });
  await backfill.done;
  const found = await backfill.progress();
  const expected = Object.keys(KEYS).map((type) => ({ table: `${type} key`, done: 2, error: null }));
  expect(found.map(({ table, done, error }) => ({ table, done, error }))).toEqual(
    expect.arrayContaining(expected),
  );
  const sequences = reads(consumer.events).map(({ sequence }) => sequence);
  expect(sequences.length).toBe(2 * expected.length);
  expect(new Set(sequences).size).toBe(sequences.length);
  expect(sequences.filter((sequence) => !/^\d{48}$/.test(sequence ?? ''))).toEqual([]);
});

test.skipIf(Number(process.env['TEST_PG_MAJOR'] || 18) < 18)(
  'rows whose key is WITHOUT OVERLAPS are all read, each once',
  async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    await database.query(`
      CREATE TABLE lease (rooms int4range, during daterange, PRIMARY KEY (rooms, during WITHOUT OVERLAPS));
      INSERT INTO lease SELECT int4range(n, n + 10), daterange('2026-01-01'::date + n % 7, NULL) FROM generate_series(1, 100) n`);
    const input = await fixture.input({ tables: { exclude: ['items'] } });
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    const backfill = await input.backfill({ chunk: 10 });
    await backfill.done;
    expect(new Set(consumer.ids).size).toBe(100);
    expect(consumer.events.length).toBe(100);
  },
);

test('rows of two tables have sequences of their own, although their keys are the same', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`CREATE TABLE others (id int PRIMARY KEY);
    INSERT INTO items SELECT n, n FROM generate_series(1, 20) n; INSERT INTO others SELECT generate_series(1, 20)`);
  const input = await fixture.input();
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill();
  await backfill.done;
  expect(new Set(reads(consumer.events).map(({ sequence }) => sequence)).size).toBe(40);
});

test('no read is older than a change before it or newer than one after it, while writers write and nodes are killed', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const ROWS = 400;
  await database.query(
    `ALTER TABLE items ADD version int NOT NULL DEFAULT 0; INSERT INTO items SELECT n, 0, 1 FROM generate_series(1, ${ROWS}) n`,
  );
  const replica = new Map<number, number>();
  const seen = new Map<number, number>();
  const wrong: string[] = [];
  const apply = (event: ChangeEvent) => {
    const { operation, id, after } = event;
    const key = Number(id);
    if (operation === 'delete') {
      replica.delete(key);
      return;
    }
    const version = (after as { version: number }).version;
    if (version < (seen.get(key) ?? 0)) wrong.push(`${operation} ${id}: ${version} after ${seen.get(key)}`);
    seen.set(key, version);
    replica.set(key, version);
  };

  // Versions of a row only rise, also when it is deleted and inserted again.
  const writing = new AbortController();
  let random = 20_261_126;
  const next = (below: number) => (random = (random * 48_271) % 2_147_483_647) % below;
  const writer = async () => {
    const client = await database.client();
    for (let n = 1; !writing.signal.aborted; n++) {
      const id = next(ROWS) + 1;
      await client.query('BEGIN');
      const kind = next(10);
      if (kind === 0) await client.query('DELETE FROM items WHERE id = $1', [id]);
      else
        await client.query(
          `INSERT INTO items VALUES ($1, $2, nextval('versions')) ON CONFLICT (id) DO UPDATE SET version = nextval('versions'), value = excluded.value`,
          [id, n],
        );
      if (kind === 1) await client.query('SELECT pg_sleep(0.02)');
      await client.query(next(20) === 0 ? 'ROLLBACK' : 'COMMIT');
    }
  };
  await database.query('CREATE SEQUENCE versions START 2');

  const lease = { duration: 2000, renewInterval: 300, margin: 300, pollInterval: 50 };
  const first = await fixture.input({ rows: 'after', lease });
  let consumer = new Consumer(first, {}, apply);
  const asking = await fixture.input({ rows: 'after', lease });
  await reaches(first, 'active');
  const writers = [writer(), writer(), writer()];
  for (let round = 0; round < 3; round++) {
    const backfill = await asking.backfill({ chunk: 20 });
    const before = consumer.events.length;
    await consumer.count(before + 50);
    // Nobody notices the end of this node but by its session.
    await database.query(
      `SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input WHERE backend_pid IS NOT NULL`,
    );
    await consumer.ended;
    seen.clear();
    consumer = new Consumer(await fixture.input({ rows: 'after', lease }), {}, apply);
    await backfill.done;
    expect(await backfill.progress()).toMatchObject([{ state: 'done', error: null }]);
  }
  writing.abort();
  await Promise.all(writers);
  await expect.poll(async () => (await asking.status()).backlog, { timeout: 20_000 }).toBe(0);
  const rows = await database.query<{ id: number; version: number }>('SELECT id, version FROM items');
  expect(wrong).toEqual([]);
  expect(Object.fromEntries(replica)).toEqual(
    Object.fromEntries(rows.map(({ id, version }) => [id, version])),
  );
}, 120_000);

test.each([
  [
    'a table without a key',
    'CREATE TABLE t (id int, x text); INSERT INTO t SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 3000) n; DELETE FROM t WHERE id % 3 = 0',
    2000,
  ],
  ['an empty table without a key', 'CREATE TABLE t (id int)', 0],
  [
    'a partitioned table, by its root',
    `CREATE TABLE t (id int, at int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
     CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
     INSERT INTO t SELECT n, n % 20 FROM generate_series(1, 500) n`,
    500,
  ],
  [
    'a partitioned table without a key',
    `CREATE TABLE t (id int, at int) PARTITION BY RANGE (at);
     CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10) TO (20);
     INSERT INTO t SELECT n, n % 20 FROM generate_series(1, 500) n`,
    500,
  ],
  [
    'a table that another inherits from, without the rows of that one',
    `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t);
     INSERT INTO t SELECT generate_series(1, 300); INSERT INTO child SELECT generate_series(301, 400)`,
    300,
  ],
  [
    'a table whose key has 32 columns',
    `CREATE TABLE t (${Array.from({ length: 32 }, (_, i) => `c${i} int DEFAULT ${i}`).join(', ')}, PRIMARY KEY (${Array.from({ length: 32 }, (_, i) => `c${i}`).join(', ')}));
     INSERT INTO t (c31) SELECT generate_series(1, 300)`,
    300,
  ],
  [
    'a table whose key is deferrable, generated and in a collation that takes case for nothing',
    `CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
     CREATE TABLE t (n int, name text COLLATE any_case, x text GENERATED ALWAYS AS (n::text || name) STORED COLLATE any_case, y int, PRIMARY KEY (name, x) INCLUDE (y) DEFERRABLE INITIALLY DEFERRED);
     INSERT INTO t SELECT n, CASE n % 3 WHEN 0 THEN 'A' WHEN 1 THEN 'b' ELSE 'C' END FROM generate_series(1, 300) n`,
    300,
  ],
  ['a table without columns', 'CREATE TABLE t (); INSERT INTO t DEFAULT VALUES', 1],
  [
    'generated columns, quotes in names, and long rows',
    `CREATE TABLE t (id int, "it's ""x""" int GENERATED ALWAYS AS (id * 2) STORED, big text, PRIMARY KEY (id));
     INSERT INTO t (id, big) SELECT n, repeat(n::text, 20000) FROM generate_series(100, 299) n`,
    200,
  ],
])('reads %s', async (_, schema, count) => {
  await using fixture = await setupInputs();
  await fixture.database.query(schema);
  const input = await fixture.input({ rows: 'after', tables: { include: ['t'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await (
    await input.backfill({ tables: ['t'] })
  ).done;
  const found = reads(consumer.events);
  const rows = await fixture.database.query(`SELECT * FROM ${_.startsWith('a table that') ? 'ONLY' : ''} t`);
  expect(found.length).toBe(count);
  expect(new Set(found.map(({ after }) => JSON.stringify(after)))).toEqual(
    new Set(rows.map((row) => JSON.stringify(row))),
  );
  expect(new Set(found.map(({ sequence }) => sequence)).size).toBe(count);
});

test('initial: every table is read once, at its first installation and when it is found later', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items VALUES (1, 1), (2, 2)');
  const input = await fixture.input({ initial: 'read', discoveryInterval: 50 });
  const consumer = new Consumer(input);
  await consumer.count(2);
  await database.query('CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (7)');
  await consumer.count(3);
  expect(consumer.events.map(({ operation, location, id }) => `${operation} ${location} ${id}`)).toEqual([
    'read items 1',
    'read items 2',
    'read later 7',
  ]);
  await untilIdle(database);
  await input.close();
  // Triggers that are made anew are no reason to read again.
  await database.query('DROP TRIGGER items_test_input_insert_trigger ON items');
  const second = await fixture.input({ initial: 'read' });
  const again = new Consumer(second);
  await once(second, 'asleep');
  await database.query('INSERT INTO items VALUES (3, 3)');
  await again.count(1);
  expect(again.events.map(({ operation, id }) => `${operation} ${id}`)).toEqual(['create 3']);
  // In a database that was restored from a dump, a new table may have the oid that another table had.
  await second.close();
  await database.query(`
    CREATE TABLE latest (id int PRIMARY KEY); INSERT INTO latest VALUES (8);
    UPDATE postgres_input.backfill_postgres_input_test_input SET relation = 'latest'::regclass WHERE location = 'items'`);
  const third = new Consumer(await fixture.input({ initial: 'read' }));
  await third.count(1);
  expect(third.events).toMatchObject([{ operation: 'read', location: 'latest', id: '8' }]);
});

test("acknowledges in the caller's transaction exactly once, and comes again where that was rolled back", async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(
    'CREATE TABLE done (sequence text); INSERT INTO items SELECT n, n FROM generate_series(1, 6) n',
  );
  const options = { tables: { include: ['items'] } };
  const input = await fixture.input(options);
  const consumer = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  const backfill = await input.backfill({ chunk: 3 });
  await consumer.count(6);
  const client = await database.client();
  const inTransaction = async (event: ChangeEvent, end: 'COMMIT' | 'ROLLBACK', by = input) => {
    await client.query('BEGIN');
    await client.query('INSERT INTO done VALUES ($1)', [event.sequence]);
    try {
      await by.ack(event, client);
      await client.query(end);
    } catch (error) {
      await client.query('ROLLBACK');
      throw error;
    }
  };
  const [first, second, third, ...rest] = consumer.events as [ChangeEvent, ChangeEvent, ChangeEvent];
  await inTransaction(first, 'COMMIT');
  await expect(inTransaction(first, 'COMMIT')).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  await inTransaction(second, 'ROLLBACK');
  await input.ack(third);
  for (const event of rest as ChangeEvent[]) await inTransaction(event, 'COMMIT');
  // The node dies. What no transaction has acknowledged comes again, under the same sequences; so does what was only acknowledged in memory.
  await database.query(
    'SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input',
  );
  await consumer.ended;
  await expect(inTransaction(second, 'COMMIT')).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  const other = await fixture.input(options);
  const next = new Consumer(other, { ack: 'manual' });
  await next.count(2);
  expect(next.events.map(({ sequence }) => sequence)).toEqual([second.sequence, third.sequence]);
  for (const event of next.events) await inTransaction(event, 'COMMIT', other);
  await backfill.done;
  const booked = await database.query(
    'SELECT count(*)::int AS n, count(DISTINCT sequence)::int AS d FROM done',
  );
  expect(booked).toEqual([{ n: 6, d: 6 }]);
  // Nothing is left of what was needed for that.
  await until(async () => {
    const left = await database.query(
      "SELECT FROM postgres_input.backfill_postgres_input_test_input WHERE sequence <> ''",
    );
    return left.length === 0;
  });
});

test('a row that a transaction has acknowledged when its backfill is cancelled is handled once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('CREATE TABLE done (sequence text); INSERT INTO items VALUES (1, 1)');
  const input = await fixture.input({ tables: { include: ['items'] } });
  const names = namesOf(input.id, 'postgres_input');
  const handled: string[] = [];
  const processing = input.process(
    async (event) => {
      handled.push(`${event.operation}, attempt ${event.attempt}`);
      if (event.operation !== 'read') return;
      const client = await database.client();
      await client.query('BEGIN');
      await client.query('INSERT INTO done VALUES ($1)', [event.sequence]);
      await input.ack(event, client);
      await client.query(`UPDATE ${names.backfillTable.sql} SET state = 'cancelled' WHERE sequence = ''`);
      await client.query(`SELECT ${tellOfBackfill(names)}`);
      await client.query('COMMIT');
      if (event.attempt > 1) return;
      await until(async () => {
        const kept = await client.query(`SELECT FROM ${names.backfillTable.sql} WHERE sequence <> ''`);
        return kept.rows.length === 0;
      });
    },
    { retry: { minDelay: 1, maxDelay: 2 } },
  );
  await reaches(input, 'active');
  await input.backfill();
  await until(() => handled.length > 0);
  await database.query('UPDATE items SET value = 2');
  await until(() => handled.at(-1) === 'update, attempt 1');
  expect(handled).toEqual(['read, attempt 1', 'update, attempt 1']);
  expect(await database.query('SELECT FROM done')).toHaveLength(1);
  await input.close();
  await processing;
});

test('a transaction whose snapshot is older than a takeover acknowledges nothing', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items VALUES (1, 1), (2, 2)');
  // The renewals are far apart: the acknowledgement is the first to notice.
  const lease = { duration: 60_000, renewInterval: 10_000, margin: 1000, pollInterval: 50 };
  const input = await fixture.input({ lease });
  const consumer = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  await input.backfill();
  await consumer.count(2);
  const client = await database.client();
  const begin = async () => {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await client.query('SELECT FROM items');
  };
  await begin();
  await input.ack(consumer.events[0]!, client);
  await client.query('COMMIT');
  await begin();
  await database.query('UPDATE postgres_input.lock_postgres_input_test_input SET token = token + 1');
  await expect(input.ack(consumer.events[1]!, client)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  await input[Symbol.asyncDispose]();
});

test('a row whose transaction commits after it was waited for does not hold up its changes', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items VALUES (1, 1)');
  const input = await fixture.input();
  const [slow, quick] = [await database.client(), await database.client()];
  const handled: string[] = [];
  const processing = input.process(
    async (event) => {
      handled.push(`${event.operation}, attempt ${event.attempt}`);
      if (event.operation !== 'read') return;
      const client = event.attempt === 1 ? slow : quick;
      await client.query('BEGIN');
      try {
        await input.ack(event, client);
        if (client === slow) throw new Error('no answer to COMMIT');
        await client.query('COMMIT');
      } finally {
        if (client === quick) await client.query('ROLLBACK');
      }
    },
    { retry: { minDelay: 1, maxDelay: 2 } },
  );
  await reaches(input, 'active');
  const backfill = await input.backfill();
  await untilLocked(database);
  await slow.query('COMMIT');
  await backfill.done;
  await database.query('UPDATE items SET value = 2');
  await until(() => handled.at(-1) === 'update, attempt 1');
  expect(handled).toEqual(['read, attempt 1', 'read, attempt 2', 'update, attempt 1']);
  await input.close();
  await processing;
});

test('what process() fails to handle is tried again and parked, as any event', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 20) n');
  const input = await fixture.input({ rows: 'after' });
  const handled: string[] = [];
  const processing = input.process(
    async ({ id, attempt }) => {
      if (id === '7') throw new Error('not this one');
      if (id === '3' && attempt === 1) throw new Error('not at once');
      handled.push(id);
    },
    { retry: { attempts: 2, minDelay: 1, maxDelay: 2 }, concurrency: 4 },
  );
  await reaches(input, 'active');
  await (
    await input.backfill()
  ).done;
  expect(handled.toSorted()).toEqual(
    Array.from({ length: 20 }, (_, i) => String(i + 1))
      .filter((id) => id !== '7')
      .toSorted(),
  );
  const [parked] = await input.parked();
  expect(parked).toMatchObject({ operation: 'read', id: '7', after: { id: 7, value: 7 }, attempts: 2 });
  await input.close();
  await processing;
  expect(await input.redrive('all')).toBe(1);
  const consumer = new Consumer(await fixture.input({ rows: 'after' }));
  await consumer.count(1);
  expect(consumer.events[0]).toMatchObject({ operation: 'read', id: '7', sequence: parked!.sequence });
});

test('a read that is parked stays parked after a takeover; redriven, it has its sequence, and is acknowledged once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 9) n');
  const first = await fixture.input({ rows: 'after' });
  const gate = makeGate();
  const sequences = new Map<string, string>();
  let hangs = false;
  const processing = first.process(
    async ({ id, sequence, attempt }) => {
      sequences.set(id, sequence!);
      if (id === '7') throw new Error(`not this one, attempt ${attempt}`);
      hangs ||= id === '9';
      if (id === '9') await gate.promise;
    },
    { retry: { attempts: 2, minDelay: 1, maxDelay: 2 }, concurrency: 4, reconnect: false },
  );
  await reaches(first, 'active');
  const backfill = await first.backfill();
  await until(async () => hangs && (await first.parked()).length === 1);
  // The chunk is not over when the node dies.
  await database.query(
    'SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input',
  );
  gate.resolve();
  await expect(processing).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  const second = await fixture.input({ rows: 'after' });
  const consumer = new Consumer(second, { ack: 'manual' }, (event) =>
    event.id === '7' ? undefined : second.ack(event),
  );
  await backfill.done;
  expect(consumer.ids).not.toContain('7');
  const [parked] = await second.parked();
  expect(parked).toMatchObject({ operation: 'read', id: '7', sequence: sequences.get('7'), attempts: 2 });

  const before = consumer.events.length;
  expect(await second.redrive([parked!.sequence!])).toBe(1);
  await consumer.count(before + 1);
  const event = consumer.events.at(-1)!;
  expect(event).toMatchObject({
    operation: 'read',
    id: '7',
    sequence: parked!.sequence,
    after: { id: 7, value: 7 },
    origin: null,
    attempt: 1,
  });
  // It can be parked and redriven as often as one likes, in one term.
  await second.park(event, new Error('again'));
  expect(await second.parked()).toMatchObject([
    { sequence: event.sequence, error: expect.stringContaining('again') },
  ]);
  expect(await second.redrive('all')).toBe(1);
  await consumer.count(before + 2);
  const last = consumer.events.at(-1)!;
  expect(last).toMatchObject({ id: '7', sequence: parked!.sequence });
  const client = await database.client();
  await client.query('BEGIN');
  await second.ack(last, client);
  await client.query('COMMIT');
  await client.query('BEGIN');
  await expect(second.ack(last, client)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  await client.query('ROLLBACK');
  expect(await second.parked()).toEqual([]);
  await until(async () => (await second.status()).backlog === 0);
  const left = await database.query(
    "SELECT FROM postgres_input.backfill_postgres_input_test_input WHERE sequence <> ''",
  );
  expect(left).toEqual([]);
});

test('a backfill that the database no longer has is not done', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const input = await fixture.input();
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill();
  // As a standby has it that is promoted before the request has come there.
  await database.query('DELETE FROM postgres_input.backfill_postgres_input_test_input');
  await expect(backfill.done).rejects.toMatchObject({
    code: 'ERR_INSTALL',
    message: `the database no longer has backfill ${backfill.id}: ask for another one`,
  });
  expect(consumer.events).toEqual([]);
});

test('pauses, resumes and cancels, from any node; several queue up', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 3000) n');
  const input = await fixture.input();
  const idle = await fixture.input();
  const gate = makeGate();
  const consumer = new Consumer(input, {}, async ({ operation }) => {
    if (operation === 'read' && consumer.events.length === 50) await gate.promise;
  });
  await reaches(input, 'active');
  const first = await idle.backfill({ chunk: 10 });
  const second = await idle.backfill({ where: 'value <= 5' });
  await consumer.count(50);
  await first.pause();
  gate.resolve();
  await second.done;
  const [paused] = await first.progress();
  expect(paused).toMatchObject({ state: 'paused' });
  expect(paused!.done).toBeLessThan(3000);
  await first.resume();
  await first.done;
  expect(await first.progress()).toMatchObject([{ state: 'done', done: 3000 }]);
  expect(reads(consumer.events).length).toBe(3005);
  const third = await idle.backfill();
  await third.cancel();
  await third.done;
  expect(await third.progress()).toMatchObject([{ state: 'cancelled', error: null }]);
});

test('a table that somebody has locked keeps no other from being read, and is read when it is free', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(
    'CREATE TABLE locked (id int PRIMARY KEY); INSERT INTO locked VALUES (1); INSERT INTO items SELECT n, n FROM generate_series(1, 300) n',
  );
  const installing = await fixture.input();
  const installed = new Consumer(installing);
  await reaches(installing, 'active');
  await installing.close();
  await installed.ended;
  const input = await fixture.input();
  const first = await input.backfill({ tables: ['locked'] });
  const second = await input.backfill({ tables: ['items'] });
  const other = await database.client();
  await other.query('BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE');
  const consumer = new Consumer(input);
  await second.done;
  expect(await first.progress()).toMatchObject([{ done: 0 }]);
  await other.query('ROLLBACK');
  await first.done;
  expect(consumer.events.map(({ location }) => location)).toEqual([
    ...Array.from({ length: 300 }, () => 'items'),
    'locked',
  ]);
});

test('what was acknowledged of a backfill that was paused as it began does not come again', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 40) n');
  const idle = await fixture.input();
  const installing = await fixture.input();
  const installed = new Consumer(installing);
  await reaches(installing, 'active');
  await installing.close();
  await installed.ended;
  const backfill = await idle.backfill({ chunk: 5 });
  // The first one of the two that wait for this lock pauses the backfill, and the second one begins it.
  const client = await database.client();
  await client.query('BEGIN');
  await client.query('SELECT FROM postgres_input.backfill_postgres_input_test_input FOR UPDATE');
  const pausing = backfill.pause();
  await untilLocked(database);
  const first = await fixture.input();
  const consumer = new Consumer(first);
  const asleep = once(first, 'asleep');
  await untilLocked(database, 2);
  await client.query('COMMIT');
  await pausing;
  await asleep;
  await until(async () => (await backfill.progress())[0]!.done === consumer.events.length);
  expect(consumer.events.length).toBeLessThan(40);
  await first.close();
  const next = new Consumer(await fixture.input());
  await backfill.resume();
  await backfill.done;
  expect([...consumer.ids, ...next.ids]).toEqual(Array.from({ length: 40 }, (_, i) => String(i + 1)));
});

test('a table that is altered, truncated or dropped meanwhile ends its backfill and nothing else', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    INSERT INTO items SELECT n, n FROM generate_series(1, 1000) n;
    CREATE TABLE gone (id int PRIMARY KEY); INSERT INTO gone SELECT generate_series(1, 1000);
    CREATE TABLE cut (id int PRIMARY KEY); INSERT INTO cut SELECT generate_series(1, 1000)`);
  const input = await fixture.input({ rows: 'after' });
  const gate = makeGate();
  const consumer = new Consumer(input, {}, () => gate.promise);
  await reaches(input, 'active');
  const backfill = await input.backfill({ chunk: 2 });
  await consumer.count(1);
  await database.query(
    'ALTER TABLE items ALTER value TYPE bigint, ADD more text DEFAULT $$x$$; DROP TABLE gone; TRUNCATE cut',
  );
  gate.resolve();
  const failure = await backfill.done.catch((error: unknown) => error);
  const states = await backfill.progress();
  expect(states).toMatchObject([
    { table: 'cut', state: 'done' },
    { table: 'gone', state: 'cancelled', error: 'the table is gone' },
    { table: 'items', state: 'done', done: 1000 },
  ]);
  expect(failure).toMatchObject({ code: 'ERR_INSTALL', message: expect.stringContaining('gone') });
  expect(reads(consumer.events).findLast(({ location }) => location === 'items')!.after).toEqual({
    id: 1000,
    value: '1000',
    more: 'x',
  });
});

test('a row whose lane overflows is read anew, behind its changes', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 10) n');
  const input = await fixture.input({ rows: 'after' });
  const gate = makeGate();
  const values: number[] = [];
  const read: string[] = [];
  let isLast = false;
  const processing = input.process(
    async ({ id, operation, after, attempt }) => {
      if (id === '1' && after!['value'] === 1 && attempt === 1) {
        await gate.promise;
        throw new Error('not at once');
      }
      if (id === '1') values.push(after!['value'] as number);
      if (operation === 'read') read.push(id);
      isLast ||= id === '11';
    },
    { concurrency: 4, retry: { minDelay: 1, maxDelay: 2 } },
  );
  await reaches(input, 'active');
  await database.query('UPDATE items SET value = 1 WHERE id = 1');
  const backfill = await input.backfill();
  await until(() => read.length === 9);
  await database.query(
    'DO $$ BEGIN FOR n IN 2..3000 LOOP UPDATE items SET value = n WHERE id = 1; END LOOP; END $$',
  );
  // All of these have arrived in the lane when this one comes.
  await database.query('INSERT INTO items VALUES (11, 0)');
  await until(() => isLast);
  gate.resolve();
  await backfill.done;
  await until(() => values.at(-1) === 3000 && read.length >= 10);
  expect(values).toEqual(values.toSorted((a, b) => a - b));
  // The row that came meanwhile may be read too.
  expect(read.filter((id) => id !== '11').toSorted()).toEqual([
    '1',
    '10',
    '2',
    '3',
    '4',
    '5',
    '6',
    '7',
    '8',
    '9',
  ]);
  expect(await backfill.progress()).toMatchObject([{ state: 'done', done: read.length }]);
  await input.close();
  await processing;
});

test('rows of many chunks that wait behind an event which fails are all read, each once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 3000) n');
  const input = await fixture.input();
  const gate = makeGate();
  const read: number[] = [];
  let isHeld = false;
  const processing = input.process(
    async ({ id, operation, attempt }) => {
      if (operation === 'update' && attempt === 1) {
        isHeld = true;
        await gate.promise;
        throw new Error('not at once');
      }
      if (operation === 'read') read.push(Number(id));
    },
    { key: () => 'all', concurrency: 2, retry: { minDelay: 1, maxDelay: 2 } },
  );
  await reaches(input, 'active');
  await database.query('UPDATE items SET value = 1 WHERE id = 1');
  await until(() => isHeld);
  const backfill = await input.backfill({ chunk: 100 });
  await untilQueueIsFull(database);
  // There is no room for what fails, so that all that waits behind it is dropped.
  gate.resolve();
  await backfill.done;
  expect(read.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 3000 }, (_, i) => i + 1));
  await input.close();
  await processing;
});

test.each([
  [
    'a partition that is attached, by its keys',
    `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
     CREATE TABLE t_2 (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO t_2 SELECT generate_series(10001, 10100)`,
    'ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10000) TO (20000)',
    { state: 'done', done: 2100 },
  ],
  [
    'a partition that is attached to a table without a key, from the beginning',
    `CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
     CREATE TABLE t_2 (id int); INSERT INTO t SELECT generate_series(1, 9999); INSERT INTO t_2 SELECT generate_series(10001, 10100)`,
    'ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10000) TO (20000)',
    { state: 'done' },
  ],
  [
    'a partition that is detached, without its rows',
    `CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
     CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10000) TO (20000);
     INSERT INTO t SELECT generate_series(1, 2000); INSERT INTO t SELECT generate_series(10001, 10100)`,
    'ALTER TABLE t DETACH PARTITION t_2',
    { state: 'done', done: 2000 },
  ],
  [
    'a table without a key that is written anew, in another order',
    `CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 9999); CREATE INDEX by_id ON t (id DESC)`,
    'CLUSTER t USING by_id',
    { state: 'done' },
  ],
  [
    'a table that is renamed, under its new name',
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000)',
    'ALTER TABLE t RENAME TO renamed',
    { state: 'done', done: 2000 },
  ],
  [
    'a table that becomes a partition, under the name of its root',
    `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000);
     CREATE TABLE renamed (id int PRIMARY KEY) PARTITION BY RANGE (id)`,
    'ALTER TABLE renamed ATTACH PARTITION t FOR VALUES FROM (0) TO (10000)',
    { state: 'done', done: 2000 },
  ],
  [
    'a table whose key gets another collation, from the beginning',
    `CREATE TABLE t (id text COLLATE "C" PRIMARY KEY); INSERT INTO t SELECT letter || n FROM generate_series(1000, 1999) n, unnest('{A,a}'::text[]) letter`,
    'ALTER TABLE t ALTER id TYPE text COLLATE "und-x-icu"',
    { state: 'done' },
  ],
  [
    'a table whose key is renamed and gets another type, from the beginning',
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000)',
    'ALTER TABLE t RENAME id TO number; ALTER TABLE t ALTER number TYPE text',
    { state: 'done' },
  ],
])('reads on, although the table is changed meanwhile: %s', async (_, schema, change, expected) => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(schema);
  const input = await fixture.input({ rows: 'after', tables: { exclude: ['items', 't_2'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['t'], chunk: 20 });
  await consumer.count(1);
  const asleep = once(input, 'asleep');
  await backfill.pause();
  await asleep;
  const [paused] = await backfill.progress();
  expect(paused!.state).toBe('paused');
  await database.query(change);
  const before = consumer.events.length;
  await backfill.resume();
  await backfill.done;
  expect(await backfill.progress()).toMatchObject([{ ...expected, error: null }]);
  const [name] = change.includes('renamed') ? ['renamed'] : ['t'];
  const rows = await database.query<Record<string, unknown>>(`SELECT * FROM ${name}`);
  const idOf = (row: Record<string, unknown>) => String(Object.values(row)[0]);
  const found = new Set(consumer.ids);
  expect(rows.filter((row) => !found.has(idOf(row)))).toEqual([]);
  expect(new Set(consumer.events.map(({ sequence }) => sequence)).size).toBe(consumer.events.length);
  expect(consumer.events.slice(before).every(({ location }) => location === name)).toBe(true);
});

test('rows that were in hand when a table was written anew move no progress of its new order', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(
    'CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 2000); CREATE INDEX by_id ON t (id DESC)',
  );
  const options = { tables: { exclude: ['items'] }, maxInFlight: 10_000 };
  const input = await fixture.input(options);
  const consumer = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['t'], chunk: 20 });
  await consumer.count(1);
  const asleep = once(input, 'asleep');
  await backfill.pause();
  await asleep;
  const old = [...consumer.events];
  expect(old.length).toBeLessThan(2000);
  await database.query('CLUSTER t USING by_id');
  await backfill.resume();
  await consumer.count(old.length + 2000);
  for (const event of old) await input.ack(event);
  await until(async () => (await backfill.progress())[0]!.done >= old.length);
  // The node dies. All that was read in the new order comes again.
  await database.query(
    'SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input',
  );
  await consumer.ended;
  const next = new Consumer(await fixture.input(options));
  await backfill.done;
  expect(new Set(next.ids).size).toBe(2000);
});

test('a table that the node does not watch any more shows nothing, and waits for a node that does', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    INSERT INTO items VALUES (1, 1); CREATE TABLE users (id int PRIMARY KEY, secret text);
    INSERT INTO users SELECT n, 'secret' FROM generate_series(1, 2000) n`);
  const options = { columns: { exclude: ['secret'] } };
  const input = await fixture.input({ rows: 'after', watch: { users: options, items: {} } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['users'], chunk: 20 });
  await consumer.count(1);
  const asleep = once(input, 'asleep');
  await backfill.pause();
  await asleep;
  const before = consumer.events.length;
  expect(before).toBeLessThan(2000);
  await database.query('ALTER TABLE users RENAME TO people');
  await backfill.resume();
  // Others go on.
  await (
    await input.backfill({ tables: ['items'] })
  ).done;
  expect(consumer.events.slice(before).map(({ after }) => after)).toEqual([{ id: 1, value: 1 }]);
  expect(await backfill.progress()).toMatchObject([{ state: 'running', error: null }]);
  await input.close();
  const next = await fixture.input({ rows: 'after', watch: { people: options } });
  const others = new Consumer(next);
  await backfill.done;
  expect(consumer.events.length - 1 + others.events.length).toBe(2000);
  expect([...consumer.events, ...others.events].filter(({ after }) => 'secret' in after!)).toEqual([]);
});

test('tables that have other oids, as in a database that was restored from a dump, are read from their beginnings, under other sequences', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const makeLast = 'CREATE TABLE last (id int PRIMARY KEY); INSERT INTO last SELECT generate_series(1, 50)';
  await database.query(`
    INSERT INTO items SELECT n, n FROM generate_series(1, 50) n;
    CREATE TABLE t (id int PRIMARY KEY, value int); INSERT INTO t SELECT n, n + 100 FROM generate_series(1, 50) n; ${makeLast}`);
  const first = await fixture.input({ maxInFlight: 10 });
  const consumer = new Consumer(first, { ack: 'manual' });
  await reaches(first, 'active');
  const backfill = await first.backfill({ chunk: 5 });
  await consumer.count(10);
  for (const event of consumer.events.slice(0, 10)) await first.ack(event);
  await consumer.count(20);
  await first[Symbol.asyncDispose]();
  // Each of two tables now has the other one's oid, of whose rows some were acknowledged under the same keys. The third one has an oid that nobody knows.
  await database.query(`
    BEGIN;
    SET LOCAL session_replication_role = replica;
    ALTER TABLE items RENAME TO other; ALTER TABLE t RENAME TO items; ALTER TABLE other RENAME TO t;
    UPDATE items SET value = value - 100; UPDATE t SET value = value + 100;
    DROP TABLE last; ${makeLast};
    COMMIT`);
  const next = new Consumer(await fixture.input({ rows: 'after' }));
  await backfill.done;
  const found = reads(next.events);
  const rows = (location: string) =>
    found.filter((event) => event.location === location).map(({ after }) => Object.values(after!));
  const fifty = (row: (n: number) => number[]) => Array.from({ length: 50 }, (_, i) => row(i + 1));
  expect({ items: rows('items'), t: rows('t'), last: rows('last') }).toEqual({
    items: fifty((n) => [n, n]),
    t: fifty((n) => [n, n + 100]),
    last: fifty((n) => [n]),
  });
  // The tables might as well have changed their names: then these are other rows, and may not be taken for those of before.
  const sequences = new Set(consumer.events.map(({ sequence }) => sequence));
  expect(found.filter(({ sequence }) => sequences.has(sequence))).toEqual([]);
  expect((await backfill.progress()).map(({ state, error }) => ({ state, error }))).toEqual(
    Array.from({ length: 3 }, () => ({ state: 'done', error: null })),
  );
});

test('rows that are out when their table is as it was before come once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (10000);
    CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (10000) TO (20000);
    INSERT INTO t SELECT generate_series(1, 3000); INSERT INTO t SELECT generate_series(10001, 10100)`);
  const input = await fixture.input({ tables: { exclude: ['items', 't_2'] }, maxInFlight: 10_000 });
  const consumer = new Consumer(input, { ack: 'manual' });
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['t'], chunk: 20 });
  for (const change of [
    'ALTER TABLE t DETACH PARTITION t_2',
    'ALTER TABLE t ATTACH PARTITION t_2 FOR VALUES FROM (10000) TO (20000)',
  ]) {
    await consumer.count(consumer.events.length + 1);
    const asleep = once(input, 'asleep');
    await backfill.pause();
    await asleep;
    expect(await backfill.progress()).toMatchObject([{ state: 'paused' }]);
    await database.query(change);
    await backfill.resume();
  }
  let acknowledged = 0;
  await until(async () => {
    for (; acknowledged < consumer.events.length; acknowledged++)
      await input.ack(consumer.events[acknowledged]!);
    const [progress] = await backfill.progress();
    return progress!.state === 'done';
  });
  expect(new Set(consumer.ids).size).toBe(3100);
  expect(new Set(consumer.events.map(({ sequence }) => sequence)).size).toBe(consumer.events.length);
});

test.each([
  [
    'rights are taken away',
    `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000)`,
    undefined,
    (role: string) => `ALTER TABLE t OWNER TO postgres; REVOKE ALL ON t FROM ${role}`,
    /may not read.*grant it USAGE on the schema and SELECT on the table/,
  ],
  [
    'the condition raises for one row',
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000)',
    '1 / (1990 - id) < 5',
    () => 'SELECT',
    /division by zero/,
  ],
  [
    'the condition is too much for the server in one row',
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000)',
    "length(repeat('x', CASE id WHEN 1990 THEN 1073741824 ELSE 1 END)) > 0",
    () => 'SELECT',
    /requested length too large/,
  ],
  [
    'the condition writes for one row',
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 2000); CREATE SEQUENCE seen; GRANT ALL ON SEQUENCE seen TO public',
    "CASE id WHEN 1990 THEN nextval('seen') ELSE 1 END > 0",
    () => 'SELECT',
    /cannot execute nextval\(\) in a read-only transaction/,
  ],
])('a backfill ends, and says why, when %s', async (_, schema, where, change, message) => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const role = `reader_${Date.now()}`;
  await database.query(schema);
  const url = new URL(database.url);
  await database.query(
    `CREATE ROLE ${role} LOGIN; GRANT CREATE ON DATABASE "${url.pathname.slice(1)}" TO ${role}; ALTER TABLE t OWNER TO ${role}`,
  );
  url.username = role;
  try {
    const input = await fixture.input({ tables: { include: ['t'] } }, { url: url.href });
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    const backfill = await input.backfill({ chunk: 5, ...(where !== undefined && { where }) });
    await consumer.count(1);
    await database.query(change(role));
    await expect(backfill.done).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(message),
    });
    expect(await backfill.progress()).toMatchObject([{ state: 'cancelled' }]);
    expect(input.state).toBe('active');
    await input.close();
    await consumer.ended;
  } finally {
    await database.query(`REASSIGN OWNED BY ${role} TO postgres; DROP OWNED BY ${role}; DROP ROLE ${role}`);
  }
});

test("initial: a table that the nodes' role may not read is told of, and the others are read", async () => {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database } = fixture;
  const { role, url } = await createRole(database);
  await database.query(`
    GRANT CREATE ON DATABASE "${database.name}" TO ${role}; GRANT SELECT, TRIGGER ON items TO ${role}; INSERT INTO items VALUES (1, 1);
    CREATE TABLE hidden (id int PRIMARY KEY); INSERT INTO hidden VALUES (1); GRANT TRIGGER ON hidden TO ${role}`);
  const lines: unknown[] = [];
  const ignore = () => {};
  const error = (fields: object, text: string) => void lines.push([fields, text]);
  const logger = { debug: ignore, info: ignore, warn: ignore, error };
  const input = await fixture.input({ initial: 'read', logger }, { url });
  const failed = new Promise<LifecycleEvents['backfillFailed'][0]>(
    (resolve) => void input.once('backfillFailed', resolve),
  );
  const consumer = new Consumer(input);
  const { backfill, table, error: err } = await failed;
  await consumer.count(1);
  expect(consumer.events).toMatchObject([{ operation: 'read', location: 'items' }]);
  expect(table).toBe('hidden');
  expect(err).toMatchObject({ code: 'ERR_INSTALL', message: expect.stringMatching(/grant it .* SELECT/) });
  expect(lines).toEqual([
    [{ input: 'test_input', backfill, table, err }, expect.stringMatching(/can not read a table/)],
  ]);
  expect(input.health()).toMatchObject({
    status: 'warn',
    checks: expect.arrayContaining([{ name: 'backfills', status: 'warn', message: err.message }]),
  });
  // Another backfill mends it, and none of another table does.
  await (
    await input.backfill({ tables: ['items'] })
  ).done;
  await consumer.count(2);
  expect(input.health().status).toBe('warn');
  await database.query(`GRANT SELECT ON hidden TO ${role}`);
  await input.backfill({ tables: ['hidden'] });
  await consumer.count(3);
  await until(() => input.health().status === 'ok');
});

test('a row that is too large comes without data; a function of the condition that raises ends its backfill', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE FUNCTION shy(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
      IF $1 = 500 AND current_setting('transaction_read_only') = 'on' THEN RAISE 'not for you'; END IF; RETURN $1; END $$;
    CREATE TABLE t (id int PRIMARY KEY, x int); INSERT INTO t SELECT n, n FROM generate_series(1, 1000) n;
    CREATE TABLE big (id int PRIMARY KEY, x text);
    INSERT INTO big SELECT n, CASE WHEN n = 3 THEN repeat(md5(n::text), 200000) ELSE 'x' END FROM generate_series(1, 5) n`);
  const input = await fixture.input({ rows: 'after', tables: { include: ['t', 'big'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['big'] });
  await backfill.done;
  expect(consumer.events.map(({ after, dataOmitted }) => after?.['x'] ?? dataOmitted)).toEqual([
    'x',
    'x',
    'too-large',
    'x',
    'x',
  ]);
  await expect((await input.backfill({ tables: ['t'], where: 'shy(x) > 0' })).done).rejects.toThrow(
    'not for you',
  );
});

test('rows have their data although the server has run short of resources meanwhile', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE TABLE shortage (); INSERT INTO shortage DEFAULT VALUES;
    CREATE FUNCTION fits(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM public.shortage) THEN RAISE 'out of shared memory' USING ERRCODE = '53200'; END IF; RETURN true; END $$;
    INSERT INTO items SELECT n, n FROM generate_series(1, 20) n`);
  const input = await fixture.input({ rows: 'after', tables: { include: ['items'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ where: 'public.fits(id)' });
  // It waits before it is tried again: the chunk can't be any smaller.
  await until(async () => {
    const waiting = await database.query(
      `SELECT FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK' AND state = 'idle'
       AND clock_timestamp() - state_change > interval '300 ms'`,
    );
    return waiting.length > 0;
  });
  await database.query('DELETE FROM shortage');
  await backfill.done;
  expect(consumer.events.map(({ after }) => after)).toEqual(
    Array.from({ length: 20 }, (_, i) => ({ id: i + 1, value: i + 1 })),
  );
});

test.each([
  ['a parameter', 'id = $1', /where: items: it has a parameter/],
  [
    'several statements',
    `true), false) AS wanted FROM (SELECT r.*) items) w) read; COMMIT; DELETE FROM items; SELECT FROM (
      SELECT FROM (SELECT 0 AS "postgres_input before") r, LATERAL (SELECT coalesce((true`,
    /where: items: cannot insert multiple commands/,
  ],
  ['an open comment', 'true /*', /where: items: unterminated/],
])('refuses a condition with %s', async (_, where, message) => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await expect(input.backfill({ where })).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
    message: expect.stringMatching(message),
  });
  expect(consumer.events).toEqual([]);
});

test('the error names the table in which a condition fails', async () => {
  await using fixture = await setupInputs();
  await fixture.database.query('CREATE TABLE t (id int PRIMARY KEY)');
  const input = await fixture.input();
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await expect(input.backfill({ tables: ['items', 'items', 't'], where: 'value > 0' })).rejects.toThrow(
    /where: t: column "value" does not exist/,
  );
  expect(consumer.events).toEqual([]);
});

test('a condition that is slow for many rows holds up neither the changes nor, in the end, the backfill', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE FUNCTION slow(int) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(CASE WHEN $1 <= 100 THEN 0.05 ELSE 0 END); RETURN true; END $$;
    CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 110)`);
  const input = await fixture.input({ tables: { include: ['t', 'items'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ tables: ['t'], where: 'slow(id)' });
  await until(async () => {
    const running = await database.query(
      "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'",
    );
    return running.length > 0;
  });
  await database.query('INSERT INTO items VALUES (1, 1)');
  await until(() => consumer.events.some(({ location }) => location === 'items'));
  expect(reads(consumer.events).length).toBeLessThan(100);
  await backfill.done;
  expect(reads(consumer.events)).toHaveLength(110);
});

test('a node that loses the lease within a chunk reads nothing more, and neither fails nor keeps anything', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 2000) n');
  // The renewals are far apart: the chunk is the first to notice.
  const lease = { duration: 60_000, renewInterval: 10_000, margin: 1000, pollInterval: 50 };
  const input = await fixture.input({ lease });
  const consumer = new Consumer(input);
  await once(input, 'asleep');
  await database.query('UPDATE postgres_input.lock_postgres_input_test_input SET token = token + 1');
  const backfill = await input.backfill({ chunk: 5 });
  await until(async () => {
    const [row] = await database.query<{ n: number }>(
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE datname = current_database() AND query = 'ROLLBACK' AND state = 'idle'",
    );
    return row!.n > 0;
  });
  expect(input.state).toBe('active');
  expect(consumer.events).toEqual([]);
  expect(await backfill.progress()).toMatchObject([{ state: 'waiting', done: 0 }]);
  await input[Symbol.asyncDispose]();
});
