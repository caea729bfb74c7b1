/** The programs of README.md and docs/getting-started.md are those of examples/getting-started, and do as the documents say. */
import { readFile, readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { setupProgram } from '../support/setup-program.ts';
import { until } from '../support/until.ts';

const ORDERS = `CREATE TABLE orders (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, email text, status text)`;
const FOLDER = 'examples/getting-started';

const read = (path: string) => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');
const programsIn = (document: string) =>
  [...document.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, text]) => text);

test('the documents have the text of the programs', async () => {
  const files = await readdir(new URL(`../../${FOLDER}`, import.meta.url));
  const texts = await Promise.all(files.map((file) => read(`${FOLDER}/${file}`)));
  expect(new Set(programsIn(await read('docs/getting-started.md')))).toEqual(new Set(texts));
  expect(programsIn(await read('README.md'))).toEqual([await read(`${FOLDER}/rows.ts`)]);
});

describe('the program', { timeout: 120_000 }, () => {
  test('that watches prints every change', async () => {
    await using program = await setupProgram({ file: 'getting-started/watch.ts', input: 'sales' }, ORDERS);
    await program.database.query(`INSERT INTO orders (email, status) VALUES ('a@example.org', 'new')`);
    await program.database.query(`DELETE FROM orders`);
    expect(await program.finish()).toBe('create orders 1\ndelete orders 1\n');
  });

  test('with rows prints the status before and after', async () => {
    await using program = await setupProgram({ file: 'getting-started/rows.ts', input: 'sales' }, ORDERS);
    await program.database.query(`INSERT INTO orders (email, status) VALUES ('a@example.org', 'paid')`);
    await program.database.query(`UPDATE orders SET status = 'shipped'`);
    expect(await program.finish()).toBe('create 1 undefined -> paid\nupdate 1 paid -> shipped\n');
  });

  test('with a transaction makes one shipment for each order, also when a node is killed', async () => {
    await using program = await setupProgram(
      { file: 'getting-started/once.ts', input: 'shipping' },
      `${ORDERS}; CREATE TABLE shipments (order_id int)`,
    );
    const { database, first } = program;
    const shipments = async () => Number((await database.query('SELECT count(*) FROM shipments'))[0].count);
    const second = program.start();
    await database.query(`INSERT INTO orders (status) SELECT 'new' FROM generate_series(1, 300)`);
    await until(async () => (await shipments()) > 50);
    first.signal('SIGKILL');
    await first.exited;
    await program.finish(second);
    const [row] = await database.query(
      'SELECT count(*) AS all, count(DISTINCT order_id) AS different FROM shipments',
    );
    expect(row).toEqual({ all: '300', different: '300' });
  });
});
