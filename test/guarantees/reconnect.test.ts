import pg from 'pg';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import {
  type ChangeEvent,
  type HandleOptions,
  type LifecycleEvents,
  newPostgresInput,
} from '../../src/index.ts';
import { type Proxy, startProxy } from '../support/proxy.ts';
import { type Server, startServer } from '../support/server.ts';

const lease = { pollInterval: 50 };
const quick = { minDelay: 10, maxDelay: 160 };
/** How long an outage lasts at least; longer ones are met with the default delays. */
const outageSeconds = Number(process.env['OUTAGE_SECONDS'] ?? 0);

let server: Server;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

type Attempt = LifecycleEvents['reconnecting'][0];

let databases = 0;

async function query(url: string, sql: string): Promise<Record<string, string>[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** A short connectTimeout is for attempts that are to fail; those that are not may need more than one on a busy machine. */
async function patiently<Result>(attempt: () => Promise<Result>): Promise<Result> {
  for (let left = 30; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
    }
  }
}

/** An active input, connected through proxies, one per server, and the table that it watches on the first of them. */
async function setup(
  servers: readonly Server[],
  reconnect: HandleOptions['reconnect'] = quick,
  connectTimeout = 15_000,
) {
  const database = `reconnect_${++databases}`;
  await query(servers[0]!.url(), `CREATE DATABASE ${database}`);
  const direct = servers[0]!.url(database);
  await query(direct, 'CREATE TABLE t (id int PRIMARY KEY)');
  const proxies = await Promise.all(servers.map(({ port }) => startProxy('127.0.0.1', port)));
  const hosts = proxies.map(({ port }) => `127.0.0.1:${port}`).join();
  const connectionString = `postgres://postgres@${hosts}/${database}?target_session_attrs=read-write&application_name=node`;
  const config = { name: 'input', type: 'postgres', connectionString };
  const input = await patiently(() => newPostgresInput(config, { lease, connectTimeout }));
  const events: ChangeEvent[] = [];
  const attempts: Attempt[] = [];
  input.on('reconnecting', (attempt) => attempts.push(attempt));
  const iterator = input.handle({ reconnect });
  const consumed = (async () => {
    for await (const event of iterator) events.push(event);
  })();
  consumed.catch(() => {}); // whoever awaits it hears of it
  onTestFinished(async () => {
    await input.close();
    for (const proxy of proxies) await proxy.close();
  });
  await expect.poll(() => input.state).toBe('active');
  return {
    database,
    direct,
    proxy: proxies[0] as Proxy,
    proxies,
    input,
    attempts,
    consumed,
    write: (from: number, to: number) =>
      query(direct, `INSERT INTO t SELECT generate_series(${from}, ${to})`),
    /** Waits until every row of these has been handed out. */
    received: async (last: number, first = 1) => {
      const missing = () => {
        const ids = new Set(events.map(({ id }) => id));
        return Array.from({ length: last - first + 1 }, (_, n) => String(first + n)).filter(
          (id) => !ids.has(id),
        );
      };
      await expect.poll(missing, { timeout: 60_000 }).toEqual([]);
    },
    /** Ids that have been handed out more than once. */
    repeated: () => events.filter(({ id }, n) => events.findIndex((other) => other.id === id) < n),
    /** Waits until the database has nothing more to hand out. */
    acknowledged: () => expect.poll(async () => (await input.status()).backlog).toBe(0),
  };
}

test.each(['fast', 'immediate'] as const)('carries on after a restart of the server (%s)', async (mode) => {
  const { write, received, acknowledged, repeated, input } = await setup([server]);
  await write(1, 20);
  await received(20);
  await acknowledged();
  await server.restart(mode);
  await write(21, 40);
  await received(40);
  expect(repeated()).toEqual([]);
  expect(input.state).toBe('active');
});

