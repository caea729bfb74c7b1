/**
 * A server may go back to an earlier state: a crash loses commits that were not flushed, a failover those that the standby had not
 * received, a restored backup all since it was made. Numbers and tokens then come again. No sequence names two changes for all that, and
 * an event from before acknowledges nothing that came after. The same holds from one installation to the next, and from one
 * database to another.
 */
import { execFile } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { promisify } from 'node:util';
import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ChangeEvent, type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { Consumer, PATIENT, once, reaches } from '../support/consumer.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { type Server, startServer } from '../support/server.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

const LOG = 'postgres_input.log_postgres_input_test_input';
/** Renewals are statements that flush what others have committed: there are none while a test lasts. */
const RARE = { duration: 120_000, renewInterval: 40_000, margin: 1000, pollInterval: 50 };

const run = promisify(execFile);

async function connect(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  client.on('error', () => {});
  onTestFinished(() => client.end());
  await client.connect();
  return client;
}

async function inputAt(url: string): Promise<PostgresInput> {
  const config = { name: 'test-input', type: 'postgres', connectionString: url };
  const input = await newPostgresInput(config, { ...PATIENT, lease: RARE, discoveryInterval: 600_000 });
  onTestFinished(() => input[Symbol.asyncDispose]());
  return input;
}

/** A row a statement, and a statement a transaction. */
async function write(client: pg.Client, first: number, last: number): Promise<void> {
  for (let id = first; id <= last; id++) await client.query('INSERT INTO items VALUES ($1)', [id]);
}

const logged = async (client: pg.Client): Promise<string[]> =>
  (await client.query(`SELECT id FROM ${LOG} ORDER BY id::int`)).rows.map(({ id }) => id);

const range = (first: number, last: number) =>
  Array.from({ length: last - first + 1 }, (_, n) => String(first + n));

/** Acknowledges each of the events in a transaction of its own, and expects to be refused. */
async function expectRefused(
  input: PostgresInput,
  events: readonly ChangeEvent[],
  client: pg.Client,
): Promise<void> {
  for (const event of events) {
    await client.query('BEGIN');
    const outcome = await input.ack(event, client).then(
      () => 'acknowledged',
      ({ code }) => code,
    );
    await client.query('COMMIT');
    expect([event.id, outcome]).toEqual([event.id, 'ERR_LEASE_LOST']);
  }
}

interface Past {
  /** Where the input is, before the rewind and after it. */
  readonly url: () => string;
  /** Makes now the state to come back to. */
  readonly mark: () => Promise<void>;
  readonly rewind: () => Promise<void>;
}

/** Commits are flushed by those alone that ask for it. */
const LAZY = { synchronous_commit: 'off', wal_writer_delay: '10s', autovacuum: 'off' };

async function start(options: Parameters<typeof startServer>[0]): Promise<Server> {
  const server = await startServer(options);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return server;
}

const pasts: Record<string, () => Promise<Past>> = {
  async 'a crash with asynchronous commits'() {
    const server = await start({ settings: LAZY });
    return {
      url: () => server.url(),
      mark: async () => void (await (await connect(server.url())).query('CHECKPOINT')),
      async rewind() {
        await server.kill();
        await server.start();
      },
    };
  },
  async 'a failover to a standby that lags'() {
    const primary = await start({});
    let present = primary;
    let standby: Server | undefined;
    return {
      url: () => present.url(),
      async mark() {
        standby = await start({ standbyOf: primary });
        const [on, behind] = [await connect(primary.url()), await connect(standby.url())];
        const { rows } = await on.query('SELECT pg_current_wal_lsn() AS lsn');
        const answers = async (sql: string) => (await behind.query(`SELECT ${sql} AS yes`)).rows[0].yes;
        await until(() => answers(`pg_last_wal_replay_lsn() >= '${rows[0].lsn}'`));
        await behind.query("ALTER SYSTEM SET primary_conninfo = ''");
        await behind.query('SELECT pg_reload_conf()');
        await until(() => answers('NOT EXISTS (SELECT FROM pg_stat_wal_receiver)'));
      },
      async rewind() {
        await primary.kill();
        present = standby!;
        await (await connect(present.url())).query('SELECT pg_promote()');
      },
    };
  },
  async 'a restored backup'() {
    const server = await start({});
    const backup = `${server.dataDir}.backup`;
    return {
      url: () => server.url(),
      async mark() {
        await server.stop();
        await run('cp', ['-a', server.dataDir, backup]);
        await server.start();
      },
      async rewind() {
        await server.stop();
        await rm(server.dataDir, { recursive: true });
        await run('mv', [backup, server.dataDir]);
        await server.start();
      },
    };
  },
};

