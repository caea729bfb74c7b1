/** The recipes of docs/recipes-processing.md are programs of examples/, and do as the document says. fan-out.test.ts shows the third one. */
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent } from '../../src/index.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { type NodeProcess, spawnNode } from '../support/processes.ts';
import { until } from '../support/until.ts';

const PROGRAMS = ['processing/bad-row.ts', 'processing/at-once.ts', 'fan-out.ts', 'fan-out/worker.ts'];

test('the document has the text of every program', async () => {
  const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');
  const document = await read('docs/recipes-processing.md');
  const blocks = [...document.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, text]) => text);
  expect(blocks).toEqual(await Promise.all(PROGRAMS.map((program) => read(`examples/${program}`))));
});

test('a bad row: it is tried again, parked, looked at and redriven, and no other row waits', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE invoices (id int PRIMARY KEY, iban text)');
  const paid: string[] = [];
  let isMended = false;
  const bank = await startService(({ id, iban }: { id: number; iban: string }) => {
    if (iban === 'wrong' && !isMended) return 422;
    paid.push(`${id} ${iban}`);
    return 204;
  });
  const program = await start(database, 'processing/bad-row.ts', 'invoices', bank);
  await database.query(
    `INSERT INTO invoices SELECT n, CASE n WHEN 3 THEN 'wrong' ELSE 'right' END FROM generate_series(1, 20) n`,
  );
  await database.query(`UPDATE invoices SET iban = 'corrected' WHERE id = 3`);
  await until(
    () => paid.length === 20,
    30_000,
    () => program.output(),
  );
  // The row waited for its own event alone, and then went on.
  expect(paid.at(-1)).toBe('3 corrected');
  expect(program.output()).toMatch(
    /invoice 3, attempt 4: .*422; again in \d+ ms\ninvoice 3 is parked after 5: .*422\n$/,
  );

  expect(await command(database, 'parked', '--name', 'invoices')).toMatch(/ create invoices 3 +5 .*422$/m);
  isMended = true;
  expect(await command(database, 'redrive', '--name', 'invoices', '--all')).toBe('redriven 1 event\n');
  await until(
    () => paid.length === 21,
    30_000,
    () => program.output(),
  );
  expect(paid.at(-1)).toBe('3 wrong');
  await finish(program);
});

test('many at once: orders at the same time, each with its lines in order, and an end that waits for handlers', async () => {
  await using database = await createDatabase();
  await database.query(
    'CREATE TABLE orders (id int PRIMARY KEY, status text); CREATE TABLE lines (order_id int, n int, amount numeric, PRIMARY KEY (order_id, n))',
  );
  const orderOf = ({ location, key }: ChangeEvent) => key![location === 'orders' ? 'id' : 'order_id']!;
  const open = new Set<string>();
  const seen = new Map<string, string[]>();
  let release = () => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  let together = 0;
  const shop = await startService(async (event: ChangeEvent) => {
    const order = orderOf(event);
    expect(open).not.toContain(order);
    open.add(order);
    together = Math.max(together, open.size);
    await released;
    open.delete(order);
    seen.set(order, [...(seen.get(order) ?? []), `${event.operation} ${event.location} ${event.id}`]);
    return 204;
  });
  const program = await start(database, 'processing/at-once.ts', 'shop', shop);
  await database.query(`DO $$ BEGIN FOR o IN 1..40 LOOP
    INSERT INTO orders VALUES (o, 'new');
    INSERT INTO lines VALUES (o, 1, 10), (o, 2, 20);
    UPDATE orders SET status = 'paid' WHERE id = o;
  END LOOP; END $$`);
  await until(
    () => open.size === 32,
    30_000,
    () => program.output(),
  );
  program.signal('SIGTERM');
  release();
  expect(await program.exited, program.output()).toEqual({ code: 0, signal: null });
  expect(together).toBe(32);

  const second = await start(database, 'processing/at-once.ts', 'shop', shop);
  await until(
    async () => (await unacknowledged(database, 'shop')) === 0,
    30_000,
    () => second.output(),
  );
  await finish(second);
  expect(seen.size).toBe(40);
  for (const [order, events] of seen)
    expect(events).toEqual([
      `create orders ${order}`,
      `create lines ["${order}","1"]`,
      `create lines ["${order}","2"]`,
      `update orders ${order}`,
    ]);
});

/** Answers each request, a JSON text, with the status that `respond` returns. Returns the URL. */
async function startService<Body>(respond: (body: Body) => number | Promise<number>): Promise<string> {
  const server = createServer((request, response) => void answer(request, response));
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body: Body = JSON.parse((await request.toArray()).join(''));
    response.writeHead(await respond(body)).end();
  }
  onTestFinished(() => (server.closeAllConnections(), void server.close()));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

/** Starts a program, and waits until it is active. */
async function start(database: TestDatabase, file: string, input: string, service: string) {
  const url = new URL(database.url);
  url.searchParams.set('connect_timeout', '15');
  const program = spawnNode<never>(new URL(`../../examples/${file}`, import.meta.url), {
    args: [url.href, service],
  });
  onTestFinished(() => program[Symbol.asyncDispose]());
  const lock = `postgres_input.lock_postgres_input_${input}`;
  const isActive = async () => {
    const [made] = await database.query('SELECT to_regclass($1) AS name', [lock]);
    return made.name !== null && (await database.query(`SELECT holder FROM ${lock}`))[0].holder !== null;
  };
  await until(isActive, 60_000, () => program.output());
  return program;
}

async function finish(program: NodeProcess<never>): Promise<void> {
  program.signal('SIGTERM');
  expect(await program.exited, program.output()).toEqual({ code: 0, signal: null });
}

const unacknowledged = async (database: TestDatabase, input: string): Promise<number> =>
  (await database.query(`SELECT FROM postgres_input.log_postgres_input_${input}`)).length;

/** Runs a command as a shell would. Returns what it prints. */
async function command(database: TestDatabase, ...args: string[]): Promise<string> {
  const child = spawnNode(new URL('../../src/cli.ts', import.meta.url), {
    args,
    env: { DATABASE_DSN: database.url },
  });
  expect(await child.exited, child.output()).toEqual({ code: 0, signal: null });
  return child.output();
}
