/** Nodes that poll, through poolers in transaction mode: what is promised with notifications holds, and the pooled backends stay as they were. */
import { beforeAll, describe, expect, inject, onTestFinished, test } from 'vitest';
import { parseConnectionString } from '../../src/config/connection-string.ts';
import { type PostgresInput, type PostgresInputOptions, newPostgresInput } from '../../src/index.ts';
import { Session } from '../../src/postgres/session.ts';
import { Consumer, PATIENT, once, reaches } from '../support/consumer.ts';
import { type TestDatabase, createDatabase, createRole } from '../support/database.ts';
import { startNode, stopNodes } from '../support/node-process.ts';
import { startPooler } from '../support/pooler.ts';
import { published } from '../support/published.ts';
import { startServer } from '../support/server.ts';
import { KINDS, UNTOUCHED, findings, setupPooler } from '../support/setup-pooler.ts';
import { until } from '../support/until.ts';

let adminUrl: string;

/** Poolers are asked to let postgres in without a password, which a server at TEST_DB_URL may not do. */
beforeAll(async () => {
  if (!process.env['TEST_DB_URL']) return void (adminUrl = inject('adminUrl'));
  const server = await startServer();
  adminUrl = server.url();
  return () => server[Symbol.asyncDispose]();
});

const BACKENDS = 3;
const SHORT = { duration: 1500, renewInterval: 300, margin: 300, pollInterval: 50 };

async function setup(start: typeof startPooler) {
  const { database, url } = await setupPooler(adminUrl, start, { backends: BACKENDS });
  const input = (options: PostgresInputOptions = {}, at = url) =>
    newInput(at, { wakeup: 'poll', ...options });
  const node = async (options: PostgresInputOptions = {}, at = url, folder?: string) => {
    const node = startNode({ url: at, options, ...(folder !== undefined && { package: folder }) });
    onTestFinished(() => stopNodes([node]));
    await node.waitFor(({ is }) => is === 'standby', 30_000);
    return node;
  };
  return { database, url, input, node };
}

async function newInput(url: string, options: PostgresInputOptions): Promise<PostgresInput> {
  const config = { name: 'test-input', type: 'postgres', connectionString: url };
  const input = await newPostgresInput(config, { ...PATIENT, ...options });
  onTestFinished(() => input[Symbol.asyncDispose]());
  return input;
}

const untouched = Array.from({ length: BACKENDS }, () => UNTOUCHED);
const numbers = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, n) => String(from + n));

