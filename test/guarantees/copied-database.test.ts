/**
 * A database that is made with another one as its template has the same secret, and goes on with the same sequences. A notification that
 * is heard in one of them says nothing in the other one.
 */
import pg from 'pg';
import { expect, inject, onTestFinished, test } from 'vitest';
import { type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { Consumer, PATIENT, once } from '../support/consumer.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const LOG = 'postgres_input.log_postgres_input_x';

/** A node that is asleep, and its events, which stay in hand. */
async function asleepAt(database: TestDatabase): Promise<{ input: PostgresInput; consumer: Consumer }> {
  const config = { name: 'x', type: 'postgres', connectionString: database.url };
  const input = await newPostgresInput(config, PATIENT);
  onTestFinished(() => input[Symbol.asyncDispose]());
  const asleep = once(input, 'asleep');
  const consumer = new Consumer(input, { ack: 'manual' });
  await asleep;
  return { input, consumer };
}

/** The original, in which one change was handed out and acknowledged, and a copy of it. No node is left. */
async function copied(): Promise<{ original: TestDatabase; copy: TestDatabase }> {
  const original = await createDatabase();
  const admin = new pg.Client({ connectionString: original.url });
  await admin.connect();
  await admin.query('CREATE TABLE items (id text PRIMARY KEY)');
  const { input, consumer } = await asleepAt(original);
  await admin.query("INSERT INTO items VALUES ('first')");
  await consumer.count(1);
  await input.ack(consumer.events[0]!);
  await input.close();
  await admin.end();
  const copy = await createDatabase(inject('adminUrl'), original.name);
  return { original, copy };
}

/** A signed notification of a change that is made in this database. */
async function heardIn(database: TestDatabase): Promise<string> {
  const { input, consumer } = await asleepAt(database);
  const ear = await database.client();
  const payloads: string[] = [];
  ear.on('notification', ({ payload }) => payloads.push(payload!));
  await ear.query('LISTEN x');
  await database.query("INSERT INTO items VALUES ('of the copy')");
  await consumer.count(1);
  await until(() => payloads.length > 0);
  await input.close();
  return payloads[0]!;
}

const logged = async (database: TestDatabase): Promise<string[]> =>
  (await database.query(`SELECT id FROM ${LOG} ORDER BY seq`)).map(({ id }) => id);

test.each([true, false])(
  'a notification heard in a copy of the database is no event in the original, whose change of that sequence stays (waiting: %s)',
  async (isWaiting) => {
    const { original, copy } = await copied();
    const payload = await heardIn(copy);
    const { input, consumer } = await asleepAt(original);
    if (isWaiting) {
      // It has the sequence of the copy's change.
      await original.query("INSERT INTO items VALUES ('of the original')");
      await consumer.count(1);
    }
    const heard = new Promise<void>((resolve) => void input.once('forged', () => resolve()));
    await original.query("SELECT pg_notify('x', $1)", [payload]);
    await Promise.race([heard, consumer.count(isWaiting ? 2 : 1)]);
    await Promise.all(consumer.events.slice(isWaiting ? 1 : 0).map((event) => input.ack(event)));
    if (!isWaiting) await original.query("INSERT INTO items VALUES ('of the original')");
    await until(() => consumer.ids.includes('of the original'));
    expect(consumer.ids).toEqual(['of the original']);
    expect(payload).toContain(`"seq" : "${consumer.events[0]!.sequence!.slice(0, -16)}"`);
    expect(await logged(original)).toEqual(['of the original']);
    expect((await input.status()).forgedNotifications).toBe(1);
  },
);

test('the copy hears its own triggers', async () => {
  const { copy } = await copied();
  const { input, consumer } = await asleepAt(copy);
  await copy.query("INSERT INTO items VALUES ('of the copy')");
  await consumer.count(1);
  expect((await input.status()).forgedNotifications).toBe(0);
});
