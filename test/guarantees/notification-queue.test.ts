/** A session that listens and keeps a transaction open fills the server's notification queue, for the whole cluster. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import type { PostgresInput } from '../../src/index.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { type TestDatabase } from '../support/database.ts';
import { type Server, startServer } from '../support/server.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

/** PostgreSQL 17 made the queue's size a setting; before, the queue has 8 GB. */
const isSizeFixed = Number(process.env['TEST_PG_MAJOR'] || 18) < 17;

const QUICK = { lease: { renewInterval: 300 } };

async function smallQueue(): Promise<Server> {
  const server = await startServer({ settings: { max_notify_queue_pages: '64' } });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

/** In another database, with no right but to connect: one listens, the other floods. */
async function culprits(server: Server) {
  const connect = async (user: string) => {
    const client = new pg.Client({ host: '127.0.0.1', port: server.port, user, database: 'postgres' });
    client.on('error', () => {}); // the server ends first
    await client.connect();
    return client;
  };
  const admin = await connect('postgres');
  await admin.query('CREATE ROLE culprit LOGIN');
  await admin.end();
  const [listener, client] = [await connect('culprit'), await connect('culprit')];
  await listener.query('LISTEN flood');
  await listener.query('BEGIN; SELECT 1');
  let sent = 0;
  /** Fills about a page. */
  const send = () => client.query(`SELECT pg_notify('flood', repeat('x', 7900) || $1)`, [sent++]);
  return {
    async send(pages: number) {
      for (let page = 0; page < pages; page++) await send();
    },
    async fill() {
      await expect(
        (async () => {
          for (;;) await send();
        })(),
      ).rejects.toMatchObject({ code: '54000' });
    },
    async leave() {
      await listener.query('ROLLBACK; UNLISTEN *');
    },
  };
}

const holder = async (database: TestDatabase) =>
  (await database.query('SELECT holder FROM postgres_input.lock_postgres_input_test_input'))[0].holder;

const nextLevel = (input: PostgresInput): Promise<{ usage: number; isFilling: boolean }> =>
  new Promise((resolve) => void input.once('notificationQueue', resolve));

test.skipIf(isSizeFixed)(
  'a notification queue that fills up keeps the reader awake: the application notices nothing, and nodes come and go',
  async () => {
    const server = await smallQueue();
    await using fixture = await setupInputs(server.url());
    const { database } = fixture;
    const first = await fixture.input(QUICK);
    const asleep = once(first, 'asleep');
    const consumer = new Consumer(first);
    await asleep;

    const [level, awake] = [nextLevel(first), once(first, 'awake')];
    const culprit = await culprits(server);
    await culprit.send(20);
    expect(await level).toEqual({ usage: expect.closeTo(0.3, 1), isFilling: true });
    await awake;
    await culprit.fill();
    for (let id = 1; id <= 20; id++) await database.query('INSERT INTO items VALUES ($1)', [id]);
    await consumer.count(20);

    await first.close();
    expect(await consumer.ended).toBeUndefined();
    expect(await holder(database)).toBeNull();

    const second = await fixture.input(QUICK);
    const filled = nextLevel(second);
    const later = new Consumer(second);
    await reaches(second, 'active');
    expect(await filled).toEqual({ usage: expect.closeTo(1, 1), isFilling: true });
    for (let id = 21; id <= 40; id++) await database.query('INSERT INTO items VALUES ($1)', [id]);
    await later.count(20);

    const [drained, sleeps] = [nextLevel(second), once(second, 'asleep')];
    await culprit.leave();
    expect(await drained).toEqual({ usage: expect.closeTo(0, 1), isFilling: false });
    await sleeps;
    await database.query('INSERT INTO items VALUES (41)');
    await later.count(21);
  },
);

test.skipIf(isSizeFixed)('a queue that was full works again without help', async () => {
  const server = await smallQueue();
  await using fixture = await setupInputs(server.url());
  const { database } = fixture;
  const input = await fixture.input(QUICK);
  const asleep = once(input, 'asleep');
  const consumer = new Consumer(input);
  await asleep;
  const culprit = await culprits(server);

  await culprit.fill();
  await culprit.leave();
  // PostgreSQL takes the queue for full until its usage is asked for, and nothing but the renewals asks.
  await until(() =>
    database.query('INSERT INTO items VALUES (1)').then(
      () => true,
      () => false,
    ),
  );
  await consumer.count(1);
  expect(consumer.ids).toEqual(['1']);
});
