import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type TestDatabase, createDatabase } from './support/database.ts';
import { spawnNode } from './support/processes.ts';
import { startServer } from './support/server.ts';
import { until } from './support/until.ts';

const LOG = 'postgres_input.log_postgres_input_sales';
const LOCK = 'postgres_input.lock_postgres_input_sales';
const ROWS = 100;

test('the orchestrator processes every change once, eight at a time, and finishes what it has begun', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE orders (id int PRIMARY KEY, status text)');
  await using receiver = await startReceiver();
  await using config = await writeConfig(database.url, receiver.url);
  await using orchestrator = spawnNode(new URL('../examples/orchestrator.ts', import.meta.url), {
    args: [config.path],
  });
  await expect.poll(() => isActive(database), { timeout: 15_000 }).toBe(true);

  await database.query(`INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 8) n`);
  await database.query(`DO $$ BEGIN
    FOR n IN 1..${ROWS} LOOP
      INSERT INTO orders VALUES (n, 'new') ON CONFLICT DO NOTHING;
      UPDATE orders SET status = 'paid' WHERE id = n;
    END LOOP;
  END $$`);
  await expect.poll(() => receiver.accepted.length, { timeout: 15_000 }).toBe(2 * ROWS);
  await database.query('DELETE FROM orders WHERE id > 1'); // not among the config's operations

  receiver.hold();
  await database.query(`UPDATE orders SET status = 'shipped'`);
  await expect.poll(() => receiver.held).toBe(1);
  orchestrator.signal('SIGTERM');
  await expect.poll(() => orchestrator.output()).toContain('stopping');
  receiver.release();
  expect(await orchestrator.exited).toEqual({ code: 0, signal: null });

  expect(receiver.peak).toBe(8);
  expect(receiver.refused).toBeGreaterThan(0);
  expect(new Set(receiver.accepted.map(({ key }) => key)).size).toBe(receiver.accepted.length);
  const operationsOf = (id: number) =>
    receiver.accepted.filter(({ event }) => event.id === String(id)).map(({ event }) => event.operation);
  expect(operationsOf(1)).toEqual(['create', 'update', 'update']);
  for (let id = 2; id <= ROWS; id++) expect(operationsOf(id)).toEqual(['create', 'update']);
  expect(await database.query(`SELECT FROM ${LOG}`)).toEqual([]);
});

