import { getEventListeners, once as onceEmitted } from 'node:events';
import { createServer } from 'node:net';
import { inspect } from 'node:util';
import { describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import {
  type ChangeEvent,
  type LifecycleEvents,
  type PostgresInput,
  newPostgresInput,
} from '../src/index.ts';
import { Consumer, once, reaches } from './support/consumer.ts';
import { type TestDatabase } from './support/database.ts';
import { startNode, stopNodes } from './support/node-process.ts';
import { startServer } from './support/server.ts';
import { connections, setupInputs, untilQueueIsFull } from './support/setup-inputs.ts';
import { until } from './support/until.ts';
import { watchWarnings } from './support/warnings.ts';

/** Nobody holds the lease, and no connection of an input is left. */
async function expectAllReleased(database: TestDatabase): Promise<void> {
  await until(async () => (await connections(database)) === 0);
  const [row] = await database.query(
    'SELECT holder, backend_pid FROM postgres_input.lock_postgres_input_test_input',
  );
  expect(row).toEqual({ holder: null, backend_pid: null });
}

const insert = (database: TestDatabase, ...ids: number[]) =>
  database.query('INSERT INTO items SELECT unnest($1::int[])', [ids]);
const backlog = async (database: TestDatabase): Promise<string[]> => {
  const rows = await database.query(`
    SELECT coalesce(packed.id, log.id) AS id FROM postgres_input.log_postgres_input_test_input log
    LEFT JOIN LATERAL json_array_elements_text(CASE WHEN size > 1 THEN id ELSE '[]' END::json) packed (id) ON true
    ORDER BY seq`);
  return rows.map(({ id }) => id);
};

/** Acknowledges all of them. The statement for the first is under way, and stays so until `proceed` is called. */
async function acknowledgeSlowly(
  database: TestDatabase,
  input: PostgresInput,
  [first, ...others]: ChangeEvent[],
) {
  const gate = await database.client();
  await gate.query(`
    CREATE FUNCTION public.pass_gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN WHILE NOT pg_try_advisory_xact_lock_shared(1) LOOP PERFORM pg_sleep(0.005); END LOOP; RETURN OLD; END $$;
    CREATE TRIGGER gate BEFORE DELETE ON postgres_input.log_postgres_input_test_input
    FOR EACH ROW EXECUTE FUNCTION public.pass_gate();
    SELECT pg_advisory_lock(1)`);
  const slow = input.ack(first!);
  slow.catch(() => {}); // awaited below, unless the next line throws
  await until(async () => {
    const waiting = await database.query(
      `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`,
    );
    return waiting.length > 0;
  });
  const acknowledged = Promise.all([slow, ...others.map((event) => input.ack(event))]);
  return { acknowledged, proceed: () => gate.query('SELECT pg_advisory_unlock(1)') };
}

describe('newPostgresInput', () => {
  /** The processes on the server behind the connections of the inputs, the oldest first. */
  const backends = (database: TestDatabase) =>
    database.query(`SELECT pid FROM pg_stat_activity
      WHERE datname = current_database() AND application_name LIKE 'dapper-postgres-input%' ORDER BY backend_start`);

  test('connects, and keeps its connections for a moment only', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    expect(input).toMatchObject({ id: 'test_input', state: 'idle' });
    await until(async () => (await connections(fixture.database)) === 0);
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    await insert(fixture.database, 1);
    await consumer.count(1);
  });

  test('leaves its connections to the first handle()', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const made = await backends(fixture.database);
    expect(made).toHaveLength(2);
    const leaving = new AbortController();
    const consumer = new Consumer(input, { signal: leaving.signal });
    await once(input, 'asleep');
    expect(await backends(fixture.database)).toEqual(expect.arrayContaining(made));
    await insert(fixture.database, 1);
    await consumer.count(1);
    leaving.abort();
    await consumer.ended;
    expect(await backends(fixture.database)).toEqual([]);
    void new Consumer(input);
    await reaches(input, 'active');
  });

  test('closed right away, hangs up', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    await input.close();
    expect(await backends(fixture.database)).toEqual([]);
  });

  test.each([0, 1])('makes others if one of them is lost meanwhile (%i)', async (index) => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const made = await backends(fixture.database);
    await fixture.database.query('SELECT pg_terminate_backend($1)', [made[index].pid]);
    await until(async () => (await connections(fixture.database)) === 0);
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    await insert(fixture.database, 1);
    await consumer.count(1);
    expect(await backends(fixture.database)).not.toEqual(expect.arrayContaining([made[1 - index]]));
  });

  test('gives up on a port that accepts and stays silent, in the time that it was given', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1');
    await onceEmitted(silent, 'listening');
    const { port } = silent.address() as { port: number };
    const began = performance.now();
    await expect(
      newPostgresInput({
        name: 'test',
        type: 'postgres',
        connectionString: `postgres://u:hunter2@127.0.0.1:${port}/x`,
      }),
    ).rejects.toMatchObject({
      code: 'ERR_CONNECT',
      retryable: true,
      message: expect.not.stringContaining('hunter2'),
    });
    expect(performance.now() - began).toBeGreaterThan(450);
    expect(performance.now() - began).toBeLessThan(3000);
    silent.close();
  });

  test.each([
    ['ERR_CONFIG_INVALID', ''],
    ['ERR_CONNECTION_STRING', 'postgres://host:port/x'],
    ['ERR_CONNECTION_STRING', 'some bollocks'],
    ['ERR_CONNECT', 'postgres://nobody@127.0.0.1:1/x'],
    ['ERR_CONNECT', 'host=/nowhere dbname=x'],
  ])('fails with %s for the connection string "%s"', async (code, connectionString) => {
    const input = newPostgresInput({ name: connectionString && 'test', type: 'postgres', connectionString });
    await expect(input).rejects.toMatchObject({ name: 'PostgresInputError', code });
  });

  test('fails for a database that is not there', async () => {
    const url = new URL(inject('adminUrl'));
    url.pathname = '/no_such_database';
    await expect(
      newPostgresInput(
        { name: 'test', type: 'postgres', connectionString: url.href },
        { connectTimeout: 15_000 },
      ),
    ).rejects.toMatchObject({ code: 'ERR_CONNECT', message: expect.stringContaining('no_such_database') });
  });
});