const locks = (database: TestDatabase) =>
  database.query(
    `SELECT FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  );

/** Fails while the application would find on a backend what a node has left there. */
async function expectUntouched(database: TestDatabase, url: string): Promise<void> {
  const rows = await database.query('SELECT * FROM orders');
  expect(await findings(database, url, BACKENDS)).toEqual(untouched.map((one) => ({ ...one, orders: rows })));
  expect(await locks(database)).toEqual([]);
}

describe.each(KINDS)('through %s in transaction mode', (_kind, start) => {
  test('every change comes once, by several statements and many rows, and nothing is left on the backends', async () => {
    const { database, url, input } = await setup(start);
    const consumer = new Consumer(await input());
    await until(
      async () =>
        (await database.query('SELECT FROM pg_trigger WHERE tgname LIKE $1', ['orders_%'])).length > 0,
    );
    await Promise.all(numbers(2, 60).map((id) => database.query('INSERT INTO orders VALUES ($1)', [id])));
    await database.query('INSERT INTO orders SELECT generate_series(61, 3000)');
    await consumer.count(2999);
    expect(consumer.ids.toSorted((a, b) => Number(a) - Number(b))).toEqual(numbers(2, 3000));
    await expectUntouched(database, url);
  });

  test('a node that is killed is followed when its lease expires, and nothing is lost', async () => {
    const { database, url, input, node } = await setup(start);
    const killed = await node({ wakeup: 'poll', lease: SHORT });
    await killed.waitFor(({ is }) => is === 'active');
    killed.send({ do: 'pull' });
    await database.query('INSERT INTO orders VALUES (2), (3)');
    await killed.waitFor(({ is }) => is === 'event');
    const follower = await input({ lease: SHORT });
    const consumer = new Consumer(follower);
    await reaches(follower, 'standby');
    killed.signal('SIGKILL');
    await killed.exited;
    const [left] = await leases(database);
    await reaches(follower, 'active');
    const [taken] = await leases(database);
    expect(taken!.acquired > left!.expires).toBe(true);
    await database.query('INSERT INTO orders VALUES (4)');
    await consumer.count(3);
    expect(consumer.ids).toEqual(['2', '3', '4']);
    await follower.close();
    await expectUntouched(database, url);
  });

  test('a node that closes is followed at once', async () => {
    const { input } = await setup(start);
    const lease = { duration: 300_000 };
    const [first, second] = [await input({ lease }), await input({ lease })];
    void new Consumer(first);
    await reaches(first, 'active');
    void new Consumer(second);
    await reaches(second, 'standby');
    await first.close();
    await reaches(second, 'active');
    expect(first.state).toBe('closed');
  });

  test('process() acknowledges in transactions of its own, parks, and gets what is redriven', async () => {
    const { database, url, input } = await setup(start);
    await database.query('CREATE TABLE effects (id int PRIMARY KEY)');
    const active = await input({ tables: { exclude: ['effects'] } });
    let isMended = false;
    const processing = active.process(
      async (event) => {
        if (event.id === '3' && !isMended) throw new Error('not yet');
        const client = await database.client({ connectionString: url });
        await client.query('BEGIN');
        await client.query('INSERT INTO effects VALUES ($1)', [event.id]);
        await active.ack(event, client);
        await client.query('COMMIT');
        await client.end();
      },
      { retry: { attempts: 2, minDelay: 1, maxDelay: 2 }, concurrency: 2 },
    );
    await reaches(active, 'active');
    const parked = new Promise<void>((resolve) => active.once('parked', () => resolve()));
    await database.query('INSERT INTO orders VALUES (2), (3), (4)');
    await parked;
    const effects = async () =>
      (await database.query('SELECT id FROM effects ORDER BY id')).map(({ id }) => id);
    await until(async () => (await effects()).length === 2);
    isMended = true;
    expect(await active.redrive('all')).toBe(1);
    await until(async () => (await effects()).length === 3);
    expect(await effects()).toEqual([2, 3, 4]);
    await active.close();
    await processing;
    expect((await active.status()).backlog).toBe(0);
    await expectUntouched(database, url);
  });

  test('a backfill brings the rows, among the changes', async () => {
    const { database, url, input } = await setup(start);
    await database.query('INSERT INTO orders SELECT generate_series(2, 3000)');
    const active = await input({ rows: 'after' });
    const consumer = new Consumer(active);
    await reaches(active, 'active');
    const backfill = await active.backfill({ where: 'orders.id > 1000' });
    await database.query('UPDATE orders SET id = id WHERE id = 2000');
    await backfill.done;
    await consumer.count(2001);
    const reads = consumer.events.filter(({ operation }) => operation === 'read');
    expect(reads.map(({ after }) => after)).toEqual(numbers(1001, 3000).map((id) => ({ id: Number(id) })));
    await active.close();
    await expectUntouched(database, url);
  });

  test('auto finds out, polls and says so', async () => {
    const { database, url, input } = await setup(start);
    const active = await input({ wakeup: 'auto' });
    const isPolling = new Promise<void>((resolve) => active.once('polling', () => resolve()));
    const consumer = new Consumer(active);
    await isPolling;
    await reaches(active, 'active');
    await database.query('INSERT INTO orders VALUES (2)');
    await consumer.count(1);
    const check = active.health().checks.find(({ name }) => name === 'wakeup');
    expect(check).toMatchObject({
      status: 'warn',
      message: expect.stringContaining('listenConnectionString'),
    });
    await active.close();
    await expectUntouched(database, url);
  });

  test('listenConnectionString goes around it: the node is notified, and tasks go through the pooler', async () => {
    const { database, url, input } = await setup(start);
    const active = await input({ wakeup: 'notify', listenConnectionString: database.url });
    const isAsleep = once(active, 'asleep');
    const consumer = new Consumer(active);
    await isAsleep;
    await database.query('INSERT INTO orders VALUES (2)');
    await consumer.count(1);
    expect((await active.status()).lease).not.toBeNull();
    expect(active.health().checks.find(({ name }) => name === 'wakeup')?.status).toBe('ok');
    await active.close();
    await expectUntouched(database, url);
  });
});

test('auto is notified where the connection keeps its session', async () => {
  const database = await createDatabase(adminUrl);
  const active = await newInput(database.url, { wakeup: 'auto' });
  const isAsleep = once(active, 'asleep');
  void new Consumer(active);
  await isAsleep;
  expect(active.health().checks.find(({ name }) => name === 'wakeup')?.status).toBe('ok');
});

test('a node that was asked to poll is well, says that it polls, and never sleeps', async () => {
  const { database, input } = await setup(startPooler);
  const active = await input({ lease: SHORT });
  let slept = false;
  active.on('asleep', () => (slept = true));
  const consumer = new Consumer(active);
  await reaches(active, 'active');
  const check = active.health().checks.find(({ name }) => name === 'wakeup');
  expect(check).toMatchObject({ status: 'ok', message: expect.stringContaining('polls') });
  const [before] = await leases(database);
  // A marker that did not arrive would have ended the life by then.
  await untilRenewed(database, 6);
  expect(await locks(database)).toEqual([]);
  expect((await leases(database))[0]!.token).toBe(before!.token);
  expect(slept).toBe(false);
  await database.query('INSERT INTO orders VALUES (2)');
  await consumer.count(1);
});

test('auto polls where it can not find out about the pooler', async () => {
  const { url } = await setupPooler(adminUrl, startPooler, { backends: 1, mode: 'session' });
  const options = { connectTimeout: 4000, statementTimeout: 20_000, applicationName: 'test' };
  const session = await Session.connect(parseConnectionString(url), { ...options, pooling: 'accept' });
  expect(session.isPooled).toBe(true);
  expect(await session.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await session.close();
});

test('a listenConnectionString that leads to another database is refused', async () => {
  const { url } = await setup(startPooler);
  const other = await createDatabase(adminUrl);
  await expect(newInput(url, { listenConnectionString: other.url })).rejects.toMatchObject({
    code: 'ERR_CONNECT',
    message: expect.stringContaining('lead to two databases'),
  });
});

describe('beside other nodes', () => {
  test.each(['present', '0.1.0'] as const)(
    'a polling holder is left its lease by a notified standby of version %s',
    async (version) => {
      const { database, url, input, node } = await setup(startPooler);
      const holder = await input({ lease: SHORT });
      const consumer = new Consumer(holder);
      await reaches(holder, 'active');
      const folder = version === '0.1.0' ? await published(version) : undefined;
      const standby = await node({ lease: SHORT }, database.url, folder);
      const [before] = await leases(database);
      // The pooler may close any backend of its own.
      expect(before!.process).toBe('checkpointer');
      // Between two renewals, the standby looks at the lease several times.
      await untilRenewed(database, 6);
      expect((await leases(database))[0]!.token).toBe(before!.token);
      await database.query('INSERT INTO orders VALUES (2)');
      await consumer.count(1);
      await holder.close();
      await standby.waitFor(({ is }) => is === 'active');
      await expectOnlyListening(database, url);
    },
  );

  test('it is left its lease by a standby that sees what the role of the holder may not', async () => {
    const { database, input, node } = await setup(startPooler);
    const holder = await input({ lease: SHORT }, await asOrdinaryRole(database));
    void new Consumer(holder);
    await reaches(holder, 'active');
    await node({ lease: SHORT }, database.url);
    const [before] = await leases(database);
    expect(before).toMatchObject({ pid: expect.any(Number), start: null });
    await untilRenewed(database, 6);
    expect((await leases(database))[0]!.token).toBe(before!.token);
  });

  test('a polling standby follows a notified holder as soon as that is killed', async () => {
    const { database, input, node } = await setup(startPooler);
    const lease = { duration: 60_000, renewInterval: 1000, margin: 1000, pollInterval: 50 };
    const killed = await node({ lease }, database.url);
    await killed.waitFor(({ is }) => is === 'active');
    const follower = await input({ lease });
    const consumer = new Consumer(follower);
    await reaches(follower, 'standby');
    killed.signal('SIGKILL');
    await reaches(follower, 'active');
    await database.query('INSERT INTO orders VALUES (2)');
    await consumer.count(1);
    expect(consumer.ids).toEqual(['2']);
  });
});

/** Resolves when the lease has been renewed so many times. */
const untilRenewed = async (database: TestDatabase, times: number) => {
  const seen = new Set<number>();
  await until(async () => {
    const [lease] = await leases(database);
    seen.add(Number(lease!.expires));
    return seen.size > times;
  });
};

const leases = (database: TestDatabase) =>
  database.query<{
    token: string;
    expires: Date;
    acquired: Date;
    pid: number | null;
    start: Date | null;
    process: string;
  }>(
    `SELECT token, expires_at AS expires, acquired_at AS acquired, l.backend_pid AS pid, l.backend_start AS start,
       (SELECT backend_type FROM pg_stat_activity a WHERE a.pid = l.backend_pid) AS process
     FROM postgres_input.lock_postgres_input_test_input l`,
  );

/** The database's URL for a role that sees no statistics of others, and may install. */
async function asOrdinaryRole(database: TestDatabase): Promise<string> {
  const { role, url } = await createRole(database);
  await database.query(
    `GRANT CREATE ON DATABASE ${database.name} TO ${role}; ALTER TABLE orders OWNER TO ${role}`,
  );
  return url;
}

/** A node that sleeps holds a lock, on a connection of its own. */
async function expectOnlyListening(database: TestDatabase, url: string): Promise<void> {
  const rows = await database.query('SELECT * FROM orders');
  expect(await findings(database, url, BACKENDS)).toEqual(untouched.map((one) => ({ ...one, orders: rows })));
}

describe.each(KINDS)('a session through %s', (_kind, start) => {
  const connect = async (url: string) => {
    const options = { connectTimeout: 15_000, statementTimeout: 20_000, applicationName: 'test' };
    const session = await Session.connect(parseConnectionString(url), { ...options, pooling: 'assume' });
    onTestFinished(() => session.close());
    return session;
  };
  const ROW = `SELECT current_setting('search_path') AS path, current_setting('enable_seqscan') AS seqscan,
    current_setting('transaction_isolation') AS isolation, current_setting('statement_timeout') AS timeout`;
  const OURS = { path: 'pg_catalog', seqscan: 'off', isolation: 'read committed', timeout: '21s' };

  test('has its settings in every statement, whatever the defaults of the database are', async () => {
    const { database, url } = await setup(start);
    await database.query(`
      ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable';
      ALTER DATABASE ${database.name} SET default_transaction_read_only = on;
      ALTER DATABASE ${database.name} SET search_path = hostile, public`);
    const session = await connect(url);
    expect(await session.query(ROW)).toEqual([OURS]);
    expect(await session.query({ name: 'named', text: `${ROW} WHERE $1` }, [true])).toEqual([OURS]);
    const rows: unknown[] = [];
    await session.eachRow({ name: 'each', text: `${ROW} WHERE $1` }, [true], (row) => rows.push(row), 30_000);
    expect(rows).toEqual([Object.values({ ...OURS, timeout: '31s' })]);
    await session.script(['INSERT INTO public.orders VALUES (7)', 'INSERT INTO public.orders VALUES (8)']);
    await session.transaction(
      ['BEGIN ISOLATION LEVEL REPEATABLE READ', 'SET LOCAL lock_timeout = 7'],
      async () => {
        expect(
          await session.query(`SELECT current_setting('lock_timeout') AS lock, * FROM (${ROW}) o`, [], 5000),
        ).toEqual([{ lock: '7ms', ...OURS, isolation: 'repeatable read', timeout: '6s' }]);
      },
    );
  });

  test('rolls a statement back that fails, and goes on', async () => {
    const { database, url } = await setup(start);
    const session = await connect(url);
    for (const text of ['SELECT 1 / $1::int', 'INSERT INTO public.orders SELECT 1 + 0 * $1', 'SELEC $1'])
      await expect(session.query(text, [0])).rejects.toMatchObject({ code: /^(22012|23505|42601)$/ });
    const take = () => {};
    await expect(session.eachRow({ name: 'a', text: 'SELECT 1 / $1::int' }, [0], take)).rejects.toThrow(
      'zero',
    );
    await expect(session.script(['INSERT INTO public.orders VALUES (5)', 'SELECT 1 / 0'])).rejects.toThrow(
      'zero',
    );
    await expect(
      session.eachRow({ name: 'a', text: 'SELECT 1' }, [], () => {
        throw new Error('of the caller');
      }),
    ).rejects.toThrow('of the caller');
    expect(await session.query('SELECT id FROM public.orders')).toEqual([{ id: 1 }]);
    expect(
      await database.query(
        "SELECT FROM pg_stat_activity WHERE state LIKE 'idle in%' AND datname = current_database()",
      ),
    ).toEqual([]);
    await expectUntouched(database, url);
  });

  test('gives each statement its limit on the server, where the node gives up first', async () => {
    const { database, url } = await setup(start);
    const session = await connect(url);
    const sleeping = session.query('SELECT pg_sleep(60)', [], 200);
    await expect(sleeping).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
    const asleep = () =>
      database.query(
        "SELECT FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' AND pid <> pg_backend_pid()",
      );
    await until(async () => (await asleep()).length === 0);
  });
});
