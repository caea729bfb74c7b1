/** `process()` against a database: handlers at once, retries, parking, endings. */
import { expect, onTestFinished, test, vi } from 'vitest';
import {
  type ChangeEvent,
  type PostgresInput,
  type PostgresInputOptions,
  type ProcessOptions,
  newPostgresInput,
} from '../../src/index.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const FAST = { minDelay: 20, maxDelay: 20 };

async function setup(options: PostgresInputOptions = {}) {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY, n int)');
  const make = async () => {
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { ...PATIENT, ...options },
    );
    onTestFinished(() => input[Symbol.asyncDispose]());
    return input;
  };
  const backlog = async (): Promise<number> => (await (await make()).status()).backlog;
  return { database, make, backlog };
}

const active = (input: PostgresInput) =>
  new Promise<void>((resolve) => void input.once('active', () => resolve()));

/** Processes, and records which events were handled when. */
function record(
  input: PostgresInput,
  handler: (event: ChangeEvent, context: { readonly signal: AbortSignal }) => unknown,
  options: ProcessOptions = {},
) {
  const begun: ChangeEvent[] = [];
  const done: ChangeEvent[] = [];
  const running = new Set<ChangeEvent>();
  const most = { running: 0 };
  const ended = input.process(
    async (event, context) => {
      begun.push(event);
      running.add(event);
      most.running = Math.max(most.running, running.size);
      try {
        await handler(event, context);
        done.push(event);
      } finally {
        running.delete(event);
      }
    },
    { retry: FAST, ...options },
  );
  ended.catch(() => {});
  return { begun, done, running, most, ended };
}

/** A promise and what resolves it. */
function gate() {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

test('handles as many events at once as it is allowed to, those of one row in order', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const full = gate();
  const { begun, done, running, most } = record(
    input,
    async () => {
      if (running.size === 4) full.open();
      await full.opened;
      await new Promise(setImmediate);
    },
    { concurrency: 4 },
  );
  await isActive;
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 100) n');
  for (let i = 1; i <= 3; i++) await database.query('UPDATE items SET n = $1', [i]);
  await until(() => done.length === 400);
  expect(most.running).toBe(4);
  for (let id = 1; id <= 100; id++) {
    const sequences = begun
      .filter((event) => event.id === String(id))
      .map(({ sequence }) => BigInt(sequence!));
    expect(sequences).toEqual(sequences.toSorted((a, b) => (a < b ? -1 : 1)));
    expect(sequences).toHaveLength(4);
  }
  await input.close();
  expect(await backlog()).toBe(0);
});

test('outlasts that somebody drops the table of failures, which the node makes again', async () => {
  const { database, make, backlog } = await setup({ discoveryInterval: 60_000 });
  const input = await make();
  const isActive = active(input);
  const errors: unknown[] = [];
  input.on('reconnecting', ({ error }) => errors.push(error));
  const { done } = record(
    input,
    async () => {
      if (errors.length > 0) return;
      await database.query('DROP TABLE IF EXISTS postgres_input.failed_postgres_input_test');
      throw new Error('not yet');
    },
    { reconnect: FAST },
  );
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => done.length === 1);
  await input.close();
  expect(errors).toMatchObject([{ code: 'ERR_INSTALL', retryable: true }]);
  expect(await backlog()).toBe(0);
});

test('an event whose handler fails comes again as the next attempt, and only its row waits', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const retrying: unknown[] = [];
  input.on('retrying', (failure) => retrying.push(failure));
  const { begun, done } = record(input, (event) => {
    const isOtherDone = done.some(({ id }) => id === '2');
    if (event.id === '1' && event.operation === 'create' && !(event.attempt > 2 && isOtherDone))
      throw new Error('not yet');
  });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await database.query('UPDATE items SET n = 1');
  await database.query('INSERT INTO items VALUES (2, 0)');
  await until(() => done.length === 3);
  const of = (id: string) =>
    begun.filter((event) => event.id === id).map(({ operation, attempt }) => `${operation} ${attempt}`);
  const creates = of('1').slice(0, -1);
  expect(creates.length).toBeGreaterThan(2);
  expect(creates).toEqual(creates.map((_, i) => `create ${i + 1}`));
  expect(of('1').at(-1)).toBe('update 1');
  expect(done[0]!.id).toBe('2');
  expect(retrying.slice(0, 2)).toMatchObject([
    { id: '1', location: 'items', attempt: 1, sequence: begun[0]!.sequence },
    { id: '1', attempt: 2 },
  ]);
  await input.close();
  expect(await backlog()).toBe(0);
});