describe('an iteration', () => {
  test('goes idle, standby, active, idle, and may begin again', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const states: string[] = [];
    for (const state of ['idle', 'standby', 'active', 'closed'] as const) {
      input.on(state, () => {
        expect(input.state).toBe(state);
        states.push(state);
      });
    }
    const tokens: bigint[] = [];
    input.on('active', ({ fencingToken }) => tokens.push(BigInt(fencingToken)));
    for (const round of [1, 2]) {
      const asleep = once(input, 'asleep');
      const events = input.handle();
      await asleep;
      await insert(fixture.database, round);
      expect((await events.next()).value).toMatchObject({ id: String(round), trigger: 'test_input' });
      const pull = events.next();
      await until(async () => (await backlog(fixture.database)).length === 0);
      await events.return!();
      expect(await pull).toEqual({ done: true, value: undefined });
      expect(await events.next()).toEqual({ done: true, value: undefined });
      await expectAllReleased(fixture.database);
    }
    await input.close();
    expect(states).toEqual(['standby', 'active', 'idle', 'standby', 'active', 'idle', 'closed']);
    expect(tokens[1]).toBeGreaterThan(tokens[0]!);
  });

  test('has one consumer', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const events = input.handle();
    expect(() => input.handle()).toThrow(expect.objectContaining({ code: 'ERR_ALREADY_HANDLING' }));
    await expect(input.uninstall()).rejects.toMatchObject({ code: 'ERR_ALREADY_HANDLING' });
    await events.return!();
    await input.handle().return!();
  });

  test('serves concurrent pulls in their order', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const events = input.handle();
    const pulls = [events.next(), events.next(), events.next()];
    await reaches(input, 'active');
    await insert(fixture.database, 1);
    await insert(fixture.database, 2);
    expect((await Promise.all(pulls.slice(0, 2))).map(({ value }) => value?.id)).toEqual(['1', '2']);
    await events.return!();
    expect(await pulls[2]).toEqual({ done: true, value: undefined });
  });
});

