import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ChangeEvent, type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { Consumer, PATIENT, once, reaches } from '../support/consumer.ts';
import type { LedgerReport, LedgerSetup, Point } from '../support/ledger-node.ts';
import { type NodeProcess, spawnNode } from '../support/processes.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

test('a ledger comes out right to the cent, wherever the nodes that keep it are killed or frozen', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(`
    CREATE TABLE payments (id int PRIMARY KEY, payer int, payee int, cents bigint);
    CREATE TABLE balances (account int PRIMARY KEY, cents bigint);
    CREATE TABLE booked (payment int, sequence numeric);
    INSERT INTO balances SELECT n, 10000 FROM generate_series(0, 4) n`);
  const nodes: NodeProcess<LedgerReport>[] = [];
  onTestFinished(async () => void (await Promise.all(nodes.map((node) => node[Symbol.asyncDispose]()))));
  const start = async (at: Point | null, signal: LedgerSetup['signal'] = 'SIGKILL') => {
    const setup: LedgerSetup = { url: database.url, at, signal };
    const node = spawnNode<LedgerReport>(new URL('../support/ledger-node.ts', import.meta.url), {
      args: [JSON.stringify(setup)],
    });
    nodes.push(node);
    await node.waitFor(({ is }) => is === 'standby', 60_000);
    return node;
  };
  const written: { payer: number; payee: number; cents: number }[] = [];
  const pay = async () => {
    const n = written.length;
    const payment = { payer: n % 5, payee: (n + 1 + (n % 3)) % 5, cents: (n * 7919) % 10_007 };
    written.push(payment);
    const { payer, payee, cents } = payment;
    await database.query('INSERT INTO payments VALUES ($1, $2, $3, $4)', [n, payer, payee, cents]);
  };

  const frozen = await start('in hand', 'SIGSTOP');
  await frozen.waitFor(({ is }) => is === 'active');
  let last = frozen;
  for (const at of ['in hand', 'booked', 'acknowledged', 'committed', null] as const) {
    last = await start(at);
    for (let n = 0; n < 15; n++) await pay();
    await last.waitFor(({ is }) => is === 'active', 60_000);
  }
  frozen.signal('SIGCONT');
  expect(await frozen.waitFor(({ is }) => is === 'refused')).toEqual({
    is: 'refused',
    error: 'ERR_LEASE_LOST',
  });
  await frozen.waitFor(({ is }) => is === 'standby');
  for (let n = 0; n < 15; n++) await pay();

  const booked = () =>
    database.query<{ payment: number; sequence: string }>('SELECT * FROM booked ORDER BY payment');
  await until(async () => (await booked()).length >= written.length);
  expect((await booked()).map(({ payment }) => payment)).toEqual([...written.keys()]);
  expect(new Set((await booked()).map(({ sequence }) => sequence)).size).toBe(written.length);
  const expected = [0, 1, 2, 3, 4].map((account) => {
    let cents = 10_000;
    for (const payment of written) {
      if (payment.payee === account) cents += payment.cents;
      if (payment.payer === account) cents -= payment.cents;
    }
    return { account, cents: String(cents) };
  });
  expect(await database.query('SELECT account, cents FROM balances ORDER BY account')).toEqual(expected);
}, 120_000);

