import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { type Network, Warehouse, serve } from '../../examples/effects/warehouse.ts';
import { createDatabase } from '../support/database.ts';
import { spawnNode } from '../support/processes.ts';
import { until } from '../support/until.ts';

test('the example of effects ships and books each order once, also when a request comes late or twice', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE shipments (order_id int)');
  const warehouse = new Warehouse();
  const normally: Network = async (deliver) => (await deliver())();
  let network = normally;
  const server = serve(warehouse, (deliver) => network(deliver)).listen(0, '127.0.0.1');
  onTestFinished(() => (server.closeAllConnections(), void server.close()));
  await once(server, 'listening');
  const url = new URL(database.url);
  url.searchParams.set('connect_timeout', '15');
  const { port } = server.address() as AddressInfo;
  const start = () => {
    const args = [url.href, `http://127.0.0.1:${port}/`];
    const node = spawnNode(new URL('../../examples/effects.ts', import.meta.url), { args });
    onTestFinished(() => node[Symbol.asyncDispose]());
    return node;
  };
  const holder = async (): Promise<number | null> => {
    const [made] = await database.query(
      `SELECT to_regclass('postgres_input.lock_postgres_input_orders') AS t`,
    );
    if (made.t === null) return null;
    const [row] = await database.query('SELECT backend_pid FROM postgres_input.lock_postgres_input_orders');
    return row.backend_pid;
  };
  const standbys = async () => {
    const rows = await database.query(
      `SELECT pid FROM pg_stat_activity WHERE application_name = 'dapper-postgres-input orders' AND datname = current_database()`,
    );
    return rows.length - 2;
  };
  const booked = async () =>
    (await database.query('SELECT order_id AS id FROM shipments ORDER BY 1')).map(({ id }) => String(id));

  const late = start();
  await until(holder, 60_000);
  const killed = start();
  await until(async () => (await standbys()) === 2, 60_000);

  // A request gets stuck, and its node is frozen and loses the lease meanwhile.
  const stuck: Parameters<Network>[0][] = [];
  network = async (deliver) => void stuck.push(deliver);
  await database.query('INSERT INTO orders VALUES (1)');
  await until(() => stuck.length > 0);
  network = normally;
  late.signal('SIGSTOP');
  await database.query('SELECT pg_terminate_backend($1)', [await holder()]); // sooner than after 5 s
  await until(async () => (await booked()).length === 1);
  await database.query('INSERT INTO orders VALUES (2)');
  await until(async () => (await booked()).length === 2);
  late.signal('SIGCONT');
  (await stuck[0]!())();
  await until(() => late.output().includes('refused'));

  // An answer gets lost, and its node dies.
  let isLost = false;
  network = async (deliver) => void (await deliver(), (isLost = true));
  await database.query('INSERT INTO orders VALUES (3)');
  await until(() => isLost);
  network = normally;
  killed.signal('SIGKILL');
  await until(async () => (await booked()).length === 3);

  expect(warehouse.shipped).toEqual(['1', '2', '3']);
  expect(await booked()).toEqual(['1', '2', '3']);
  expect(late.output()).toBe('order 1: refused\norder 3: shipped already\n');
  expect(killed.output()).toBe('order 1: shipped\norder 2: shipped\n');
  late.signal('SIGTERM');
  expect(await late.exited).toEqual({ code: 0, signal: null });
}, 120_000);
