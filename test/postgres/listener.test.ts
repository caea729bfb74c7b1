import { once } from 'node:events';
import { createServer } from 'node:net';
import { inject, describe, expect, onTestFinished, test } from 'vitest';
import { Listener } from '../../src/postgres/listener.ts';
import type { Session } from '../../src/postgres/session.ts';
import { startProxy } from '../support/proxy.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

async function setup(channels: string[] = ['news'], heartbeat = 20_000) {
  const fixture = await setupSessions();
  const { hostname, port } = new URL(inject('adminUrl'));
  const proxy = await startProxy(hostname, Number(port || 5432));
  const session: Session = await fixture.session({ url: proxy.url(fixture.database.url) });
  const listener = await Listener.connect(session.endpoint, channels, {
    applicationName: 'the listener',
    connectTimeout: 15_000,
    heartbeat,
  });
  onTestFinished(async () => {
    await listener.close();
    await proxy.close();
    await fixture[Symbol.asyncDispose]();
  });
  const heard: [string, string][] = [];
  const lost: unknown[] = [];
  listener.onNotification = (channel, payload) => heard.push([channel, payload]);
  listener.onLost = (error) => lost.push(error);
  const sessions = () =>
    fixture.database.query(
      `SELECT pid, query FROM pg_stat_activity WHERE application_name = 'the listener' AND datname = current_database()`,
    );
  return { fixture, proxy, session, listener, heard, lost, sessions };
}

test.each(['news', 'error', 'notification', 'connected', 'Two "words"', '__proto__', 'é'])(
  'hears the channel %s, and payloads as they are',
  async (channel) => {
    const { fixture, heard, lost } = await setup([channel, 'another']);
    for (const payload of ['{"a": 1}', 'no JSON', '']) {
      await fixture.database.query('SELECT pg_notify($1, $2)', [channel, payload]);
    }
    await fixture.database.query(`SELECT pg_notify('another', 'end'), pg_notify('not listened to', '')`);
    await until(() => heard.length >= 4);
    expect(heard).toEqual([
      [channel, '{"a": 1}'],
      [channel, 'no JSON'],
      [channel, ''],
      ['another', 'end'],
    ]);
    expect(lost).toEqual([]);
  },
);

test('is lost, once and for good, when its session ends', async () => {
  const { fixture, lost, sessions, listener } = await setup();
  const [{ pid }] = await sessions();
  await fixture.database.query('SELECT pg_terminate_backend($1)', [pid]);
  await until(() => lost.length > 0);
  expect(lost).toEqual([expect.objectContaining({ code: 'ERR_CONNECTION_LOST', retryable: true })]);
  await listener.close();
  expect(await sessions()).toEqual([]); // it has not come back by itself
  expect(lost).toHaveLength(1);
});

test('calls no function of a schema that the search_path of its role finds before pg_catalog', async () => {
  await using fixture = await setupSessions();
  const { database } = fixture;
  await database.query(`
    CREATE SCHEMA evil; CREATE TABLE evil.called (n int);
    CREATE FUNCTION evil.pg_backend_pid() RETURNS int LANGUAGE sql AS 'INSERT INTO evil.called VALUES (1) RETURNING n'`);
  const config = { connectionString: database.url, options: '-c search_path=evil,pg_catalog' };
  const listener = await Listener.connect(config, ['news'], {
    applicationName: 'the listener',
    connectTimeout: 15_000,
    heartbeat: 300,
  });
  const commands = new Set<string>();
  await until(async () => {
    const [row] = await database.query(
      `SELECT query FROM pg_stat_activity WHERE application_name = 'the listener' AND datname = current_database()`,
    );
    return commands.add(row.query).size >= 3; // that for the channel, and two signs of life
  });
  await listener.close();
  expect(await database.query('SELECT FROM evil.called')).toEqual([]);
});

describe('a listener that has gone deaf', () => {
  test.each(['both', 'to-server', 'to-client'] as const)(
    'because the connection is frozen %s is detected',
    async (direction) => {
      const { proxy, lost } = await setup(['news'], 1000);
      await new Promise((resolve) => setTimeout(resolve, 2500)); // several signs of life were answered
      expect(lost).toEqual([]);
      const began = performance.now();
      proxy.freeze(direction, 1);
      await until(() => lost.length > 0);
      expect(performance.now() - began).toBeGreaterThan(800); // it had the time to answer
      expect(lost).toEqual([expect.objectContaining({ code: 'ERR_CONNECTION_LOST' })]);
    },
  );

  test('closes in time', async () => {
    const { proxy, listener, lost } = await setup();
    proxy.freeze('both', 1);
    const began = performance.now();
    await Promise.all([listener.close(), listener.close()]);
    expect(performance.now() - began).toBeLessThan(3000);
    expect(lost).toEqual([]);
  });
});

describe('connecting takes no longer than it may', () => {
  const [AUTHENTICATED, READY] = [
    Buffer.from([82, 0, 0, 0, 8, 0, 0, 0, 0]),
    Buffer.from([90, 0, 0, 0, 5, 73]),
  ];

  test.each([
    ['says nothing at all', Buffer.alloc(0)],
    ['falls silent before it lets us in', AUTHENTICATED],
    ['falls silent after it has let us in', Buffer.concat([AUTHENTICATED, READY])],
  ])('when the server %s', async (_, greeting) => {
    const server = createServer((socket) => socket.once('data', () => socket.write(greeting))).listen(
      0,
      '127.0.0.1',
    );
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const endpoint = { host: '127.0.0.1', port, user: 'me', database: 'x' };
    const options = { applicationName: 'test', connectTimeout: 300, heartbeat: 20_000 };
    const began = performance.now();
    await expect(Listener.connect(endpoint, ['one', 'two'], options)).rejects.toThrow();
    expect(performance.now() - began).toBeLessThan(3000);
  });
});