describe('close()', () => {
  test('before handle() makes handle() fail', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    await input.close();
    await input.close();
    expect(input.state).toBe('closed');
    expect(() => input.handle()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });

  test('right after handle() ends the iteration', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const events = input.handle();
    await Promise.all([input.close(), input.close()]);
    expect(await events.next()).toEqual({ done: true, value: undefined });
    await until(async () => (await connections(fixture.database)) === 0);
  });

  test.each(['standby', 'active'] as const)('while %s ends the pulls that wait', async (state) => {
    await using fixture = await setupInputs();
    const [first, second] = [await fixture.input(), await fixture.input()];
    void new Consumer(first);
    await reaches(first, 'active');
    const asleep = once(second, 'standby');
    const events = second.handle();
    await asleep;
    if (state === 'active') await first.close();
    await reaches(second, state);
    const pulls = [events.next(), events.next()];
    await Promise.all([second.close(), second.close()]);
    expect(await Promise.all(pulls)).toEqual([
      { done: true, value: undefined },
      { done: true, value: undefined },
    ]);
    await first.close();
    await expectAllReleased(fixture.database);
  });

  test('inside the loop lets the next pull acknowledge and end', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const seen: string[] = [];
    const consumer = new Consumer(input, {}, async ({ id }) => {
      seen.push(id);
      await input.close();
      await input.close();
      // Still held: what is in hand is ours until it is acknowledged.
      expect(await backlog(fixture.database)).toContain(id);
    });
    await reaches(input, 'active');
    await fixture.database.query('INSERT INTO items SELECT generate_series(1, 3)');
    expect(await consumer.ended).toBeUndefined();
    expect(seen).toEqual(['1']);
    expect(await backlog(fixture.database)).toEqual(['2', '3']);
    await expectAllReleased(fixture.database);
  });

  test('ends after lease.duration if no pull follows an event in hand', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input({ lease: { duration: 1200, renewInterval: 300, margin: 300 } });
    const events = input.handle();
    await insertWhenActive(fixture.database, input, 1);
    await events.next();
    await input.close();
    await expectAllReleased(fixture.database);
    expect(await backlog(fixture.database)).toEqual(['1']);
    expect(await events.next()).toEqual({ done: true, value: undefined });
  });

  test('keeps the lease until what is in hand is acknowledged, also what is still under way then', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const lease = { duration: 120_000, renewInterval: 30_000 };
    const [input, next] = [await fixture.input({ lease }), await fixture.input({ lease })];
    const events = input.handle({ ack: 'manual' });
    await once(input, 'asleep');
    void new Consumer(next);
    await reaches(next, 'standby');
    await insert(database, 1, 2, 3);
    const inHand = [await events.next(), await events.next(), await events.next()].map(({ value }) => value!);
    const awake = once(input, 'awake');
    await input.close();
    await awake; // its reader has ended
    for (let n = 0; n < 20; n++) await database.query('SELECT pg_sleep(0.01)');
    expect(next.state).toBe('standby');
    const { acknowledged, proceed } = await acknowledgeSlowly(database, input, inHand);
    await new Promise(setImmediate);
    await proceed();
    await acknowledged;
    expect(await backlog(database)).toEqual([]);
    expect(await events.next()).toEqual({ done: true, value: undefined });
    await reaches(next, 'active');
  });

  test('wakes the standbys, however long their poll interval', async () => {
    await using fixture = await setupInputs();
    const lease = { duration: 120_000, pollInterval: 60_000 };
    const [first, second] = [await fixture.input({ lease }), await fixture.input({ lease })];
    const consumer = new Consumer(first);
    await reaches(first, 'active');
    void new Consumer(second);
    await reaches(second, 'standby');
    await first.close();
    expect(await consumer.ended).toBeUndefined();
    await reaches(second, 'active');
  });
});

async function insertWhenActive(
  database: TestDatabase,
  input: Parameters<typeof reaches>[0],
  ...ids: number[]
): Promise<void> {
  await reaches(input, 'active');
  await insert(database, ...ids);
}

