/** What a node tells of its health: from the facts that it is given, and as a whole. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { PostgresInputError } from '../../src/api/errors.ts';
import type { Health, HealthCheck, SharedMetrics } from '../../src/api/status.ts';
import type { PostgresInput, PostgresInputOptions } from '../../src/index.ts';
import { NodeHealth } from '../../src/observe/health.ts';
import { namesOf } from '../../src/schema/names.ts';
import { Consumer, reaches } from '../support/consumer.ts';
import { startServer } from '../support/server.ts';
import { connections, setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

const CALM: SharedMetrics = { backlog: 0, oldestAgeSeconds: null, retrying: 0, parked: 0 };

const turn = () => new Promise(setImmediate);

/** The checks that are not ok, by their names. */
const amiss = ({ checks }: Health) =>
  Object.fromEntries(
    checks
      .filter(({ status }) => status !== 'ok')
      .map(({ name, status, message }) => [name, `${status}: ${message}`]),
  );
const checkOf = ({ checks }: Health, wanted: HealthCheck['name']) =>
  checks.find(({ name }) => name === wanted)!;

describe('from the facts', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  /** A node that is active; its looks find what they are told. */
  function setup() {
    const found: { next: SharedMetrics | Error; looks: number } = { next: CALM, looks: 0 };
    const health = new NodeHealth({
      patience: 5000,
      installs: true,
      wakeup: 'notify',
      secrets: ['hunter2'],
      look: async () => {
        found.looks++;
        if (found.next instanceof Error) throw found.next;
        return found.next;
      },
    });
    health.hear(['installed', { watched: ['items'], unwatchable: [], pending: [] }]);
    health.hear(['standby']);
    /** Lets a look find this, and tells the health afterwards. */
    const after = async (next: Partial<SharedMetrics> | Error) => {
      vi.advanceTimersByTime(10_000);
      found.next = next instanceof Error ? next : { ...CALM, ...next };
      health.report('active');
      await turn();
      return health.report('active');
    };
    return { health, found, after };
  }

  test('a sound node is ok, and every check is listed, whatever it finds', () => {
    const { health } = setup();
    const sound = health.report('standby');
    expect(sound.status).toBe('ok');
    expect(sound.checks.map(({ name }) => name)).toEqual(
      health.report('closed').checks.map(({ name }) => name),
    );
    expect(new Set(sound.checks.map(({ name }) => name)).size).toBe(13);
  });

  test('a standby looks at nothing, and an active node at most every ten seconds', async () => {
    const { health, found } = setup();
    health.report('standby');
    expect(found.looks).toBe(0);
    health.report('active');
    health.report('active');
    await turn();
    vi.advanceTimersByTime(9999);
    health.report('active');
    expect(found.looks).toBe(1);
    vi.advanceTimersByTime(1);
    health.report('active');
    expect(found.looks).toBe(2);
    await turn();
    health.hear([
      'parked',
      { sequence: '1', location: 'items', id: '1', attempts: 1, error: new Error('no route') },
    ]);
    health.report('active');
    expect(found.looks).toBe(3);
  });

  test('an old change, and one that is not', async () => {
    const { after } = setup();
    expect(amiss(await after({ backlog: 3, oldestAgeSeconds: 59 }))).toEqual({});
    expect(amiss(await after({ backlog: 3, oldestAgeSeconds: 61 }))).toEqual({
      backlog: expect.stringMatching(
        /^warn: 3 not acknowledged, the oldest 61 s old; the limit is 60 s: the consumer/,
      ),
    });
  });

  test('a backlog that grows from look to look, and no longer when it falls', async () => {
    const { after } = setup();
    for (const backlog of [2000, 3000, 4000]) expect(amiss(await after({ backlog }))).toEqual({});
    expect(amiss(await after({ backlog: 5000 }))).toEqual({
      backlog: expect.stringMatching(/^warn: it grows: 5000/),
    });
    expect(amiss(await after({ backlog: 4999 }))).toEqual({});
  });

  test('parked events, and a look that failed', async () => {
    const { after } = setup();
    expect(amiss(await after({ parked: 2 }))).toEqual({ parked: expect.stringMatching(/^warn: 2 parked: /) });
    expect(amiss(await after(new Error('no way, hunter2')))).toMatchObject({
      backlog: 'warn: it could not be read: no way, ***',
    });
  });

  test('an outage is a warning for as long as the lease, and an error after that', () => {
    const { health } = setup();
    const error = new PostgresInputError('ERR_CONNECTION_LOST', 'it went away');
    health.hear(['reconnecting', { error, attempt: 1, delay: 100 }]);
    vi.advanceTimersByTime(5000);
    health.hear(['reconnecting', { error, attempt: 2, delay: 100 }]);
    expect(health.report('reconnecting')).toMatchObject({ status: 'warn' });
    vi.advanceTimersByTime(1);
    expect(health.report('reconnecting')).toMatchObject({ status: 'error' });
    expect(amiss(health.report('reconnecting'))).toEqual({
      connection:
        'error: the node has been reconnecting for 5.0 s (it went away): see to the database and the way there',
    });
    health.hear(['standby']);
    expect(health.report('standby').status).toBe('ok');
  });

  test('an installation that is gone, for a node that waits for the next one', () => {
    const { health } = setup();
    const error = new PostgresInputError('ERR_INSTALL', 'it was removed: install it');
    health.hear(['reconnecting', { error, attempt: 1, delay: 100 }]);
    expect(amiss(health.report('reconnecting'))).toEqual({
      installation: 'error: it was removed: install it',
    });
  });

  test('tables that are left out, options that differ, triggers that could not be looked after, publications', () => {
    const { health } = setup();
    health.hear([
      'installed',
      {
        watched: [],
        unwatchable: [{ table: 'a', reason: 'it belongs to x' }],
        pending: ['b'],
        publishedBy: ['everything'],
      },
    ]);
    health.hear(['optionsDiffer', [{ option: 'include', installed: [], wanted: ['a'] }]]);
    health.hear(['discoveryFailed', new Error('refused')]);
    expect(amiss(health.report('active'))).toEqual({
      tables: expect.stringMatching(/^warn: a is not watched: it belongs to x; b not watched yet: /),
      options: expect.stringMatching(/^warn: another node installed with other values of include: /),
      installation: 'warn: looking after the triggers failed, and is tried again: refused',
      publications: expect.stringMatching(/^warn: publication everything is FOR ALL TABLES/),
    });
    health.hear(['installed', { watched: ['a', 'b'], unwatchable: [], pending: [] }]);
    expect(amiss(health.report('active'))).toEqual({});
  });

  test('a condition that fails, for an hour or until the term ends', () => {
    const { health } = setup();
    health.hear(['conditionFailed', { table: 'a', statements: 1 }]);
    health.hear(['conditionFailed', { table: 'a', statements: 2 }]);
    vi.advanceTimersByTime(3_599_999);
    expect(amiss(health.report('active'))).toEqual({
      conditions: expect.stringMatching(
        /^warn: when of a failed for 3 statements, the last 3600 s ago: .*doctor/,
      ),
    });
    vi.advanceTimersByTime(1);
    expect(amiss(health.report('active'))).toEqual({});
    health.hear(['conditionFailed', { table: 'a', statements: 1 }]);
    health.hear(['standby']);
    expect(amiss(health.report('standby'))).toEqual({});
  });

  test('a backfill that fails, for an hour or until the term ends', () => {
    const { health } = setup();
    const fail = (table: string) =>
      health.hear([
        'backfillFailed',
        { backfill: '1', table, error: new PostgresInputError('ERR_INSTALL', `${table} is gone`) },
      ]);
    fail('a');
    vi.advanceTimersByTime(1_800_000);
    fail('b');
    vi.advanceTimersByTime(1_799_999);
    expect(amiss(health.report('active'))).toEqual({ backfills: 'warn: a is gone; b is gone' });
    vi.advanceTimersByTime(1);
    expect(amiss(health.report('active'))).toEqual({ backfills: 'warn: b is gone' });
    health.hear(['standby']);
    expect(amiss(health.report('standby'))).toEqual({});
  });

  test('a backfill that fails, until a later one of its table is done', () => {
    const { health } = setup();
    const fail = (backfill: string) =>
      health.hear([
        'backfillFailed',
        { backfill, table: 'a', error: new PostgresInputError('ERR_INSTALL', 'a is gone') },
      ]);
    const status = () => checkOf(health.report('active'), 'backfills').status;
    fail('100');
    health.hear(['backfillDone', { backfill: '99', table: 'a' }]);
    health.hear(['backfillDone', { backfill: '101', table: 'b' }]);
    expect(status()).toBe('warn');
    health.hear(['backfillDone', { backfill: '101', table: 'a' }]);
    expect(status()).toBe('ok');
    // It had been paused.
    fail('98');
    expect(status()).toBe('ok');
    fail('102');
    expect(status()).toBe('warn');
  });

  test('the notification queue and the sequence, until they are put right or the term ends', () => {
    const { health } = setup();
    health.hear(['notificationQueue', { usage: 0.3, isFilling: true }]);
    health.hear(['sequenceReset', { repaired: false }]);
    expect(amiss(health.report('active'))).toEqual({
      'notification queue': expect.stringMatching(/^warn: it is 30 % full/),
      sequence: expect.stringMatching(/^warn: somebody has set the log's sequence/),
    });
    health.hear(['notificationQueue', { usage: 0.1, isFilling: false }]);
    health.hear(['sequenceReset', { repaired: true }]);
    expect(amiss(health.report('active'))).toEqual({});
  });
});

