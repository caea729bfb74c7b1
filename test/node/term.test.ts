/** How a term ends: each row of the table in term.ts, where an ending turns into a harsher one. */
import { expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent, PostgresInput } from '../../src/index.ts';
import { harsher } from '../../src/node/term.ts';
import { once } from '../support/consumer.ts';
import { type TestDatabase } from '../support/database.ts';
import { setupInputs } from '../support/setup-inputs.ts';

const LOG = 'postgres_input.log_postgres_input_test_input';
const LOCK = 'postgres_input.lock_postgres_input_test_input';
const DONE = { done: true, value: undefined };

interface Fixture {
  readonly database: TestDatabase;
  readonly input: PostgresInput;
  readonly events: AsyncIterator<ChangeEvent, undefined>;
  /** The first of three events; it is in hand. */
  readonly event: ChangeEvent;
  readonly abort: AbortController;
}

/** A node whose lease lasts so long that no test ends by its expiry. */
async function serving(): Promise<Fixture> {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database } = fixture;
  const input = await fixture.input({ lease: { duration: 600_000, renewInterval: 200_000 } });
  const abort = new AbortController();
  const events = input.handle({ ack: 'manual', signal: abort.signal });
  await once(input, 'asleep');
  await database.query('INSERT INTO items VALUES (1), (2), (3)');
  const { value } = await events.next();
  return { database, input, events, event: value!, abort };
}

const waiting = async (database: TestDatabase): Promise<string[]> =>
  (await database.query(`SELECT id FROM ${LOG} ORDER BY seq`)).map(({ id }) => id);
const holder = async (database: TestDatabase) =>
  (await database.query(`SELECT holder FROM ${LOCK}`))[0].holder;

test('a graceful ending hands out nothing more, although events wait and the consumer asks', async () => {
  const { database, input, events, event } = await serving();
  await input.close();
  const pull = events.next();
  expect(await holder(database)).not.toBeNull();
  await input.ack(event);
  expect(await pull).toEqual(DONE);
  expect(await holder(database)).toBeNull();
  expect(await waiting(database)).toEqual(['2', '3']);
});

test('a graceful ending that waits for what is in hand is cut short when it turns into a dropped one', async () => {
  const { database, input, events } = await serving();
  await input.close();
  await input[Symbol.asyncDispose]();
  expect(await holder(database)).toBeNull();
  expect(await events.next()).toEqual(DONE);
  expect(await waiting(database)).toEqual(['1', '2', '3']);
});

test("a graceful ending that waits for a caller's transaction is cut short when it turns into a dropped one", async () => {
  const { database, input, event } = await serving();
  const caller = await database.client();
  await caller.query('BEGIN');
  await input.ack(event, caller);
  void input.close();
  expect(await holder(database)).not.toBeNull();
  await input[Symbol.asyncDispose]();
  expect(await holder(database)).toBeNull();
  await caller.query('ROLLBACK');
  expect(await waiting(database)).toEqual(['1', '2', '3']);
});

test('an ending that waits is cut short when the session is lost', async () => {
  const { database, input, events } = await serving();
  await input.close();
  await database.query(`SELECT pg_terminate_backend(backend_pid) FROM ${LOCK}`);
  expect(await events.next()).toEqual(DONE);
});

test('an acknowledgement after a drop succeeds until the lease is released', async () => {
  const { database, input, events, event, abort } = await serving();
  abort.abort(new Error('enough'));
  await input.ack(event);
  await expect(events.next()).rejects.toThrow('enough');
  expect(await waiting(database)).toEqual(['2', '3']);
  await expect(input.ack(event)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
});

test('an ending only ever turns into a harsher one', () => {
  expect(harsher(null, 'graceful')).toBe('graceful');
  expect(harsher('graceful', 'dropped')).toBe('dropped');
  expect(harsher('dropped', 'graceful')).toBe('dropped');
  expect(harsher('dropped', 'lost')).toBe('lost');
  expect(harsher('lost', 'dropped')).toBe('lost');
});