describe('leaving the loop', () => {
  test.each(['break', 'throw', 'return'] as const)(
    'by %s leaves the event in hand to come again',
    async (how) => {
      await using fixture = await setupInputs();
      const input = await fixture.input();
      const leave = async () => {
        for await (const { id } of input.handle()) {
          if (id !== '2') continue;
          if (how === 'break') break;
          if (how === 'return') return;
          throw new Error('out');
        }
      };
      const left = leave();
      await insertWhenActive(fixture.database, input, 1, 2, 3);
      expect(await left.catch((error: Error) => error.message)).toBe(how === 'throw' ? 'out' : undefined);
      expect(input.state).toBe('idle');
      expect(await backlog(fixture.database)).toEqual(['2', '3']);
      await expectAllReleased(fixture.database);

      const again = new Consumer(input);
      await again.count(2);
      expect(again.ids).toEqual(['2', '3']);
    },
  );

  test('before the first pull releases everything', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const events = input.handle();
    await reaches(input, 'active');
    expect(await events.return!()).toEqual({ done: true, value: undefined });
    await expectAllReleased(fixture.database);
  });

  test('by await using closes the input', async () => {
    await using fixture = await setupInputs();
    const ids: string[] = [];
    {
      await using input = await fixture.input();
      const events = input.handle();
      await insertWhenActive(fixture.database, input, 1);
      ids.push((await events.next()).value!.id);
    }
    expect(ids).toEqual(['1']);
    await expectAllReleased(fixture.database);
    expect(await backlog(fixture.database)).toEqual(['1']);
  });
});

describe('a signal', () => {
  test('aborted before handle() rejects the first pull with its reason', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const reason = { any: 'thing' };
    const events = input.handle({ signal: AbortSignal.abort(reason) });
    await expect(events.next()).rejects.toBe(reason);
    expect(await events.next()).toEqual({ done: true, value: undefined });
    expect(input.state).toBe('idle');
    await until(async () => (await connections(fixture.database)) === 0);
  });

  test.each(['early', 'standby', 'active'] as const)(
    'aborted %s rejects the pull that waits, after the lease is released',
    async (when) => {
      await using fixture = await setupInputs();
      const [other, input] = [await fixture.input(), await fixture.input()];
      if (when === 'standby') {
        void new Consumer(other);
        await reaches(other, 'active');
      }
      const abort = new AbortController();
      const events = input.handle({ signal: abort.signal });
      if (when !== 'early') await reaches(input, when);
      const reason = new Error('enough');
      const pull = events.next();
      const later = events.next();
      abort.abort(reason);
      await expect(pull).rejects.toBe(reason);
      expect(await later).toEqual({ done: true, value: undefined });
      expect(input.state).toBe('idle');
      await until(async () => (await connections(fixture.database)) === (when === 'standby' ? 2 : 0));
      await other.close();
      if (when !== 'early') await expectAllReleased(fixture.database); // early, nothing is installed yet
    },
  );

  test('aborted inside the loop leaves the event in hand to come again', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const abort = new AbortController();
    const reason = new Error('enough');
    const consumer = new Consumer(input, { signal: abort.signal }, () => abort.abort(reason));
    await insertWhenActive(fixture.database, input, 1, 2);
    expect(await consumer.ended).toBe(reason);
    expect(consumer.ids).toEqual(['1']);
    await expectAllReleased(fixture.database);
    expect(await backlog(fixture.database)).toEqual(['1', '2']);
    const again = new Consumer(input);
    await again.count(2);
    expect(again.ids).toEqual(['1', '2']);
  });

  test('aborted while acknowledgements are under way lets them be done before the lease is released', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const input = await fixture.input({ lease: { duration: 120_000, renewInterval: 30_000 } });
    const abort = new AbortController();
    const events = input.handle({ ack: 'manual', signal: abort.signal });
    await reaches(input, 'active');
    await database.query('INSERT INTO items SELECT generate_series(1, 9000)');
    const inHand = [await events.next(), await events.next(), await events.next()].map(({ value }) => value!);
    // Then the reader has nothing to ask, behind which the release would come late by itself.
    await untilQueueIsFull(database);
    const { acknowledged, proceed } = await acknowledgeSlowly(database, input, inHand);
    abort.abort(new Error('enough'));
    await new Promise(setImmediate);
    await proceed();
    await acknowledged;
    await expect(events.next()).rejects.toThrow('enough');
    expect(await backlog(database)).toHaveLength(8997);
  });

  test('is left without listeners, and aborting it later does nothing', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const abort = new AbortController();
    const listeners = () => getEventListeners(abort.signal, 'abort').length;
    const events = input.handle({ signal: abort.signal });
    await reaches(input, 'active');
    expect(listeners()).toBeGreaterThan(0);
    await events.return!();
    expect(listeners()).toBe(0);
    abort.abort();
    expect(await events.next()).toEqual({ done: true, value: undefined });
    await expectAllReleased(fixture.database);
  });
});

