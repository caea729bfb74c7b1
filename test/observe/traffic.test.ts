/** Metrics, and the channels of node:diagnostics_channel: what passes between a node and its consumer. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, onTestFinished, test, vi } from 'vitest';
import {
  type ChangeEvent,
  type DiagnosticsMessages,
  type PostgresInputOptions,
  type ProcessMessage,
} from '../../src/index.ts';
import { channels } from '../../src/observe/channels.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

async function setup() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  return { database: fixture.database, make: (options?: PostgresInputOptions) => fixture.input(options) };
}

/** The messages of a channel, from now to the end of the test. */
function messagesOf<Name extends keyof DiagnosticsMessages>(name: Name): DiagnosticsMessages[Name][] {
  const messages: DiagnosticsMessages[Name][] = [];
  const take = (message: unknown) => void messages.push(message as DiagnosticsMessages[Name]);
  subscribe(name, take);
  onTestFinished(() => void unsubscribe(name, take));
  return messages;
}

const PARK = `
  WITH gone AS (DELETE FROM postgres_input.log_postgres_input_test_input WHERE id = '3' RETURNING *)
  INSERT INTO postgres_input.parked_postgres_input_test_input (sequence, seq, xid, at, tbl, id, op, key, attempts, error)
  SELECT seq || '1', seq, xid, at, tbl, id, op, key, 4, 'no route' FROM gone`;

test('metrics count what was handed out and acknowledged, and read what waits', async () => {
  const { database, make } = await setup();
  const [input, other] = [await make(), await make()];
  const none = {
    inFlight: 0,
    handedOut: 0,
    acknowledged: 0,
    redelivered: 0,
    conditionErrors: 0,
    blockedKeys: 0,
  };
  await expect(input.metrics()).rejects.toMatchObject({ code: 'ERR_INSTALL' });
  const events = input.handle({ ack: 'manual' });
  await once(input, 'asleep');
  expect(await input.metrics()).toEqual({
    ...none,
    backlog: 0,
    oldestAgeSeconds: null,
    retrying: 0,
    parked: 0,
  });
  await database.query('INSERT INTO items SELECT generate_series(1, 4)');
  const { value } = await events.next();
  await events.next();
  await input.ack(value!);
  await input.ack(value!);
  await database.query(PARK);
  await database.query(
    `UPDATE postgres_input.log_postgres_input_test_input SET at = at - interval '2 minutes'`,
  );
  const found = await input.metrics();
  expect(found).toEqual({
    ...none,
    backlog: 2,
    oldestAgeSeconds: expect.closeTo(130, -1.5),
    retrying: 0,
    parked: 1,
    inFlight: 1,
    handedOut: 2,
    acknowledged: 1,
  });
  const { oldestAgeSeconds: _, ...shared } = await other.metrics();
  expect(shared).toEqual({ ...none, backlog: 2, retrying: 0, parked: 1 });
});

test('metrics tell of events that have failed, and not of those that are only suspected', async () => {
  const { database, make } = await setup();
  const input = await make();
  void new Consumer(input);
  await reaches(input, 'active');
  await database.query(`
    INSERT INTO postgres_input.failed_postgres_input_test_input (sequence, seq, attempts, deaths)
    VALUES ('1', 1, 0, 1), ('2', 2, 1, 0)`);
  expect(await input.metrics()).toMatchObject({ retrying: 1 });
});

