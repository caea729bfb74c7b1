/** `nack()` and `park()` with `ack: 'manual'`. */
import { expect, onTestFinished, test } from 'vitest';
import { type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { CLOCK, SET_CLOCK } from '../chaos/clock.ts';
import { Consumer, PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';

async function setup() {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY, n int)');
  const make = async () => {
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      PATIENT,
    );
    onTestFinished(() => input[Symbol.asyncDispose]());
    return input;
  };
  return { database, make, input: await make() };
}

const consume = (input: PostgresInput) => {
  const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  return { consumer: new Consumer(input, { ack: 'manual', slowAfter: 30 }), active };
};
const told = ({ events }: Consumer) =>
  events.map(({ id, operation, attempt }) => `${operation} ${id}, attempt ${attempt}`);

test('an event that was not acknowledged but refused comes again later, and its row waits for it', async () => {
  const { database, input } = await setup();
  const { consumer, active } = consume(input);
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await consumer.count(1);
  await input.nack(consumer.events[0]!, { delay: 300, error: new Error('not now') });
  expect(
    await database.query('SELECT attempts, error FROM postgres_input.failed_postgres_input_test'),
  ).toMatchObject([{ attempts: 1, error: expect.stringContaining('not now') }]);
  await database.query('UPDATE items SET n = 1');
  await database.query('INSERT INTO items VALUES (2, 0)');
  await consumer.count(3);
  // On a slow machine the other row comes after it.
  await input.ack(consumer.events.find(({ attempt }) => attempt === 2)!);
  await consumer.count(4);
  expect(told(consumer).filter((one) => one !== 'create 2, attempt 1')).toEqual([
    'create 1, attempt 1',
    'create 1, attempt 2',
    'update 1, attempt 1',
  ]);
  for (const event of consumer.events) await input.ack(event);
  await input.close();
  expect((await input.status()).backlog).toBe(0);
  expect(await database.query('SELECT FROM postgres_input.failed_postgres_input_test')).toEqual([]);
});

test('several refused events of a row come again in their order', async () => {
  const { database, input } = await setup();
  const { consumer, active } = consume(input);
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await database.query('UPDATE items SET n = 1');
  await consumer.count(2);
  await input.nack(consumer.events[1]!, { delay: 500 });
  await input.nack(consumer.events[0]!, { delay: 50 });
  await consumer.count(3);
  await input.ack(consumer.events[2]!);
  await consumer.count(4);
  expect(told(consumer).slice(2)).toEqual(['create 1, attempt 2', 'update 1, attempt 2']);
});

test('a refused event does not wait for an hour after a takeover because the clock was set back by an hour', async () => {
  const { database, input, make } = await setup();
  await database.query(`CREATE SCHEMA oracle; ${CLOCK}`);
  const first = consume(input);
  await first.active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await first.consumer.count(1);
  await input.nack(first.consumer.events[0]!, { delay: 1000 });
  await input.close();
  await database.query(SET_CLOCK, [-3_600_000]);
  const second = consume(await make());
  await second.consumer.count(1);
  expect(told(second.consumer)).toEqual(['create 1, attempt 2']);
});

test('parks an event, with what is said of it', async () => {
  const { database, input } = await setup();
  const { consumer, active } = consume(input);
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await consumer.count(1);
  await input.park(consumer.events[0]!, 'no such customer');
  expect(await input.parked()).toMatchObject([
    { id: '1', error: 'no such customer', sequence: consumer.events[0]!.sequence },
  ]);
  expect((await input.status()).backlog).toBe(0);
  await input.redrive('all');
  await consumer.count(2);
  expect(consumer.events[1]).toMatchObject({ sequence: consumer.events[0]!.sequence, attempt: 1 });
  await input.ack(consumer.events[1]!);
  await input.close();
});

test('tells of an acknowledgement that is forgotten, once', async () => {
  const { database, input } = await setup();
  const slow: unknown[] = [];
  const first = new Promise<void>((resolve) => void input.once('slow', () => resolve()));
  input.on('slow', (event) => slow.push(event));
  const { consumer, active } = consume(input);
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await first;
  const [event] = consumer.events;
  expect(slow).toMatchObject([{ sequence: event!.sequence, location: 'items', id: '1' }]);
  await database.query('INSERT INTO items VALUES (2, 0)');
  const second = new Promise<void>((resolve) => void input.once('slow', () => resolve()));
  await second;
  expect(slow).toMatchObject([{ id: '1' }, { id: '2' }]);
});

test('refuses what can not be refused', async () => {
  const { database, input } = await setup();
  const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  const consumer = new Consumer(input, {}, () => new Promise(() => {}));
  await active;
  await database.query('INSERT INTO items VALUES (1, 0)');
  await consumer.count(1);
  const [event] = consumer.events;
  await expect(input.nack(event!)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  await expect(input.park(event!)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  await expect(input.nack({ ...event!, trigger: 'other' })).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
  });
  await expect(input.nack(event!, { delay: -1 })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
});