describe('ack(event, client)', () => {
  interface EventInHand {
    readonly input: PostgresInput;
    readonly event: ChangeEvent;
    readonly events: AsyncIterator<ChangeEvent, undefined>;
    readonly client: pg.Client;
    readonly fixture: Awaited<ReturnType<typeof setupInputs>>;
  }

  /** An event in hand. */
  async function handedOut(ack: 'auto' | 'manual' = 'manual', changes = 1): Promise<EventInHand> {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const input = await fixture.input();
    const events = input.handle({ ack });
    await reaches(input, 'active');
    await fixture.database.query(`INSERT INTO items SELECT generate_series(1, ${changes})`);
    const { value: event } = await events.next();
    return { fixture, input, events, event: event!, client: await fixture.database.client() };
  }

  test('can be repeated after a rollback; without that, the event comes again', async () => {
    const { fixture, input, events, event, client } = await handedOut();
    await client.query('BEGIN');
    await input.ack(event, client);
    await client.query('ROLLBACK');
    await client.query('BEGIN');
    await input.ack(event, client);
    await client.query('ROLLBACK');
    await events.return!();
    const again = new Consumer(input, { ack: 'manual' });
    await again.count(1);
    expect(again.events[0]).toEqual({ ...event, fencingToken: expect.stringMatching(/^\d{16}$/) });
    await client.query('BEGIN');
    await input.ack(again.events[0]!, client);
    await client.query('COMMIT');
    await input.close();
    expect(await fixture.database.query('SELECT FROM postgres_input.log_postgres_input_test_input')).toEqual(
      [],
    );
  });

  test('can be followed, after a rollback, by ack(event)', async () => {
    const { input, event, client } = await handedOut();
    await client.query('BEGIN');
    await input.ack(event, client);
    await client.query('ROLLBACK');
    await input.ack(event);
    expect(await input.status()).toMatchObject({ inFlight: 0, backlog: 0 });
  });

  test('rejects for an event that came under another lease, or that another transaction acknowledges', async () => {
    const { fixture, input, event, client } = await handedOut();
    const other = await fixture.database.client();
    await client.query('BEGIN');
    await input.ack(event, client);
    await other.query('BEGIN');
    const [second] = await Promise.allSettled([input.ack(event, other), client.query('COMMIT')]);
    expect(second).toMatchObject({ status: 'rejected', reason: { code: 'ERR_LEASE_LOST' } });
    await other.query('ROLLBACK; BEGIN');
    await expect(input.ack({ ...event, fencingToken: '0' }, other)).rejects.toMatchObject({
      code: 'ERR_LEASE_LOST',
    });
  });

  test('rejects when the transaction is broken, and the event stays', async () => {
    const { input, event, client } = await handedOut();
    await client.query('BEGIN');
    await client.query('SELECT 1/0').catch(() => {});
    await expect(input.ack(event, client)).rejects.toMatchObject({ code: '25P02' });
    await client.query('ROLLBACK');
    expect(await input.status()).toMatchObject({ inFlight: 1, backlog: 1 });
  });

  test.each([1, 60])(
    'works on another input of the same id, and does nothing for events made by hand, after a statement of %i rows',
    async (changes) => {
      const { fixture, input, event, client } = await handedOut('manual', changes);
      const config = { name: 'test-input', type: 'postgres', connectionString: fixture.database.url };
      await using other = await newPostgresInput(config, PATIENT);
      await client.query('BEGIN');
      await other.ack({ ...event, sequence: null }, client);
      await other.ack({ ...event, sequence: null });
      await other.ack(event, client);
      await client.query('COMMIT');
      await expect(other.ack(event)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
      await client.query('BEGIN');
      await expect(other.ack(event, client)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
      await client.query('ROLLBACK');
      expect(await input.status()).toMatchObject({ backlog: changes - 1 });
    },
  );

  test('refuses a pool, and a client without an open transaction, which would acknowledge at once', async () => {
    const { fixture, input, event, client } = await handedOut();
    const pool = new pg.Pool({ connectionString: fixture.database.url });
    const another = await pool.connect();
    onTestFinished(async () => {
      another.release();
      await pool.end();
    });
    await client.query('BEGIN; COMMIT');
    for (const wrong of [pool as unknown as pg.PoolClient, another, client]) {
      await expect(input.ack(event, wrong)).rejects.toMatchObject({
        code: 'ERR_CONFIG_INVALID',
        message: expect.stringContaining('call BEGIN'),
      });
    }
    expect(await input.status()).toMatchObject({ inFlight: 1, backlog: 1 });

    // A BEGIN that is still under way is an open transaction, also for a client that can't tell.
    const begun = another.query('BEGIN');
    await input.ack(event, another);
    await begun;
    await another.query('ROLLBACK');
    Object.assign(client, { getTransactionStatus: undefined });
    await client.query('BEGIN');
    await input.ack(event, client);
    await client.query('COMMIT');
    expect(await input.status()).toMatchObject({ inFlight: 0, backlog: 0 });
  });

  test('refuses the event of an input of another id, whose numbers are the same', async () => {
    const { fixture, input, event, client } = await handedOut();
    const other = await fixture.input({}, { name: 'other' });
    const consumer = new Consumer(other, { ack: 'manual' });
    await reaches(other, 'active');
    await fixture.database.query('INSERT INTO items VALUES (2)');
    await consumer.count(1);
    const numberOf = ({ sequence }: ChangeEvent) => sequence!.slice(0, -16);
    expect(numberOf(consumer.events[0]!)).toBe(numberOf(event));
    const refused = {
      code: 'ERR_CONFIG_INVALID',
      message: expect.stringContaining('of input other, and this is input test_input'),
    };
    await expect(input.ack(consumer.events[0]!, client)).rejects.toMatchObject(refused);
    await expect(input.ack(consumer.events[0]!)).rejects.toMatchObject(refused);
    expect(await input.status()).toMatchObject({ inFlight: 1, backlog: 2 });
  });

  test('in a transaction still open when the input is closed keeps the event from coming again elsewhere', async () => {
    const { fixture, input, events, event, client } = await handedOut();
    const next = await fixture.input();
    const consumer = new Consumer(next);
    await reaches(next, 'standby');
    await client.query('BEGIN');
    await input.ack(event, client);
    const closed = input.close();
    const ended = events.next();
    // The input would be gone by now, and the other active, if that did not wait.
    for (let n = 0; n < 20; n++) await fixture.database.query('SELECT pg_sleep(0.02)');
    expect(next.state).toBe('standby');
    const asleep = once(next, 'asleep');
    await client.query('COMMIT');
    await closed;
    expect(await ended).toEqual({ done: true, value: undefined });
    await asleep;
    await fixture.database.query('INSERT INTO items VALUES (2)');
    await consumer.count(1);
    expect(consumer.ids).toEqual(['2']);
  });

  test('is not taken for open because somebody reads the tables, as a dump does, or writes to the log', async () => {
    const { fixture, input, events, event, client } = await handedOut();
    const [dump, writer] = [await fixture.database.client(), await fixture.database.client()];
    await dump.query(`BEGIN; LOCK TABLE postgres_input.lock_postgres_input_test_input, postgres_input.log_postgres_input_test_input
      IN ACCESS SHARE MODE`);
    await writer.query('BEGIN; INSERT INTO items VALUES (99)');
    await client.query('BEGIN');
    await input.ack(event, client);
    await client.query('COMMIT');
    const began = performance.now();
    await input.close();
    await events.next();
    expect(performance.now() - began).toBeLessThan(4000); // the lease has 5000
  });

  test('in a transaction still open when its node loses the connection delays no other node', async () => {
    const { fixture, input, event, client } = await handedOut();
    const next = await fixture.input();
    const consumer = new Consumer(next);
    await reaches(next, 'standby');
    await client.query('BEGIN');
    await input.ack(event, client);
    await fixture.database.query(
      'SELECT pg_terminate_backend(backend_pid) FROM postgres_input.lock_postgres_input_test_input',
    );
    await consumer.count(1);
    await fixture.database.query('INSERT INTO items VALUES (2)');
    await consumer.count(2);
    const backlog = async () => (await next.status()).backlog;
    await until(async () => (await backlog()) === 1);
    await client.query('ROLLBACK');
    await until(async () => (await backlog()) === 0);
    expect(consumer.ids).toEqual(['1', '2']);
    expect(next.state).toBe('active');
  });

  test('in a transaction still open when the consumer leaves does not keep the node', async () => {
    const { input, events, event, client } = await handedOut('auto');
    await client.query('BEGIN');
    await input.ack(event, client);
    const began = performance.now();
    await events.return!();
    expect(performance.now() - began).toBeLessThan(4000); // the lease has 5000
    expect(input.state).toBe('idle');
    await client.query('ROLLBACK');
  });
});
