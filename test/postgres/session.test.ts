import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterEach, describe, expect, inject, onTestFinished, test, vi } from 'vitest';
import { parseConnectionString } from '../../src/config/connection-string.ts';
import { Session, isoOf } from '../../src/postgres/session.ts';
import { majorVersion } from '../support/database.ts';
import { type Proxy, startProxy } from '../support/proxy.ts';
import { startServer } from '../support/server.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

async function proxied(): Promise<Proxy> {
  const { hostname, port } = new URL(inject('adminUrl'));
  const proxy = await startProxy(hostname, Number(port || 5432));
  onTestFinished(() => proxy.close());
  return proxy;
}
const connect = (url: string, connectTimeout = 15_000) =>
  Session.connect(parseConnectionString(url), {
    connectTimeout,
    statementTimeout: 300,
    applicationName: 'test',
  });

test('runs statements one after the other, in the order of the calls', async () => {
  await using fixture = await setupSessions();
  const session = await fixture.session();
  const order: number[] = [];
  await Promise.all(
    [0.1, 0, 0.05].map(async (seconds, n) => {
      await session.query('SELECT pg_sleep($1)', [seconds]);
      order.push(n);
    }),
  );
  expect(order).toEqual([0, 1, 2]);
});

test('goes on after a statement that the server refuses', async () => {
  await using fixture = await setupSessions();
  const session = await fixture.session();
  const refused = session.query('SELECT 1/0');
  const next = session.query<{ n: number }>('SELECT 7 AS n');
  await expect(refused).rejects.toMatchObject({ code: '22012' });
  expect(await next).toEqual([{ n: 7 }]);
  expect(session.isLost).toBe(false);
});

test('has settings of its own, whatever role and database are set to, and prints times to the microsecond', async () => {
  await using fixture = await setupSessions();
  const { database } = fixture;
  await database.query(`ALTER DATABASE ${database.name} SET search_path = nowhere`);
  await database.query(`ALTER DATABASE ${database.name} SET TimeZone = 'Asia/Tokyo'`);
  await database.query(`ALTER DATABASE ${database.name} SET DateStyle = 'German'`);
  await database.query(`ALTER DATABASE ${database.name} SET statement_timeout = '1min'`);
  await database.query(`ALTER DATABASE ${database.name} SET default_transaction_read_only = on`);
  await database.query(`ALTER DATABASE ${database.name} SET default_transaction_isolation = 'serializable'`);
  const knowsTransactionTimeout = (await majorVersion(database)) >= 17;
  if (knowsTransactionTimeout)
    await database.query(`ALTER DATABASE ${database.name} SET transaction_timeout = '1min'`);
  const session = await fixture.session();
  const [row] = await session.query<{ at: string; path: string; timeout: string }>(
    `SELECT '2026-01-31 12:00:00.123456+09'::timestamptz AS at, current_setting('search_path') AS path, current_setting('statement_timeout') AS timeout`,
  );
  expect(row).toMatchObject({ at: '2026-01-31 03:00:00.123456+00', path: 'pg_catalog', timeout: '21s' });
  expect(isoOf(row!.at)).toBe('2026-01-31T03:00:00.123456Z');
  await session.query('CREATE TABLE public.writable ()');
  const [limit] = await session.query(`SELECT current_setting('transaction_timeout', true) AS limit`);
  expect(limit).toEqual({ limit: knowsTransactionTimeout ? '0' : null });
});

test('shows no password when it is lost, whatever the server says', async () => {
  await using fixture = await setupSessions();
  const url = new URL(fixture.database.url);
  url.password = 'hunter2';
  const session = await fixture.session({ url: url.href });
  const lost = await session
    .query(`DO $$ BEGIN RAISE 'the password is hunter2' USING ERRCODE = '57P01'; END $$`)
    .catch((error: unknown) => error);
  expect(lost).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  expect(inspect(lost, { depth: null })).toContain('the password is ***');
  expect(inspect(lost, { depth: null })).not.toContain('hunter2');
});

test('is lost when the server ends it for a transaction that takes too long', async () => {
  await using fixture = await setupSessions();
  if ((await majorVersion(fixture.database)) < 17) return;
  const session = await fixture.session();
  await session.query(`SET transaction_timeout = '10ms'`);
  await expect(session.query('SELECT pg_sleep(60)')).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
});

test('a row that cannot be used fails its own statement only', async () => {
  await using fixture = await setupSessions();
  const session = await fixture.session();
  const lost = vi.fn<() => void>();
  session.onLost = lost;
  const rows: unknown[] = [];
  const take = (row: unknown[]) => {
    rows.push(...row);
    if (rows.length === 2) throw new Error('no use');
  };
  const three = { name: 'three', text: 'SELECT generate_series(1, 3)' };
  await expect(session.eachRow(three, [], take)).rejects.toThrow('no use');
  await session.eachRow(three, [], take);
  expect(rows).toEqual([1, 2, 1, 2, 3]);
  expect(lost).not.toHaveBeenCalled();
});

test('waits for its commits to be flushed, whatever role and database are set to', async () => {
  await using fixture = await setupSessions();
  await fixture.database.query(`ALTER DATABASE ${fixture.database.name} SET synchronous_commit = off`);
  const session = await fixture.session();
  expect(await session.query('SHOW synchronous_commit')).toEqual([{ synchronous_commit: 'on' }]);
});

test('is lost, once, when a statement is not answered in time; the statements behind it fail at once', async () => {
  await using fixture = await setupSessions();
  const proxy = await proxied();
  const session = await connect(proxy.url(fixture.database.url));
  const lost: unknown[] = [];
  session.onLost = (error) => lost.push(error);
  proxy.freeze('to-client');
  const began = performance.now();
  const results = await Promise.allSettled([1, 2, 3].map((n) => session.query('SELECT $1::int', [n])));
  expect(performance.now() - began).toBeGreaterThan(290);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected']);
  expect(lost).toEqual([expect.objectContaining({ code: 'ERR_CONNECTION_LOST', retryable: true })]);
  expect(session.isLost).toBe(true);
  await session.close();
  expect(lost).toHaveLength(1);
});