test.each(['the network is silent', 'the server is down'])(
  'an outage causes no loss, no storm of attempts and no output: %s',
  async (kind) => {
    const delays = outageSeconds > 0 ? { minDelay: 100, maxDelay: 10_000 } : quick;
    const { proxy, attempts, ...node } = await setup([server], outageSeconds > 0 ? true : quick, 500);
    attempts.length = 0; // connecting was one, or more
    const noise = [
      vi.spyOn(process.stdout, 'write'),
      vi.spyOn(process.stderr, 'write'),
      vi.spyOn(process, 'emitWarning'),
    ];
    await node.write(1, 20);
    await node.received(20);
    await node.acknowledged();

    const before = proxy.accepted;
    const started = performance.now();
    if (kind === 'the server is down') {
      await server.stop();
    } else {
      proxy.freeze();
      proxy.cut();
      await node.write(21, 500);
    }
    const lasted = () => (performance.now() - started) / 1000;
    await vi.waitUntil(() => lasted() > outageSeconds && attempts.length > 7, {
      timeout: 60_000 + outageSeconds * 1000,
    });
    const made = proxy.accepted - before;
    const told = attempts.length;
    if (kind === 'the server is down') await server.start();
    proxy.thaw();
    await node.write(501, 1000);
    await node.received(1000, kind === 'the server is down' ? 501 : 1);

    // One connection for each attempt that was announced; the first news came from the loss itself.
    expect(made).toBeGreaterThanOrEqual(told - 1);
    expect(made).toBeLessThanOrEqual(told);
    expect(made).toBeLessThanOrEqual(8 + (lasted() * 1000) / (delays.maxDelay / 2));
    attempts.slice(0, told).forEach(({ attempt, delay }, n) => {
      const most = Math.min(delays.maxDelay, delays.minDelay * 2 ** n);
      expect(attempt).toBe(n + 1);
      expect(delay).toBeGreaterThanOrEqual(most / 2);
      expect(delay).toBeLessThanOrEqual(most);
    });
    expect(node.repeated()).toEqual([]);
    const open = "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name = 'node'";
    expect(await query(server.url(), open)).toEqual([{ n: '2' }]);
    for (const spy of noise) expect(spy).not.toHaveBeenCalled();
  },
  120_000 + outageSeconds * 1000,
);

test.each(['dead', 'silent'])(
  'follows the primary to a promoted replica (the old primary is %s)',
  async (state) => {
    await using primary = await startServer();
    await using replica = await startServer({ standbyOf: primary });
    const { proxies, database, write, received, acknowledged, repeated, attempts } = await setup(
      [primary, replica],
      quick,
      2000,
    );
    await write(1, 20);
    await received(20);
    await acknowledged();
    const [position] = await query(primary.url(), 'SELECT pg_current_wal_lsn() AS lsn');
    const application = replica.url(database);
    const replayed = `SELECT (pg_last_wal_replay_lsn() >= '${position!['lsn']}')::text AS yes`;
    await expect.poll(() => query(application, replayed), { timeout: 60_000 }).toEqual([{ yes: 'true' }]);

    if (state === 'dead') {
      await primary.kill();
    } else {
      proxies[0]!.freeze();
    }
    // The replica is still one, and is refused. It takes some seconds to find out that the primary is silent.
    await expect.poll(() => attempts.length, { timeout: 60_000 }).toBeGreaterThan(2);
    await query(application, 'SELECT pg_promote()');
    await query(application, 'INSERT INTO t SELECT generate_series(21, 40)');
    await received(40);
    expect(repeated()).toEqual([]);
  },
  240_000,
);

test('the delay also grows when the node joins and fails at once, and is reset after a node has lasted', async () => {
  const { write, received, attempts, direct, input } = await setup([server], { minDelay: 1, maxDelay: 2000 });
  await query(
    direct,
    `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'full' USING ERRCODE = '53100'; END $$;
     CREATE TRIGGER refuse BEFORE UPDATE ON postgres_input.lock_postgres_input_input EXECUTE FUNCTION refuse()`,
  );
  await expect.poll(() => attempts.length, { timeout: 30_000 }).toBeGreaterThan(6);
  expect(attempts.slice(0, 7).map(({ attempt }) => attempt)).toEqual([1, 2, 3, 4, 5, 6, 7]);
  await query(direct, 'DROP TRIGGER refuse ON postgres_input.lock_postgres_input_input');
  await write(1, 20);
  await received(20);
  expect(input.state).toBe('active');
  await new Promise((resolve) => setTimeout(resolve, 2001));
  const told = attempts.length;
  await query(
    direct,
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'node'",
  );
  await expect.poll(() => attempts.length).toBeGreaterThan(told);
  expect(attempts[told]!.attempt).toBe(1);
});

test('ends without an error when it is closed while it reconnects', async () => {
  const { proxy, input, consumed } = await setup([server], quick, 2000);
  const before = proxy.accepted;
  proxy.freeze();
  proxy.cut();
  await expect.poll(() => proxy.accepted).toBeGreaterThan(before); // an attempt that never gets an answer
  await input.close();
  await expect(consumed).resolves.toBeUndefined();
});

test('ends without an error when it is closed while the network is silent', async () => {
  const { proxy, input, consumed } = await setup([server], false);
  proxy.freeze();
  await input.close();
  await expect(consumed).resolves.toBeUndefined();
});
