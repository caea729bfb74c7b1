import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { PATIENT } from '../support/consumer.ts';
import { spawnNode } from '../support/processes.ts';
import { type Server, startServer } from '../support/server.ts';
import type { DrainTask, Drained } from './backlog/consumer.ts';
import type { HeavyDrained, HeavyTask } from './backlog/heavy.ts';

/** Each becomes four changes. */
const rows = Number(process.env['BACKLOG_ROWS'] ?? 5000);
const slow = Math.min(10_000, rows / 5);

let server: Server;
let application: pg.Client;

beforeAll(async () => {
  server = await startServer();
  application = new pg.Client({ connectionString: server.url() });
  await application.connect();
  await application.query('CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0)');
  const config = { name: 'backlog', type: 'postgres', connectionString: server.url() };
  const input = await newPostgresInput(config, PATIENT);
  const installed = new Promise((resolve) => input.once('active', resolve));
  input.handle();
  await installed;
  await input.close();
});
afterAll(async () => {
  await application.end();
  await server[Symbol.asyncDispose]();
});

/** Every row is inserted, updated twice and deleted, its changes far apart. */
async function writeBacklog(): Promise<void> {
  for (const statement of [
    'INSERT INTO t SELECT generate_series($1::int, $2::int)',
    'UPDATE t SET v = 1 WHERE id BETWEEN $1::int AND $2::int',
    'UPDATE t SET v = 2 WHERE id BETWEEN $1::int AND $2::int',
    'DELETE FROM t WHERE id BETWEEN $1::int AND $2::int',
  ]) {
    for (let first = 1; first <= rows; first += 1000) {
      await application.query(statement, [first, Math.min(first + 999, rows)]);
    }
  }
}

async function drain(): Promise<Drained> {
  const task: DrainTask = { url: server.url(), rows, slow };
  await using consumer = spawnNode<Drained>(new URL('./backlog/consumer.ts', import.meta.url), {
    args: [JSON.stringify(task)],
  });
  return await consumer.waitFor(() => true, 600_000);
}

const complete = { events: rows * 4, outOfTurn: 0, finished: rows };

test(`drains ${rows * 4} changes in order, none left out, also under an old snapshot`, async () => {
  await writeBacklog();
  const freely = await drain();
  expect(freely).toMatchObject(complete);

  await writeBacklog();
  // As pg_dump does: what is deleted from now on can't be vacuumed.
  const dump = new pg.Client({ connectionString: server.url() });
  await dump.connect();
  await dump.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM t');
  const underSnapshot = await drain();
  await dump.end();
  expect(underSnapshot).toMatchObject(complete);

  // Speed and memory are for a person to compare: a machine that has other things to do would spoil any limit.
  console.info({ freely, underSnapshot });
}, 1_200_000);

test('needs no more memory for long ids: what waits is bounded by bytes', async () => {
  const [ids, length] = [5000, 100_000];
  // A page and a queue of so many changes would be half a gigabyte.
  await application.query(`
    INSERT INTO postgres_input.log_postgres_input_backlog (at, tbl, id, op)
    SELECT now(), 't', left(repeat(md5(n::text), ${length / 32 + 1}), ${length}), 'INSERT' FROM generate_series(1, ${ids}) n`);
  const task: HeavyTask = { url: server.url(), events: ids, slow: 300 };
  await using consumer = spawnNode<HeavyDrained>(new URL('./backlog/heavy.ts', import.meta.url), {
    args: [JSON.stringify(task)],
  });
  const { characters, rssGrowth } = await consumer.waitFor(() => true, 600_000);
  expect(characters).toBe(ids * length);
  expect(rssGrowth).toBeLessThan(200_000_000);
  console.info({ rssGrowth });
}, 600_000);

test('needs no more memory for rows: what waits is bounded by bytes', async () => {
  const events = rows < 100_000 ? 10_000 : 100_000;
  const length = 10_000;
  await application.query(`
    CREATE TABLE IF NOT EXISTS postgres_input.shape_postgres_input_backlog (name text PRIMARY KEY, columns jsonb NOT NULL);
    INSERT INTO postgres_input.shape_postgres_input_backlog VALUES ('t-1', '[["id", 23], ["text", 25]]')`);
  await application.query(`
    INSERT INTO postgres_input.log_postgres_input_backlog (at, tbl, id, op, key, after, shape)
    SELECT now(), 't', n::text, 'INSERT', '"id" ', concat(ROW(n, left(repeat(md5(n::text), ${Math.ceil(length / 32)}), ${length}))), 't-1'
    FROM generate_series(1, ${events}) n`);
  const task: HeavyTask = { url: server.url(), events, slow: 2000, rows: true };
  await using consumer = spawnNode<HeavyDrained>(new URL('./backlog/heavy.ts', import.meta.url), {
    args: [JSON.stringify(task)],
  });
  const { characters, rssGrowth } = await consumer.waitFor(() => true, 600_000);
  expect(characters).toBe(events * length);
  expect(rssGrowth).toBeLessThan(100_000_000);
  console.info({ rssGrowth });
}, 600_000);