describe('garbage on the channel', () => {
  test('ends the iteration after the lease is released, so that another node carries on', async () => {
    await using fixture = await setupInputs();
    const [first, second] = [await fixture.input(), await fixture.input()];
    const consumer = new Consumer(first);
    await reaches(first, 'active');
    const standby = new Consumer(second);
    await reaches(second, 'standby');
    await fixture.database.query(`NOTIFY test_input, 'some bollocks'`);
    expect(await consumer.ended).toMatchObject({ code: 'ERR_PAYLOAD_INVALID', retryable: false });
    expect(first.state).toBe('idle');
    await insertWhenActive(fixture.database, second, 1);
    await standby.count(1);

    const again = new Consumer(first);
    await reaches(first, 'standby');
    await second.close();
    await insertWhenActive(fixture.database, first, 2);
    await again.count(1);
  });

  test('with reconnect, only makes the node give the lease up and join again', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const attempts: LifecycleEvents['reconnecting'][0][] = [];
    input.on('reconnecting', (attempt) => attempts.push(attempt));
    const consumer = new Consumer(input, { reconnect: { minDelay: 20, maxDelay: 60_000 } });
    for (const [attempt, garbage] of ['null', 'some bollocks'].entries()) {
      await once(input, 'asleep');
      await fixture.database.query('INSERT INTO items VALUES ($1)', [attempt]);
      await consumer.count(attempt + 1);
      const joined = once(input, 'standby');
      // A flood: more of it arrives while the node gives the lease up, and while it is away.
      await fixture.database.query(`SELECT pg_notify('test_input', $1 || n) FROM generate_series(1, 100) n`, [
        garbage,
      ]);
      await until(() => attempts.length === attempt + 1);
      await fixture.database.query('SELECT pg_notify($1, $2)', ['test_input', garbage]);
      await joined;
    }
    // The attempts count up and their delays grow, so that a flood makes no storm of terms.
    expect(attempts).toMatchObject([
      { attempt: 1, error: { code: 'ERR_PAYLOAD_INVALID', retryable: false } },
      { attempt: 2, error: { code: 'ERR_PAYLOAD_INVALID', retryable: false } },
    ]);
    await input.close();
    await expectAllReleased(fixture.database);
    expect(await consumer.ended).toBeUndefined();
    expect(consumer.ids).toEqual(['0', '1']);
  });

  test('leaves time for the event in hand', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const consumer = new Consumer(input, {}, async () => {
      const awake = once(input, 'awake');
      await fixture.database.query(`NOTIFY test_input, 'garbage'`);
      await awake;
    });
    await once(input, 'asleep');
    await insert(fixture.database, 1);
    expect(await consumer.ended).toMatchObject({ code: 'ERR_PAYLOAD_INVALID' });
    expect(await backlog(fixture.database)).toEqual([]);
  });

  test('is skipped and counted with foreignNotifications: ignore, as is a notification by hand', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input({ foreignNotifications: 'ignore' });
    const consumer = new Consumer(input);
    const ignored: number[] = [];
    input.on('ignored', () => ignored.push(1));
    await once(input, 'asleep');
    await fixture.database.query(`NOTIFY test_input, 'some bollocks'`);
    await fixture.database.query(`NOTIFY test_input, '{"tbl":"items","id":"7","op":"INSERT"}'`);
    await insert(fixture.database, 1);
    await consumer.count(1);
    expect(consumer.ids).toEqual(['1']);
    expect(ignored).toHaveLength(2);
    expect(await input.status()).toMatchObject({ ignoredNotifications: 2, forgedNotifications: 0 });
  });
});