test('parks an event whose attempts are exhausted, and its key goes on', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const told: unknown[] = [];
  input.on('parked', (failure) => told.push(failure));
  const { done } = record(
    input,
    (event) => {
      if (event.operation === 'create') throw new Error('bad row');
    },
    { retry: { ...FAST, attempts: 2 } },
  );
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await database.query('UPDATE items SET n = 1');
  await until(() => done.length === 1);
  expect(done[0]!.operation).toBe('update');
  expect(told).toMatchObject([{ id: '1', attempts: 2 }]);
  expect(await input.parked()).toMatchObject([{ id: '1', operation: 'create', attempts: 2 }]);
  await input.close();
  expect(await backlog()).toBe(0);
});

test("an error of another input's counts as any other", async () => {
  const { database, make } = await setup();
  const [input, other] = [await make(), await make()];
  const isActive = active(input);
  // That input has no lease.
  record(input, (event) => other.ack(event), { retry: { ...FAST, attempts: 2 } });
  await isActive;
  // So many rows of a statement are packed.
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 60) n');
  await until(async () => (await input.parked()).length === 60);
  expect(
    (await input.parked()).filter(({ attempts, error }) => attempts !== 2 || !error.includes('lease')),
  ).toEqual([]);
});

test('as many handlers as there may be at once listen to the signal without a warning', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  onTestFinished(() => warn.mockRestore());
  const { database, make } = await setup();
  const input = await make();
  const isActive = active(input);
  const { most, ended } = record(
    input,
    (_event, { signal }) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
    { concurrency: 11, drainTimeout: 1 },
  );
  await isActive;
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 11) n');
  await until(() => most.running === 11);
  await input.close();
  await ended;
  expect(warn).not.toHaveBeenCalled();
});

test("stops with the handler's error when that is asked for, and keeps the event", async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const bad = new Error('bad row');
  const { ended } = record(input, () => Promise.reject(bad), {
    retry: { ...FAST, attempts: 2 },
    exhausted: 'stop',
  });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await expect(ended).rejects.toBe(bad);
  expect(input.state).toBe('idle');
  expect(await backlog()).toBe(1);
  expect((await input.status()).lease).toBeNull();
});

test('another node goes on with the count of failures, and with the delay', async () => {
  const { database, make } = await setup();
  const first = await make();
  const isActive = active(first);
  const retry = { minDelay: 2000, maxDelay: 2000 };
  const { begun } = record(first, () => Promise.reject(new Error('no')), { retry });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(
    async () => (await database.query('SELECT FROM postgres_input.failed_postgres_input_test')).length === 1,
  );
  const failed = Date.now();
  await first.close();
  expect(begun).toHaveLength(1);
  const second = await make();
  const { done } = record(second, () => {}, { retry });
  await until(() => done.length === 1);
  expect(done[0]!.attempt).toBe(2);
  expect(Date.now() - failed).toBeGreaterThan(500);
});

test('close() lets handlers finish, and acknowledges what they did', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const { open, opened } = gate();
  const { running, done, ended } = record(input, () => opened, { concurrency: 2, drainTimeout: 20_000 });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0), (2, 0), (3, 0)');
  await until(() => running.size === 2);
  const closed = input.close();
  open();
  await closed;
  await ended;
  expect(done).toHaveLength(2);
  expect(await backlog()).toBe(1);
});

test('a handler that outlasts drainTimeout is told so, and its event comes again', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const aborted = gate();
  const controller = new AbortController();
  const { running, ended } = record(
    input,
    (_event, { signal }) => {
      signal.addEventListener('abort', aborted.open);
      return new Promise(() => {});
    },
    { drainTimeout: 50, signal: controller.signal },
  );
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => running.size === 1);
  controller.abort();
  await aborted.opened;
  await ended;
  expect((await input.status()).lease).toBeNull();
  expect(await backlog()).toBe(1);
});