test.each([undefined, 1200])('a statement given up ends in the server too (limit: %s)', async (limit) => {
  await using fixture = await setupSessions();
  const proxy = await proxied();
  const session = await connect(proxy.url(fixture.database.url));
  const locker = await fixture.database.client();
  await locker.query('BEGIN; LOCK TABLE items');
  const locks = async () =>
    (await fixture.database.query("SELECT FROM pg_locks WHERE relation = 'items'::regclass")).length;
  const statement = session.query('SELECT FROM public.items', [], limit);
  await until(async () => (await locks()) === 2);
  await expect(statement).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  await until(async () => (await locks()) === 1);
});

test('is lost when the server ends it, also while nothing is asked', async () => {
  await using fixture = await setupSessions();
  const session = await fixture.session();
  const lost = new Promise((resolve) => (session.onLost = resolve));
  const [row] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  await fixture.database.query('SELECT pg_terminate_backend($1)', [row!.pid]);
  expect(await lost).toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  await expect(session.query('SELECT')).rejects.toMatchObject({ code: 'ERR_CONNECTION_LOST' });
  await session.close();
});

test('is not lost when the process was frozen while the answer came', async () => {
  await using fixture = await setupSessions();
  const session = await connect(fixture.database.url);
  for (const frozen of [310, 450, 900]) {
    const answer = session.query('SELECT');
    // The statement has left, and its answer is there before anybody looks.
    await new Promise(setImmediate);
    const end = performance.now() + frozen;
    while (performance.now() < end);
    await answer;
  }
  expect(session.isLost).toBe(false);
  await session.close();
});

test.each(['both', 'to-server', 'to-client'] as const)(
  'closes in time when frozen %s, with a statement under way or without',
  async (direction) => {
    await using fixture = await setupSessions();
    const proxy = await proxied();
    const url = proxy.url(fixture.database.url);
    const [idle, busy] = [await connect(url), await connect(url)];
    proxy.freeze(direction);
    const statements = [1, 2, 3].map(async () => busy.query('SELECT').catch(() => {}));
    const began = performance.now();
    await Promise.all([idle.close(), busy.close(), busy.close()]);
    await Promise.all(statements);
    expect(performance.now() - began).toBeLessThan(3000);
    await proxy.close();
  },
);

test('answers statements asked before it closes, and none after', async () => {
  await using fixture = await setupSessions();
  const session = await fixture.session();
  const answers = Promise.all([session.query('SELECT pg_sleep(0.05)'), session.query('SELECT 1 AS n')]);
  let lost = false;
  session.onLost = () => (lost = true);
  await Promise.all([session.close(), session.close()]);
  expect(await answers).toEqual([[{ pg_sleep: '' }], [{ n: 1 }]]);
  await expect(session.query('SELECT')).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  expect(lost).toBe(false);
});

test('connects to the first host that answers, within one time limit for all hosts', async () => {
  await using fixture = await setupSessions();
  const silent = createServer(() => {}).listen(0, '127.0.0.1');
  onTestFinished(() => void silent.close());
  await once(silent, 'listening');
  const { port } = silent.address() as { port: number };
  const url = new URL(fixture.database.url);
  const hosts = `127.0.0.1:1,127.0.0.1:${port},${url.hostname}:${url.port}`;
  const session = await connect(`postgres://${url.username}:${url.password}@${hosts}${url.pathname}`, 6000);
  expect(session.endpoint.port).toBe(Number(url.port));
  await session.close();

  await expect(connect(`postgres://me@127.0.0.1:1,127.0.0.1:${port}/x`, 300)).rejects.toMatchObject({
    code: 'ERR_CONNECT',
    message: expect.stringMatching(/within 300 ms .*ECONNREFUSED.*timeout expired/),
  });
});

describe('a server that asks for a password', () => {
  afterEach(() => vi.unstubAllEnvs());

  test.each(['password', 'md5', 'scram-sha-256'] as const)('by %s', async (auth) => {
    await using server = await startServer({ auth });
    const without = server.url().replace(':postgres@', '@');
    const folder = await mkdtemp(join(tmpdir(), 'pgpass-'));
    onTestFinished(() => rm(folder, { recursive: true }));
    vi.stubEnv('PGPASSWORD', undefined).stubEnv('PGPASSFILE', join(folder, 'pgpass'));
    await expect(connect(without)).rejects.toMatchObject({
      code: 'ERR_CONNECT',
      message: expect.stringMatching(/asks for a password, and none was given: .*PGPASSWORD/),
    });
    await expect(connect(server.url().replace(':postgres@', ':wrong@'))).rejects.toMatchObject({
      code: 'ERR_CONNECT',
      message: expect.stringMatching(/password authentication failed/),
    });

    await (await connect(server.url())).close();
    await writeFile(join(folder, 'pgpass'), '*:*:*:postgres:postgres\n', { mode: 0o600 });
    await (await connect(without)).close();
    vi.stubEnv('PGPASSFILE', undefined).stubEnv('PGPASSWORD', 'postgres');
    await (await connect(without)).close();
  });
});

test('leaves nothing behind when it fails to connect', async () => {
  await using fixture = await setupSessions();
  const proxy = await proxied();
  proxy.freeze('to-client');
  await expect(connect(proxy.url(fixture.database.url), 200)).rejects.toMatchObject({ code: 'ERR_CONNECT' });
  proxy.thaw();
  await until(() => proxy.connections.length === 0);
});