describe('of a node', () => {
  async function setup() {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    return { database: fixture.database, make: (options?: PostgresInputOptions) => fixture.input(options) };
  }

  const statuses = (...inputs: PostgresInput[]) => inputs.map((input) => input.health().status);

  test('before, during and after: an input that takes no part is in error', async () => {
    const { make } = await setup();
    const [first, second] = [await make(), await make()];
    expect(amiss(first.health())).toEqual({
      node: expect.stringMatching(/^error: no handle\(\) has joined/),
    });
    void new Consumer(first);
    await reaches(first, 'active');
    void new Consumer(second);
    await reaches(second, 'standby');
    expect(statuses(first, second)).toEqual(['ok', 'ok']);
    expect(checkOf(first.health(), 'tables').message).toBe('1 watched');
    await first.close();
    expect(amiss(first.health())).toEqual({ node: 'error: the input is closed: make a new one' });
    await reaches(second, 'active');
    expect(statuses(second)).toEqual(['ok']);
  });

  test('tells of parked events and old changes what the database tells, and closing leaves no connection behind', async () => {
    const { database, make } = await setup();
    const input = await make();
    const events = input.handle({ ack: 'manual' });
    await reaches(input, 'active');
    await database.query(`
      INSERT INTO items VALUES (1), (2);
      WITH gone AS (DELETE FROM postgres_input.log_postgres_input_test_input WHERE id = '1' RETURNING *)
      INSERT INTO postgres_input.parked_postgres_input_test_input (sequence, seq, xid, at, tbl, id, op, key, attempts, error)
      SELECT seq || '1', seq, xid, at, tbl, id, op, key, 4, 'no route' FROM gone;
      UPDATE postgres_input.log_postgres_input_test_input SET at = at - interval '2 minutes'`);
    await until(() => Object.keys(amiss(input.health())).length > 0);
    expect(amiss(input.health())).toEqual({
      parked: expect.stringMatching(/^warn: 1 parked/),
      backlog: expect.stringMatching(/^warn: 1 not acknowledged, the oldest 12\d s old/),
    });
    expect(input.health().status).toBe('warn');
    await events.return!();
    await input.close();
    await until(async () => (await connections(database)) === 0);
  });

  test('a look that takes long does not keep close() waiting', async () => {
    const { database, make } = await setup();
    const input = await make({ lease: { duration: 600_000, renewInterval: 200_000 } });
    void new Consumer(input);
    await reaches(input, 'active');
    const client = await database.client();
    await client.query('BEGIN; LOCK TABLE postgres_input.parked_postgres_input_test_input');
    input.health();
    await until(async () => {
      const waiting = await database.query(`SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'
        AND datname = current_database() AND application_name LIKE 'dapper-postgres-input%'`);
      return waiting.length > 0;
    });
    await input.close();
    expect(input.health().status).toBe('error');
    await client.query('COMMIT');
  });

  test.each(['standby', 'active'] as const)(
    '%s: while the server is down, and when it is back',
    async (role) => {
      await using server = await startServer();
      await using fixture = await setupInputs(server.url());
      const [first, second] = [await fixture.input(), await fixture.input()];
      void new Consumer(first, { reconnect: { minDelay: 10, maxDelay: 50 } });
      await reaches(first, 'active');
      void new Consumer(second, { reconnect: { minDelay: 10, maxDelay: 50 } });
      await reaches(second, 'standby');
      const input = role === 'active' ? first : second;
      await server.stop('immediate');
      await until(() => input.state === 'reconnecting');
      expect(checkOf(input.health(), 'connection')).toMatchObject({ status: 'warn' });
      const told = new Promise((resolve) => void input.once('standby', () => resolve(input.state)));
      await server.start();
      expect(await told).toBe('standby');
      await until(() => input.health().status === 'ok');
    },
  );

  test('tells of objects that a newer version has installed, and why handle() has ended', async () => {
    const { database, make } = await setup();
    const input = await make();
    const consumer = new Consumer(input, { reconnect: true });
    await reaches(input, 'active');
    const { lockTable } = namesOf('test_input', 'postgres_input');
    await input[Symbol.asyncDispose]();
    await database.query(`UPDATE ${lockTable.sql} SET version = 99`);
    await consumer.ended;
    const later = await make();
    const ended = await new Consumer(later, { reconnect: true }).ended;
    expect(ended).toMatchObject({ code: 'ERR_INSTALL' });
    expect(amiss(later.health())).toEqual({
      node: expect.stringMatching(/^error: handle\(\) has ended/),
      installation: `error: ${(ended as Error).message}`,
    });
  });
});