test('tells of a handler that takes long', async () => {
  const { database, make } = await setup();
  const input = await make();
  const isActive = active(input);
  const slow: { id: string; duration: number }[] = [];
  input.on('slow', (event) => slow.push(event));
  const { open, opened } = gate();
  const { done } = record(input, () => opened, { slowAfter: 30 });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => slow.length > 0);
  expect(slow).toMatchObject([{ id: '1', location: 'items' }]);
  expect(slow[0]!.duration).toBeGreaterThanOrEqual(30);
  open();
  await until(() => done.length === 1);
});

test('a slow row does not stop others, however many of its events wait', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const { open, opened } = gate();
  let others = 0;
  const { begun, done, most } = record(
    input,
    async ({ id }) => {
      if (id === '1') await opened;
      else others++;
    },
    { concurrency: 8 },
  );
  await database.query(`
    CREATE PROCEDURE change_often(count int) LANGUAGE plpgsql AS $$
    BEGIN
      FOR i IN 1..count LOOP
        UPDATE items SET n = i WHERE id = 1;
        IF i % 100 = 0 THEN COMMIT; END IF;
      END LOOP;
    END $$`);
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => begun.length === 1);
  await database.query('CALL change_often(100000)');
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(2, 5001) n');
  await until(
    () => others === 5000,
    60_000,
    () => `${others} others`,
  );
  expect(begun.filter(({ id }) => id === '1')).toHaveLength(1);
  open();
  await until(
    () => done.length === 105_001,
    120_000,
    () => `${done.length} done`,
  );
  const sequences = begun.filter(({ id }) => id === '1').map(({ sequence }) => BigInt(sequence!));
  expect(sequences).toHaveLength(100_001);
  for (let i = 1; i < sequences.length; i++) expect(sequences[i]! > sequences[i - 1]!).toBe(true);
  expect(most.running).toBeLessThanOrEqual(8);
  await input.close();
  expect(await backlog()).toBe(0);
}, 200_000);

test('the last of the events that wait for a slow row come in the same term, where memory has no room for them alone', async () => {
  const { database, make } = await setup();
  const input = await make();
  const isActive = active(input);
  const { open, opened } = gate();
  const { begun, done } = record(input, () => opened, { concurrency: 2 });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => begun.length === 1);
  await database.query(
    'DO $$ BEGIN FOR i IN 1..2100 LOOP UPDATE items SET n = i WHERE id = 1; COMMIT; END LOOP; END $$',
  );
  // Behind all others, so that these have been read when it is handled.
  await database.query('INSERT INTO items VALUES (2, 0)');
  await until(() => begun.length === 2);
  open();
  await until(
    () => done.length === 2102,
    undefined,
    () => `${done.length} done`,
  );
  const sequences = begun.filter(({ id }) => id === '1').map(({ sequence }) => BigInt(sequence!));
  expect(sequences).toEqual(sequences.toSorted((a, b) => (a < b ? -1 : 1)));
}, 60_000);

test('redriven events of a row that is held up do not stop others, however many there are', async () => {
  const { database, make, backlog } = await setup();
  const input = await make();
  const isActive = active(input);
  const { open, opened } = gate();
  const { begun, done } = record(input, ({ id }) => (id === '1' ? opened : undefined), { concurrency: 4 });
  await isActive;
  // What park() does with many changes of a row.
  await database.query(`
    INSERT INTO postgres_input.parked_postgres_input_test (sequence, seq, xid, at, tbl, id, op, key, attempts, error)
    SELECT n * 1000 || '1700000000000000', n * 1000, '1', to_timestamp(1700000000), 'items', '1', 'UPDATE', '"id" ', 1, 'no'
    FROM generate_series(1, 5000) n`);
  expect(await input.redrive('all')).toBe(5000);
  await until(() => begun.length === 1);
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(2, 101) n');
  await until(() => done.length === 100);
  open();
  await until(
    () => done.length === 5100,
    30_000,
    () => `${done.length} done`,
  );
  await input.close();
  expect(await backlog()).toBe(0);
}, 60_000);