describe('a database that goes away', () => {
  const kill = async (database: TestDatabase, which: 'listener' | 'control') => {
    const [{ pid }] = await database.query(
      `SELECT a.pid FROM pg_stat_activity a WHERE a.datname = current_database()
       AND a.application_name LIKE 'dapper-postgres-input%'
       AND (a.pid = (SELECT backend_pid FROM postgres_input.lock_postgres_input_test_input)) = $1`,
      [which === 'control'],
    );
    await database.query('SELECT pg_terminate_backend($1)', [pid]);
  };

  test.each(['listener', 'control'] as const)(
    'by its %s connection ends the iteration, and another node carries on',
    async (which) => {
      await using fixture = await setupInputs();
      const first = await fixture.input();
      const consumer = new Consumer(first);
      await once(first, 'asleep');
      await insert(fixture.database, 1);
      await consumer.count(1);
      await kill(fixture.database, which);
      await insert(fixture.database, 2);
      expect(await consumer.ended).toMatchObject({ code: 'ERR_CONNECTION_LOST', retryable: true });
      expect(first.state).toBe('idle');
      await until(async () => (await connections(fixture.database)) === 0);

      const second = await fixture.input();
      const next = new Consumer(second);
      await next.count(1);
      expect([...new Set([...consumer.ids, ...next.ids])]).toEqual(['1', '2']);
      const again = new Consumer(first);
      await reaches(first, 'standby');
      await second.close();
      await insertWhenActive(fixture.database, first, 3);
      await again.count(1);
      expect(again.ids).toEqual(['3']);
    },
  );

  test.each(['listener', 'control'] as const)(
    'by its %s connection is noticed at once',
    async (which) => {
      await using fixture = await setupInputs();
      const lease = { duration: 240_000, renewInterval: 60_000 };
      const input = await fixture.input({ lease, discoveryInterval: 60_000 });
      const consumer = new Consumer(input);
      await once(input, 'asleep');
      await kill(fixture.database, which);
      expect(await consumer.ended).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    },
    30_000,
  );

  test.each(['listener', 'control'] as const)(
    'by its %s connection is survived with reconnect',
    async (which) => {
      await using fixture = await setupInputs();
      const input = await fixture.input();
      const attempts: unknown[] = [];
      input.on('reconnecting', ({ error: { code }, attempt, delay }) => {
        attempts.push({ code, attempt, isShort: delay <= 100 * 2 ** (attempt - 1), state: input.state });
      });
      const consumer = new Consumer(input, { reconnect: true });
      let asleep = once(input, 'asleep');
      for (const round of [1, 2]) {
        await asleep;
        asleep = once(input, 'asleep');
        await kill(fixture.database, which);
        await until(() => attempts.length === round);
        await insert(fixture.database, round);
        await consumer.count(round);
      }
      expect(consumer.ids).toEqual(['1', '2']);
      // It did not last long in between.
      const lost = { code: 'ERR_CONNECTION_LOST', isShort: true, state: 'reconnecting' };
      expect(attempts).toEqual([
        { ...lost, attempt: 1 },
        { ...lost, attempt: 2 },
      ]);
    },
  );

  test('by all connections ends the iteration, and the input works again afterwards', async () => {
    await using server = await startServer();
    await using fixture = await setupInputs(server.url());
    const [first, second] = [await fixture.input(), await fixture.input()];
    const consumer = new Consumer(first);
    await reaches(first, 'active');
    const lasting = new Consumer(second, { reconnect: { minDelay: 20, maxDelay: 50 } });
    await reaches(second, 'standby');
    await insert(fixture.database, 1);
    await consumer.count(1);
    const told: string[] = [];
    for (const name of ['reconnecting', 'standby', 'active'] as const) second.on(name, () => told.push(name));
    await server.stop();
    expect(await consumer.ended).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    const events = first.handle();
    await expect(events.next()).rejects.toMatchObject({ code: 'ERR_CONNECT', retryable: true });
    expect(first.state).toBe('idle');
    await expect(first.status()).rejects.toMatchObject({ code: 'ERR_CONNECT' });
    await until(() => told.length > 3);
    expect(second.state).toBe('reconnecting');
    await server.start();
    await reaches(second, 'active');
    expect(told.filter((name, n) => name !== told[n - 1])).toEqual(['reconnecting', 'standby', 'active']);
    await insert(fixture.database, 2);
    await until(() => lasting.ids.includes('2'));
    await server.stop('immediate');
    await second.close();
    expect(await lasting.ended).toBeUndefined();
    await server.start();
  });

  test('before or during close() does not make close() throw', async () => {
    await using server = await startServer();
    await using fixture = await setupInputs(server.url());
    const input = await fixture.input();
    const events = input.handle();
    await insertWhenActive(fixture.database, input, 1);
    await events.next();
    const closed = input.close();
    await server.stop('immediate');
    await closed;
    expect(await events.next()).toEqual({ done: true, value: undefined });
    await server.start();
  });
});

