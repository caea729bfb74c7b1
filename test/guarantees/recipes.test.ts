/** The recipes of docs/recipes.md are the programs in examples/recipes, and do as the document says. */
import { once } from 'node:events';
import { readFile, readdir } from 'node:fs/promises';
import { type IncomingMessage, type ServerResponse, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { connections } from '../support/setup-inputs.ts';
import { setupProgram } from '../support/setup-program.ts';
import { until } from '../support/until.ts';

test('the document has the text of every program', async () => {
  const document = await readFile(new URL('../../docs/recipes.md', import.meta.url), 'utf8');
  const folder = new URL('../../examples/recipes/', import.meta.url);
  const files = await readdir(folder);
  const texts = await Promise.all(files.map((file) => readFile(new URL(file, folder), 'utf8')));
  const blocks = [...document.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, text]) => text);
  expect(new Set(blocks)).toEqual(new Set(texts));
  expect(blocks).toHaveLength(files.length);
});

const TITLE = `title text, body text`;

describe('the recipe for', { timeout: 120_000 }, () => {
  test('mails sends one when a status turns to shipped, and only then', async () => {
    const mailer = await startMailer();
    await using program = await setupProgram(
      { file: 'recipes/mail.ts', input: 'mail', args: [mailer.url] },
      'CREATE TABLE orders (id int PRIMARY KEY, email text, status text)',
    );
    const { database } = program;
    await database.query(
      `INSERT INTO orders SELECT n, n || '@example.org', 'new' FROM generate_series(1, 4) n`,
    );
    await database.query(`UPDATE orders SET status = 'paid'`);
    // By the time of the mail it is delivered.
    await database.query(`BEGIN; UPDATE orders SET status = 'shipped' WHERE id = 1;
      UPDATE orders SET status = 'delivered' WHERE id = 1; COMMIT`);
    await database.query(`UPDATE orders SET status = 'shipped' WHERE id = 2`);
    await database.query(`UPDATE orders SET email = 'new@example.org'`);
    await database.query(`UPDATE orders SET status = 'shipped'  WHERE id IN (2, 3)`);
    await database.query(`INSERT INTO orders VALUES (5, '5@example.org', 'shipped')`);
    await program.finish();
    expect(mailer.mails.toSorted((a, b) => a.text.localeCompare(b.text))).toEqual([
      { to: '1@example.org', text: 'Order 1 is on its way.' },
      { to: '2@example.org', text: 'Order 2 is on its way.' },
      { to: 'new@example.org', text: 'Order 3 is on its way.' },
    ]);
    expect(new Set(mailer.keys).size).toBe(3);
  });

  test('a search index keeps it in step with the rows, deletes included', async () => {
    await using program = await setupProgram(
      { file: 'recipes/search.ts', input: 'search' },
      `CREATE TABLE articles (id int PRIMARY KEY, ${TITLE}); INSERT INTO articles SELECT n, 'old', '' FROM generate_series(10001, 10300) n`,
    );
    const { database } = program;
    await database.query(
      `INSERT INTO articles SELECT n, 'gone', '' FROM generate_series(1, 10) n; DELETE FROM articles WHERE title = 'gone'`,
    );
    await database.query(
      `INSERT INTO articles SELECT n, 'title ' || n, 'body' FROM generate_series(1, 200) n`,
    );
    await database.query(`UPDATE articles SET title = upper(title) WHERE id % 2 = 0`);
    await database.query(`DELETE FROM articles WHERE id % 3 = 0`);
    await database.query(`UPDATE articles SET id = id + 1000 WHERE id % 5 = 0`);
    await database.query(`UPDATE articles SET body = repeat('long ', 300000) WHERE id = 1`);
    await database.query(`BEGIN; UPDATE articles SET title = 'never'; ROLLBACK`);
    const index = JSON.parse(await program.finish());
    const rows = await database.query('SELECT * FROM articles ORDER BY id');
    expect(rows.length).toBeGreaterThan(100);
    expect(index.toSorted((a: { id: number }, b: { id: number }) => a.id - b.id)).toEqual(rows);
  });

  test('an audit trail has the old and the new values, and who changed them', async () => {
    await using program = await setupProgram(
      { file: 'recipes/audit.ts', input: 'audit' },
      `CREATE TABLE prices (id int PRIMARY KEY, amount numeric, currency text);
       CREATE TABLE audit (sequence text, at timestamptz, actor text, reason jsonb, operation text, location text, id text, old jsonb,
         new jsonb, missing text)`,
    );
    const { database } = program;
    await database.query(`INSERT INTO prices VALUES (1, 1.50, 'EUR')`);
    await database.query(`BEGIN; SELECT set_config('postgres_input.origin', 'ada', true),
      set_config('postgres_input.context', '{"ticket": 7}', true);
      UPDATE prices SET amount = 1.75; COMMIT`);
    await database.query('DELETE FROM prices');
    await program.finish();
    const trail = await database.query(
      'SELECT actor, reason, operation, location, id, old, new, missing FROM audit ORDER BY at',
    );
    const of = { location: 'prices', id: '1', missing: null };
    const nobody = { actor: null, reason: null };
    expect(trail).toEqual([
      { ...of, ...nobody, operation: 'create', old: null, new: { id: 1, amount: '1.50', currency: 'EUR' } },
      {
        ...of,
        actor: 'ada',
        reason: { ticket: 7 },
        operation: 'update',
        old: { amount: '1.50' },
        new: { amount: '1.75' },
      },
      { ...of, ...nobody, operation: 'delete', old: { id: 1, amount: '1.75', currency: 'EUR' }, new: null },
    ]);
  });

  test('a handler that updates its own row ends no loop', async () => {
    await using program = await setupProgram(
      { file: 'recipes/slugs.ts', input: 'slugs' },
      `CREATE TABLE articles (id int PRIMARY KEY, title text, slug text, updates int DEFAULT 0);
       CREATE FUNCTION count_update() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updates = OLD.updates + 1; RETURN NEW; END $$;
       CREATE TRIGGER count_update BEFORE UPDATE ON articles FOR EACH ROW EXECUTE FUNCTION count_update()`,
    );
    const { database } = program;
    await database.query(`INSERT INTO articles VALUES (1, 'Hello, World'), (2, 'Zwei'), (3, 'Gone')`);
    await database.query(
      `UPDATE articles SET title = 'Second Title' WHERE id = 2; DELETE FROM articles WHERE id = 3`,
    );
    await program.finish();
    expect(await database.query('SELECT id, slug, updates FROM articles ORDER BY id')).toEqual([
      { id: 1, slug: 'hello-world', updates: 1 },
      { id: 2, slug: 'second-title', updates: 3 },
    ]);
  });

  test('totals in another table counts every payment exactly once, although the program is killed', async () => {
    await using program = await setupProgram(
      { file: 'recipes/totals.ts', input: 'totals' },
      `CREATE TABLE payments (id int PRIMARY KEY, customer int, amount numeric);
       CREATE TABLE totals (customer int PRIMARY KEY, total numeric)`,
    );
    const { database, first } = program;
    // The program is killed when it has added an amount and can't acknowledge. With ack(event, client) its transaction waits; without, the amount is there.
    const [tables, log] = [await database.client(), await database.client()];
    await tables.query('BEGIN; LOCK TABLE totals IN SHARE MODE');
    await database.query('INSERT INTO payments VALUES (81, 1, 1000)');
    await log.query('BEGIN; SELECT FROM postgres_input.log_postgres_input_totals FOR UPDATE');
    await tables.query('COMMIT');
    await until(async () => {
      const [row] = await database.query(
        `SELECT EXISTS (SELECT FROM totals) OR EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%log_postgres_input_totals%'
           AND application_name NOT LIKE 'dapper%' AND wait_event_type = 'Lock') AS "isThere"`,
      );
      return row.isThere;
    }, 30_000);
    first.signal('SIGKILL');
    await first.exited;
    // A statement of the dead node must not get the lock after all.
    await until(async () => (await connections(database)) === 0);
    await log.query('COMMIT');
    await database.query('INSERT INTO payments SELECT n, n % 7, n / 100.0 FROM generate_series(1, 80) n');
    await database.query('UPDATE payments SET customer = 1, amount = -amount WHERE id <= 10');
    await database.query('DELETE FROM payments WHERE id > 60');
    await program.finish(program.start());
    expect(await database.query('SELECT * FROM totals ORDER BY customer')).toEqual(
      await database.query(
        'SELECT customer, sum(amount)::numeric AS total FROM payments GROUP BY customer ORDER BY customer',
      ),
    );
  });
});

interface Mail {
  readonly to: string;
  readonly text: string;
}

/** Refuses the first request. */
async function startMailer() {
  const mails: Mail[] = [];
  let refused = 0;
  const keys: unknown[] = [];
  const server = createServer((request, response) => void receive(request, response));
  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const mail: Mail = JSON.parse((await request.toArray()).join(''));
    const isRefused = mails.length === 0 && refused++ === 0;
    if (!isRefused) {
      mails.push(mail);
      keys.push(request.headers['idempotency-key']);
    }
    response.writeHead(isRefused ? 503 : 204).end();
  }
  onTestFinished(() => void server.close());
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return { mails, keys, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/` };
}