test.each(Object.keys(pasts))(
  'after %s no sequence names two changes, and nothing is deleted that nobody acknowledged',
  async (kind) => {
    const { url, mark, rewind } = await pasts[kind]!();
    await (await connect(url())).query('CREATE TABLE items (id int PRIMARY KEY)');
    const before = await inputAt(url());
    let isAsleep = false;
    before.on('asleep', () => (isAsleep = true));
    before.on('awake', () => (isAsleep = false));
    before.on('idle', () => (isAsleep = false));
    let consumer = new Consumer(before, { ack: 'manual' });
    await reaches(before, 'active');
    await write(await connect(url()), 1, 10);
    await consumer.count(10);
    await Promise.all(consumer.events.map((event) => before.ack(event)));
    const events = [...consumer.events];

    await mark();
    if (kind === 'a restored backup') {
      await consumer.ended; // the server was stopped for the copy
      consumer = new Consumer(before, { ack: 'manual' });
      await reaches(before, 'active');
    }
    // What a notification brings, the node takes without a statement, which might flush. The transaction needs more than the 32 numbers
    // that the server has in store.
    await until(() => isAsleep);
    const writer = await connect(url());
    await writer.query('BEGIN');
    await write(writer, 11, 40);
    await writer.query('COMMIT');
    await until(() => consumer.ids.at(-1) === '40');
    const lost = consumer.events.slice(-30);
    events.push(...lost);
    await rewind();
    expect(await consumer.ended).toMatchObject({ code: 'ERR_CONNECTION_LOST' });

    const client = await connect(url());
    const { rows } = await client.query('SELECT FROM items WHERE id > 10');
    expect(rows).toEqual([]);
    await client.query('SET synchronous_commit = on');
    await write(client, 101, 130);
    const left = range(101, 130);
    expect(await logged(client)).toEqual(left);
    // Nobody has claimed the lease: it has the token of before.
    await expectRefused(before, lost, client);
    expect(await logged(client)).toEqual(left);

    const after = await inputAt(url());
    const next = new Consumer(after, { ack: 'manual' });
    await next.count(left.length, 60_000);
    await expectRefused(before, lost, client);
    expect(await logged(client)).toEqual(left);
    const changes = new Map<string, string>();
    for (const { sequence, id } of [...events, ...next.events]) {
      expect([sequence, changes.get(sequence!) ?? id]).toEqual([sequence, id]);
      changes.set(sequence!, id);
    }
    const last = events.reduce((most, { fencingToken }) => {
      const token = BigInt(fencingToken!);
      return token > most ? token : most;
    }, 0n);
    expect(next.events.filter(({ fencingToken }) => BigInt(fencingToken!) <= last)).toEqual([]);
    // What still stands can be acknowledged.
    await Promise.all(next.events.map((event) => after.ack(event)));
    expect(await logged(client)).toEqual([]);
  },
  120_000,
);