test('counts events that come again after a lost connection as redelivered', async () => {
  const { database, make } = await setup();
  const input = await make();
  const events = input.handle({ ack: 'manual', reconnect: { minDelay: 10, maxDelay: 50 } });
  await once(input, 'asleep');
  await database.query('INSERT INTO items VALUES (1), (2), (3)');
  const [first, second] = [await events.next(), await events.next()].map(({ value }) => value as ChangeEvent);
  await input.ack(first!);
  await database.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name LIKE 'dapper-postgres-input%'`);
  await until(() => input.state !== 'active');
  const again = [await events.next(), await events.next()].map(({ value }) => value as ChangeEvent);
  expect(again.map(({ sequence }) => sequence)[0]).toBe(second!.sequence);
  expect(await input.metrics()).toMatchObject({ handedOut: 4, acknowledged: 1, redelivered: 1, inFlight: 2 });
});

test('an event that failed before is redelivered', () => {
  const traffic = new Traffic('x');
  for (const attempt of [1, 2, 3]) traffic.onHandOut({ sequence: '1', attempt } as ChangeEvent);
  expect(traffic).toMatchObject({ handedOut: 3, redelivered: 2 });
});

test.each(['auto', 'manual'] as const)('the channels tell of every event, with ack: %s', async (ack) => {
  const { database, make } = await setup();
  const input = await make();
  const [handedOut, acknowledged] = [
    messagesOf('dapper-postgres-input:hand-out'),
    messagesOf('dapper-postgres-input:acknowledge'),
  ];
  const consumer = new Consumer(input, { ack }, (event) => (ack === 'manual' ? input.ack(event) : undefined));
  await once(input, 'asleep');
  await database.query('INSERT INTO items VALUES (1), (2)');
  await consumer.count(2);
  await until(() => acknowledged.length === 2);
  expect(handedOut).toEqual(consumer.events.map((event) => ({ input: 'test_input', event })));
  expect(acknowledged).toEqual(consumer.events.map(({ sequence }) => ({ input: 'test_input', sequence })));
});

test('the channels of lease and reader tell who holds it, and how it ended', async () => {
  const { database, make } = await setup();
  const input = await make({ lease: { renewInterval: 50 } });
  const [lease, reader] = [
    messagesOf('dapper-postgres-input:lease'),
    messagesOf('dapper-postgres-input:reader'),
  ];
  void new Consumer(input, { reconnect: { minDelay: 10, maxDelay: 50 } });
  await once(input, 'asleep');
  await database.query(
    `UPDATE postgres_input.lock_postgres_input_test_input SET token = token + 1, holder = 'thief', expires_at = now() - interval '1 s'`,
  );
  await until(() => lease.length === 3);
  await input.close();
  const [first, , second] = lease.map(({ fencingToken }) => fencingToken);
  const told = (state: 'claimed' | 'released' | 'lost', fencingToken: string | undefined) => ({
    input: 'test_input',
    state,
    fencingToken,
  });
  expect(lease).toEqual([
    told('claimed', first),
    told('lost', first),
    told('claimed', second),
    told('released', second),
  ]);
  expect(reader.slice(0, 2)).toEqual([
    { input: 'test_input', state: 'asleep' },
    { input: 'test_input', state: 'awake' },
  ]);
});

test('a lease whose session is gone is told of as lost', async () => {
  const { database, make } = await setup();
  const input = await make();
  const lease = messagesOf('dapper-postgres-input:lease');
  const consumer = new Consumer(input);
  await once(input, 'asleep');
  await database.query(
    `SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input`,
  );
  expect(await consumer.ended).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  expect(lease.map(({ state }) => state)).toEqual(['claimed', 'lost']);
});

test('nothing is built for a channel without subscribers', () => {
  const traffic = new Traffic('x');
  const event = new Proxy({} as ChangeEvent, {
    get: (_, name) => {
      if (name !== 'sequence' && name !== 'attempt') throw new Error(`${String(name)} was asked for`);
      return '1';
    },
  });
  const publish = vi.spyOn(channels.handOut, 'publish');
  onTestFinished(() => publish.mockRestore());
  traffic.onHandOut(event);
  expect(publish).not.toHaveBeenCalled();
});

test('processing is counted and traced: an event that fails is retried, holds its key up, and comes again', async () => {
  const { database, make } = await setup();
  const input = await make();
  const started: ProcessMessage[] = [];
  const ended: ProcessMessage[] = [];
  for (const [part, messages] of [
    ['start', started],
    ['asyncEnd', ended],
  ] as const) {
    const name = `tracing:dapper-postgres-input:process:${part}`;
    const take = (message: unknown) => void messages.push({ ...(message as ProcessMessage) });
    subscribe(name, take);
    onTestFinished(() => void unsubscribe(name, take));
  }
  const error = new Error('no route');
  const processing = input.process(
    ({ id, attempt }) => {
      if (id === '1' && attempt === 1) throw error;
    },
    { retry: { minDelay: 2000 } },
  );
  await once(input, 'asleep');
  await database.query('INSERT INTO items VALUES (1), (2)');
  await until(() => ended.length === 2);
  await until(async () => (await input.metrics()).retrying === 1);
  expect(await input.metrics()).toMatchObject({
    handedOut: 2,
    acknowledged: 1,
    redelivered: 0,
    blockedKeys: 1,
  });
  await until(() => ended.length === 3);
  await until(async () => (await input.metrics()).backlog === 0);
  expect(await input.metrics()).toMatchObject({
    handedOut: 3,
    acknowledged: 2,
    redelivered: 1,
    blockedKeys: 0,
    inFlight: 0,
  });
  await input.close();
  await processing;
  expect(started.map(({ event: { id, attempt } }) => [id, attempt])).toEqual([
    ['1', 1],
    ['2', 1],
    ['1', 2],
  ]);
  expect(ended.map(({ error }) => error)).toEqual([error, undefined, undefined]);
});

test('the channel of processing has the names and the message that are documented', async () => {
  const told: [string, ProcessMessage][] = [];
  for (const part of ['start', 'end', 'asyncStart', 'asyncEnd', 'error']) {
    const name = `tracing:dapper-postgres-input:process:${part}`;
    const take = (message: unknown) => void told.push([part, { ...(message as ProcessMessage) }]);
    subscribe(name, take);
    onTestFinished(() => void unsubscribe(name, take));
  }
  const message = { input: 'x', event: { id: '1' } as ChangeEvent };
  const error = new Error('no route');
  await expect(channels.process.tracePromise(() => Promise.reject(error), { ...message })).rejects.toBe(
    error,
  );
  expect(told[0]).toEqual(['start', message]);
  expect(told.map(([part]) => part)).toEqual(['start', 'end', 'error', 'asyncStart', 'asyncEnd']);
  expect(told.at(-1)![1]).toMatchObject({ ...message, error });
});