test('rows of a backfill whose key is held up do not stop live changes', async () => {
  const { database, make } = await setup();
  await database.query('INSERT INTO items SELECT n, 0 FROM generate_series(1, 6000) n');
  const input = await make();
  const isActive = active(input);
  const { open, opened } = gate();
  const { begun, done } = record(input, ({ operation }) => (operation === 'read' ? opened : undefined), {
    concurrency: 4,
    key: ({ operation, id }) => (operation === 'read' ? 'all' : id),
  });
  await isActive;
  await input.backfill();
  await until(() => begun.length === 1);
  for (let id = 6001; id <= 6100; id++) {
    await database.query('INSERT INTO items VALUES ($1, 0)', [id]);
    await until(
      () => done.length === id - 6000,
      undefined,
      () => `${done.length} done`,
    );
  }
  open();
  await until(
    () => new Set(done.map(({ sequence }) => sequence)).size >= 6100,
    60_000,
    () => `${done.length} done`,
  );
  expect(done.filter(({ operation }) => operation === 'create')).toHaveLength(100);
  await input.close();
}, 100_000);

test('an event that was announced by hand has as many attempts as others, and is dropped after the last', async () => {
  const { database, make } = await setup();
  const input = await make();
  const isActive = active(input);
  const dropped = new Promise((resolve) => void input.once('parked', resolve));
  const { begun } = record(input, () => Promise.reject(new Error('no')), { retry: { ...FAST, attempts: 3 } });
  await isActive;
  await database.query(`SELECT pg_notify('test', '{"tbl":"theirs","id":"1","op":"INSERT"}')`);
  expect(await dropped).toMatchObject({ location: 'theirs', id: '1', sequence: null, attempts: 3 });
  expect(begun.map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
  expect(await input.parked()).toEqual([]);
});

test('an event that was announced by hand and has no key does not end the processing', async () => {
  const { database, make } = await setup({ rows: 'after' });
  const input = await make();
  const isActive = active(input);
  const { done } = record(input, () => {}, { key: ({ after }) => String(after!['n']) });
  await isActive;
  await database.query(`SELECT pg_notify('test', '{"tbl":"theirs","id":"1","op":"INSERT"}')`);
  await until(() => done.length === 1);
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => done.length === 2);
  expect(done.map(({ location }) => location)).toEqual(['theirs', 'items']);
});

test('a handler that hangs after a crash does not stop other rows', async () => {
  const { database, make } = await setup();
  const input = await make();
  const isActive = active(input);
  const { begun, done } = record(input, ({ id }) => (id === '1' ? new Promise(() => {}) : undefined), {
    concurrency: 3,
    slowAfter: 50,
    reconnect: { minDelay: 1, maxDelay: 1 },
  });
  await isActive;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await until(() => begun.length === 1);
  // The lease is lost without grace, so that what comes first is suspected.
  const again = active(input);
  await database.query(
    `UPDATE postgres_input.lock_postgres_input_test SET holder = 'another', token = token + 1, expires_at = clock_timestamp()`,
  );
  await again;
  await until(() => begun.length === 2);
  await database.query('INSERT INTO items VALUES (2, 0)');
  await until(() => done.length === 1);
  expect(done[0]!.id).toBe('2');
  // It is suspected no more.
  await until(
    async () => (await database.query('SELECT FROM postgres_input.failed_postgres_input_test')).length === 0,
  );
});

test('an event with a key of several columns comes again with that key, whatever its handler did to it', async () => {
  const { database, make } = await setup();
  await database.query('CREATE TABLE lines (o int, n int, PRIMARY KEY (o, n))');
  const input = await make();
  const seen: unknown[] = [];
  const { done } = record(input, ({ key, attempt }) => {
    seen.push({ ...key });
    delete key!['n'];
    if (attempt === 1) throw new Error('not yet');
  });
  await active(input);
  await database.query('INSERT INTO lines VALUES (1, 2)');
  await until(() => done.length === 1);
  expect(seen).toEqual([
    { o: '1', n: '2' },
    { o: '1', n: '2' },
  ]);
});
