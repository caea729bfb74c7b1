import { expect, inject, test } from 'vitest';
import { createDatabase } from './database.ts';
import { spawnNode } from './processes.ts';
import { startProxy } from './proxy.ts';
import { startServer } from './server.ts';

test('gives every caller a database of its own and drops it', async () => {
  await using witness = await createDatabase();
  const exists = async (name: string) =>
    (await witness.query('SELECT FROM pg_database WHERE datname = $1', [name])).length === 1;

  let name: string;
  {
    await using database = await createDatabase();
    name = database.name;
    const client = await database.client();
    await client.query('CREATE TABLE t (n int); INSERT INTO t VALUES (1)');
    expect(await database.query('SELECT current_database() AS name, n FROM t')).toEqual([{ name, n: 1 }]);
    expect(await exists(name)).toBe(true);
  }
  expect(await exists(name)).toBe(false);
});

test('starts a server that survives a crash and a restart', async () => {
  await using server = await startServer({ settings: { application_name: "it's mine" } });
  await using database = await createDatabase(server.url());
  await database.query('CREATE TABLE t AS SELECT 1 AS n');

  await server.kill();
  expect(server.pid()).toBeUndefined();
  await expect(database.query('SELECT')).rejects.toThrow();
  await server.start();
  await server.restart('immediate');
  expect(await database.query("SELECT n, current_setting('application_name') AS name FROM t")).toEqual([
    { n: 1, name: "it's mine" },
  ]);
});

test('freezes, cuts and refuses connections', async () => {
  await using database = await createDatabase();
  const { hostname, port } = new URL(inject('adminUrl'));
  await using proxy = await startProxy(hostname, Number(port || 5432));
  const connectionString = proxy.url(database.url);
  const first = await database.client({ connectionString });
  const second = await database.client({ connectionString });
  const arrived = async () => (await database.query('SELECT n FROM t ORDER BY n')).map((row) => row.n);
  await database.query('CREATE TABLE t (n int)');

  proxy.freeze('to-client', 0);
  let answered = false;
  const held = first.query('INSERT INTO t VALUES (1)').then(() => (answered = true));
  await second.query('INSERT INTO t VALUES (2)');
  await expect.poll(arrived).toEqual([1, 2]); // what was sent has arrived, the answer has not
  expect(answered).toBe(false);
  proxy.thaw();
  await held;

  const [{ client_port }] = await second
    .query('SELECT client_port FROM pg_stat_activity WHERE pid = pg_backend_pid()')
    .then(({ rows }) => rows);
  proxy.freeze('to-server', (connection) => connection.clientPort === client_port);
  const lost = second.query('INSERT INTO t VALUES (3)');
  await first.query('INSERT INTO t VALUES (4)');
  expect(await arrived()).toEqual([1, 2, 4]);
  proxy.cut(1);
  await expect(lost).rejects.toThrow();
  await expect.poll(() => proxy.connections.map(({ index }) => index)).toEqual([0]);

  await proxy.refuse(true);
  await expect(database.client({ connectionString })).rejects.toThrow('ECONNREFUSED');
  await proxy.refuse(false);
  proxy.freeze();
  await expect(database.client({ connectionString, connectionTimeoutMillis: 300 })).rejects.toThrow(
    'timeout',
  );
  proxy.thaw();
  await database.client({ connectionString });
});

test('talks with a process that runs TypeScript, and stops it at any time', async () => {
  await using child = spawnNode(new URL('echo.ts', import.meta.url));
  await child.waitFor((message) => message === 'ready');
  child.send({ n: 1 });
  child.send({ n: 2 });
  expect(await child.waitFor(({ n }) => n === 2)).toEqual({ n: 2 });
  expect(await child.waitFor(({ n }) => n === 1)).toEqual({ n: 1 });

  child.signal('SIGSTOP');
  child.send('after the pause');
  await expect(child.waitFor(() => true, 300)).rejects.toThrow('no such message');
  child.signal('SIGCONT');
  await child.waitFor((message) => message === 'after the pause');

  child.signal('SIGKILL');
  expect(await child.exited).toEqual({ code: null, signal: 'SIGKILL' });
  await expect(child.waitFor(() => true)).rejects.toThrow('exited (SIGKILL)');
});