test('the HTTP endpoints tell of a node that is ready, down and back, and of one that is ending', async () => {
  await using server = await startServer();
  await using database = await createDatabase(server.url());
  await database.query('CREATE TABLE orders (id int PRIMARY KEY)');
  const patient = new URL(database.url);
  patient.searchParams.set('connect_timeout', '10');
  await using node = spawnNode(new URL('../examples/health-http.ts', import.meta.url), {
    args: [patient.href, '0'],
  });
  const listening = /listening on (\d+)/;
  await until(() => listening.test(node.output()));
  const [, port] = listening.exec(node.output())!;
  const get = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`);
    return { status: response.status, text: await response.text() };
  };
  const ready = async () => (await get('/ready')).status;
  await until(async () => (await ready()) === 200);
  expect(await get('/live')).toEqual({ status: 200, text: 'alive\n' });
  expect((await get('/')).status).toBe(404);

  await until(() => node.output().includes('holds the lease: this node is active'));
  await database.query('INSERT INTO orders VALUES (1), (2)');
  await until(() => node.output().includes('create orders 2'));
  const { text } = await get('/metrics');
  expect(text).toContain(
    '# TYPE postgres_input_handed_out_total counter\npostgres_input_handed_out_total{input="sales"} 2\n',
  );
  expect(text.match(/^postgres_input_\w+\{input="sales"\} [\d.]+$/gm)).toHaveLength(9);

  await server.stop('immediate');
  await until(async () => (await ready()) === 503);
  expect((await get('/ready')).text).toContain('reconnecting');
  expect((await get('/live')).status).toBe(200);
  expect((await get('/metrics')).status).toBe(503);
  await server.start();
  await until(async () => (await ready()) === 200);

  node.signal('SIGTERM');
  expect(await node.exited).toEqual({ code: 0, signal: null });
  expect(node.output()).toContain('is closed');
});

test('the endpoints with Fastify tell of a node that is ready, down and back, and of one that is ending', async () => {
  await using server = await startServer();
  await using database = await createDatabase(server.url());
  await database.query('CREATE TABLE orders (id int PRIMARY KEY)');
  await using node = await startServing('health-fastify.ts', database);
  const ready = async () => (await node.get('/ready')).status;
  await until(() => isActive(database));
  await until(async () => (await ready()) === 200);
  expect(await node.get('/live')).toEqual({ status: 200, text: '{"status":"ok"}' });
  await database.query('INSERT INTO orders VALUES (1), (2)');
  await until(() => node.output().includes('create orders 2'));
  expect(JSON.parse((await node.get('/metrics')).text)).toMatchObject({ handedOut: 2 });

  await server.stop('immediate');
  await until(async () => (await ready()) === 503);
  expect(await node.get('/ready')).toMatchObject({ text: expect.stringContaining('reconnecting') });
  expect((await node.get('/live')).status).toBe(200);
  await server.start();
  await until(async () => (await ready()) === 200);

  node.signal('SIGTERM');
  expect(await node.exited).toEqual({ code: 0, signal: null });
});

test('the exporter for Prometheus has exactly the metrics that the dashboard shows', async () => {
  await using server = await startServer();
  await using database = await createDatabase(server.url());
  await database.query('CREATE TABLE orders (id int PRIMARY KEY)');
  await using node = await startServing('prometheus.ts', database);
  await until(() => isActive(database));
  await database.query('INSERT INTO orders VALUES (1), (2)');
  await until(async () => (await node.get('/')).text.includes('acknowledged_total{input="sales"} 2'));
  const { text } = await node.get('/');
  expect(text).toContain('postgres_input_active{input="sales"} 1\n');
  expect(text).toContain('postgres_input_health{check="node",input="sales"} 0\n');
  expect(text).toMatch(/^postgres_input_process_seconds_count\{.*outcome="acknowledged".*\} 2$/m);

  const exported = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!);
  const dashboard = await readFile(new URL('../docs/grafana.json', import.meta.url), 'utf8');
  const { panels } = JSON.parse(dashboard) as { panels: { targets: { expr: string }[] }[] };
  const shown = panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) => expr.match(/postgres_input_\w+/g) ?? []),
  );
  const families = shown.map((name) => name.replace(/_(?:bucket|count|sum)$/, ''));
  expect([...new Set(families)].toSorted()).toEqual(exported.toSorted());

  await server.stop('immediate');
  await until(async () => /^postgres_input_active\S* 0$/m.test((await node.get('/')).text));
  expect((await node.get('/')).text).not.toContain('postgres_input_backlog{');
  await server.start();
  await until(() => isActive(database));
  node.signal('SIGTERM');
  expect(await node.exited).toEqual({ code: 0, signal: null });
});

test('the orchestrator ends in time although a process hangs, and what hung comes again', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE orders (id int PRIMARY KEY, status text)');
  await using receiver = await startReceiver();
  await using config = await writeConfig(database.url, receiver.url);
  const file = new URL('../examples/orchestrator.ts', import.meta.url);
  await using first = spawnNode(file, { args: [config.path] });
  await expect.poll(() => isActive(database), { timeout: 15_000 }).toBe(true);
  await database.query(`INSERT INTO orders VALUES (1, 'new')`);
  await expect.poll(() => receiver.held, { timeout: 15_000 }).toBe(1);
  first.signal('SIGTERM');
  expect(await first.exited).toEqual({ code: 0, signal: null });
  expect(receiver.accepted).toEqual([]);
  expect(await database.query(`SELECT FROM ${LOG}`)).toHaveLength(1);

  receiver.release();
  await using second = spawnNode(file, { args: [config.path] });
  await expect.poll(() => receiver.accepted, { timeout: 15_000 }).toMatchObject([{ event: { id: '1' } }]);
  second.signal('SIGTERM');
  expect(await second.exited).toEqual({ code: 0, signal: null });
  expect(await database.query(`SELECT FROM ${LOG}`)).toEqual([]);
}, 60_000);

/** Runs an example that serves HTTP. */
async function startServing(example: string, database: TestDatabase) {
  const patient = new URL(database.url);
  patient.searchParams.set('connect_timeout', '10');
  const node = spawnNode(new URL(`../examples/${example}`, import.meta.url), { args: [patient.href, '0'] });
  const listening = /listening on (\d+)/;
  await until(() => listening.test(node.output()));
  const [, port] = listening.exec(node.output())!;
  return {
    ...node,
    [Symbol.asyncDispose]: () => node[Symbol.asyncDispose](),
    get: async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${port}${path}`);
      return { status: response.status, text: await response.text() };
    },
  };
}

async function isActive(database: TestDatabase): Promise<boolean> {
  const [made] = await database.query(`SELECT to_regclass('${LOCK}') AS name`);
  if (made.name === null) return false;
  const [row] = await database.query(`SELECT holder FROM ${LOCK}`);
  return row.holder !== null;
}

interface Accepted {
  readonly key: string;
  readonly event: { readonly id: string; readonly operation: string };
}

/** Refuses every tenth request, and answers none until as many are open as may be. */
async function startReceiver() {
  const accepted: Accepted[] = [];
  const open = new Set<() => void>();
  let requests = 0;
  let refused = 0;
  let peak = 0;
  let isHeld = true;

  const server = createServer((request, response) => void receive(request, response));
  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = (await request.toArray()).join('');
    const isRefused = ++requests % 10 === 0;
    const answer = () => {
      open.delete(answer);
      if (isRefused) refused++;
      else accepted.push({ key: String(request.headers['idempotency-key']), event: JSON.parse(body) });
      response.writeHead(isRefused ? 503 : 204).end();
    };
    open.add(answer);
    response.once('close', () => open.delete(answer));
    peak = Math.max(peak, open.size);
    if (requests === 8) setTimeout(release, 100); // time enough for a ninth to show
    else if (!isHeld) setImmediate(answer);
  }
  function release() {
    isHeld = false;
    for (const answer of open) answer();
  }
  await once(server.listen(0, '127.0.0.1'), 'listening');

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    accepted,
    get refused() {
      return refused;
    },
    get peak() {
      return peak;
    },
    get held() {
      return open.size;
    },
    hold: () => void (isHeld = true),
    release,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

async function writeConfig(database: string, url: string) {
  const patient = new URL(database);
  patient.searchParams.set('connect_timeout', '10');
  const folder = await mkdtemp(join(tmpdir(), 'orchestrator-'));
  const path = join(folder, 'config.toml');
  const toml = `
[[inputs]]
name = "sales"
type = "postgres"
connection_string = "${patient.href}"
operation = ["insert", "update"]

[[processes]]
name = "accounting"
type = "webhook"
url = "${url}"

[[links]]
input = "sales"
process = "accounting"
`;
  await writeFile(path, toml);
  return { path, [Symbol.asyncDispose]: () => rm(folder, { recursive: true }) };
}