describe('an event in hand acknowledges nothing', () => {
  async function inHand() {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const input = await fixture.input();
    const consumer = new Consumer(input, { ack: 'manual' });
    await reaches(input, 'active');
    await fixture.database.query('INSERT INTO items VALUES (1)');
    await consumer.count(1);
    return { fixture, input, consumer, event: consumer.events[0]! };
  }
  const ids = async (database: TestDatabase) =>
    (await database.query(`SELECT id FROM ${LOG}`)).map(({ id }) => id);

  test('in another database', async () => {
    const { input, event } = await inHand();
    const other = await inHand();
    await expectRefused(input, [event], await other.fixture.database.client());
    expect(await ids(other.fixture.database)).toEqual(['1']);
  });

  test('in a copy of the database that nobody has claimed yet, unless the copy has the very change', async () => {
    const { fixture, input, event, consumer } = await inHand();
    await fixture.database.query('INSERT INTO items VALUES (2)');
    await consumer.count(2);
    const copy = await createDatabase();
    const client = await copy.client();
    // As a dump from before the second change, restored, after which the application wrote.
    await client.query(`CREATE SCHEMA postgres_input; CREATE TABLE ${LOG} (seq bigint, at timestamptz, id text, key text, size int);
      CREATE TABLE postgres_input.lock_postgres_input_test_input (resource int, token bigint)`);
    await client.query('INSERT INTO postgres_input.lock_postgres_input_test_input VALUES (1, $1)', [
      event.fencingToken,
    ]);
    const number = consumer.events[1]!.sequence!.slice(0, -16);
    await client.query(`INSERT INTO ${LOG} VALUES ($1, clock_timestamp(), '3', 'null ', NULL)`, [number]);
    await expectRefused(input, [consumer.events[1]!, { ...event, sequence: number }], client);
    expect(await ids(copy)).toEqual(['3']);
  });

  test('after the input was uninstalled and installed again', async () => {
    const { fixture, input, event, consumer } = await inHand();
    await (await fixture.input()).uninstall();
    await fixture.database.query('SELECT'); // the node finds out at its next renewal
    await consumer.ended;
    const again = await fixture.input();
    const next = new Consumer(again, { ack: 'manual' });
    await reaches(again, 'active');
    await fixture.database.query('INSERT INTO items VALUES (2)');
    await next.count(1);
    await expectRefused(input, [event], await fixture.database.client());
    await expect(input.ack(event)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    await expect(again.ack(event)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    expect(await ids(fixture.database)).toEqual(['2']);
  });
});

describe('a node whose installation is removed', () => {
  const QUICK = { minDelay: 10, maxDelay: 50 };
  const installed = async (database: TestDatabase) =>
    (
      await database.query(`SELECT to_regnamespace('postgres_input') IS NOT NULL
        OR EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal) AS yes`)
    )[0].yes;

  async function removed() {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const options = { discoveryInterval: 50, lease: { renewInterval: 500, pollInterval: 20 } };
    const [active, standby] = [await fixture.input(options), await fixture.input(options)];
    const first = new Consumer(active);
    await reaches(active, 'active');
    const second = new Consumer(standby, { reconnect: QUICK });
    await reaches(standby, 'standby');
    const attempts: unknown[] = [];
    standby.on('reconnecting', ({ error }) => attempts.push(error));
    return { fixture, active, first, standby, second, attempts, operator: await fixture.input(options) };
  }

  test('does not install it again, waits for somebody who does, and hears the new triggers', async () => {
    const { fixture, first, standby, second, attempts, operator } = await removed();
    await operator.uninstall();
    expect(await first.ended).toMatchObject({ code: 'ERR_INSTALL', retryable: true, message: /uninstalled/ });
    await until(() => attempts.length > 5);
    expect(await installed(fixture.database)).toBe(false);

    const asleep = once(standby, 'asleep');
    const third = new Consumer(operator);
    // The one that waited may be the first to claim the lease.
    await until(() => [operator, standby].some(({ state }) => state === 'active'));
    await operator.close();
    await third.ended;
    await asleep;
    await fixture.database.query('INSERT INTO items VALUES (1)');
    await second.count(1);
    expect((await standby.status()).forgedNotifications).toBe(0);
  });

  test('does not install it again, although the first to find it gone is a handler that fails', async () => {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const { database } = fixture;
    const rare = {
      discoveryInterval: 60_000,
      lease: { duration: 60_000, renewInterval: 20_000, margin: 1000, pollInterval: 50_000 },
    };
    const [input, operator] = [await fixture.input(rare), await fixture.input(rare)];
    const errors: unknown[] = [];
    input.on('reconnecting', ({ error }) => errors.push(error));
    let isAsleep = false;
    input.on('asleep', () => (isAsleep = true)).on('awake', () => (isAsleep = false));
    const processed = input.process(
      async () => {
        // Awake, the reader could be the first.
        await until(() => isAsleep);
        await operator.uninstall();
        throw new Error('failed');
      },
      { reconnect: QUICK },
    );
    await until(() => isAsleep);
    await database.query('INSERT INTO items VALUES (1)');
    await until(() => errors.length > 1);
    expect(errors[0]).toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(/can't be kept/),
      retryable: true,
    });
    expect(errors[1]).toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(/uninstalled/),
      retryable: true,
    });
    expect(await installed(database)).toBe(false);
    await input.close();
    await processed;
  });

  test('notices that it was installed again between two looks', async () => {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const rare = { lease: { duration: 60_000, renewInterval: 20_000, margin: 1000, pollInterval: 50_000 } };
    const [active, standby] = [await fixture.input(), await fixture.input(rare)];
    const first = new Consumer(active);
    await reaches(active, 'active');
    const second = new Consumer(standby, { reconnect: QUICK });
    await reaches(standby, 'standby');
    const attempts: unknown[] = [];
    standby.on('reconnecting', ({ error }) => attempts.push(error));
    const operator = await fixture.input(rare);
    await operator.uninstall();
    const third = new Consumer(operator);
    await reaches(operator, 'active');
    const asleep = once(standby, 'asleep');
    await operator.close();
    await third.ended;
    await asleep;
    await fixture.database.query('INSERT INTO items VALUES (1)');
    await second.count(1);
    expect((await standby.status()).forgedNotifications).toBe(0);
    expect(attempts).toMatchObject([{ code: 'ERR_INSTALL', message: /uninstalled/ }]);
    expect(await first.ended).toMatchObject({ code: 'ERR_INSTALL', retryable: true });
  });
});