test('a listener whose promise is rejected makes a warning, as one that throws does', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const { warn, unhandled } = watchWarnings();
  const error = new Error('later');
  // oxlint-disable-next-line typescript/no-misused-promises
  input.on('closed', async () => {
    await Promise.resolve();
    throw error;
  });
  await input.close();
  await until(() => warn.mock.calls.length > 0 || unhandled.length > 0);
  expect(warn.mock.calls).toEqual([[error]]);
  expect(unhandled).toEqual([]);
});

test('a listener that throws does not harm the node', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  onTestFinished(() => warn.mockRestore());
  for (const name of [
    'standby',
    'active',
    'installed',
    'asleep',
    'awake',
    'forged',
    'idle',
    'closed',
  ] as const) {
    input.on(name, () => {
      throw new Error(`listener of ${name}`);
    });
  }
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await fixture.database.query(`NOTIFY test_input, '[{"seq":"1"}]'`);
  await fixture.database.query('INSERT INTO items SELECT generate_series(1, 100)');
  await consumer.count(100);
  await input.close();
  expect(await consumer.ended).toBeUndefined();
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ message: 'listener of forged' }));
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ message: 'listener of closed' }));
});

test('a listener may throw what can not be printed', async () => {
  await using fixture = await setupInputs();
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  onTestFinished(() => warn.mockRestore());
  const input = await fixture.input();
  const unprintable = Object.create(null, {
    [inspect.custom]: {
      value: () => {
        throw new Error('no');
      },
    },
  });
  for (const thrown of [Object.create(null), unprintable]) {
    input.on('standby', () => {
      throw thrown;
    });
    // oxlint-disable-next-line typescript/no-misused-promises
    input.on('active', async () => {
      throw thrown;
    });
  }
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await fixture.database.query('INSERT INTO items VALUES (1)');
  await consumer.count(1);
  await input.close();
  expect(await consumer.ended).toBeUndefined();
  expect(warn).toHaveBeenCalledTimes(3);
});

test('listeners can be taken back', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const calls: string[] = [];
  const listener = () => calls.push('on');
  input
    .once('closed', () => calls.push('once'))
    .on('closed', listener)
    .off('closed', listener);
  await input.close();
  expect(calls).toEqual(['once']);
});

test('a process exits by itself after every ending, whether its node waits or has an event in hand', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  const endings = ['waiting', 'close', 'abort', 'return', 'garbage', 'lost'] as const;
  const nodes = new Map(endings.map((name) => [name, startNode({ url: database.url, name })]));
  onTestFinished(() => stopNodes([...nodes.values()]));
  await Promise.all([...nodes.values()].map((node) => node.waitFor(({ is }) => is === 'asleep', 60_000)));
  for (const [ending, node] of nodes) if (ending !== 'waiting') node.send({ do: 'pull' });
  await insert(database, 1);

  const expectExit = async (ending: (typeof endings)[number], error: string | null) => {
    const node = nodes.get(ending)!;
    if (ending !== 'waiting') await node.waitFor(({ is }) => is === 'event');
    if (ending === 'garbage') await database.query(`NOTIFY garbage, 'garbage'`);
    else if (ending === 'lost') {
      await database.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'dapper-postgres-input lost' AND datname = current_database()`,
      );
    } else {
      const command = ending === 'waiting' ? 'close' : ending;
      node.send({ do: command });
      if (ending !== 'return') await node.waitFor((report) => report.is === 'done');
    }
    node.send({ do: 'consume' });
    expect(await node.waitFor(({ is }) => is === 'ended')).toEqual({ is: 'ended', error });
    node.send({ do: 'leave' });
    expect(await node.exited).toEqual({ code: 0, signal: null });
    expect(node.output()).toBe('');
  };
  await Promise.all([
    expectExit('waiting', null),
    expectExit('close', null),
    expectExit('abort', 'told to'),
    expectExit('return', null),
    expectExit('garbage', 'ERR_PAYLOAD_INVALID'),
    expectExit('lost', 'ERR_CONNECTION_LOST'),
  ]);
  expect(await connections(database)).toBe(0);
}, 90_000);
