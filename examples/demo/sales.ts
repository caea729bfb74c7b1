/**
 * The application: a shop that takes, ships and cancels orders. It knows nothing of the package. Its own account of
 * what it has committed comes from what PostgreSQL returns for its statements, and is what the demo compares with.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Operation } from 'dapper-postgres-input';
import pg from 'pg';
import type { Database } from './database.ts';

/** A change that the application committed: which row of which table, and what was done to it. `read`: the row was there before. */
export interface Written {
  readonly table: string;
  readonly id: string;
  readonly operation: Operation;
}

/** How many people take orders at the same time. */
const CLERKS = 3;
/** How many customers the shop had before anybody watched it. */
const OLD_CUSTOMERS = 500;

export class Sales {
  /** Every committed change. Those of one row are in the order in which they were made. */
  readonly written: Written[] = [];
  rolledBack = 0;
  readonly #pool: pg.Pool;
  readonly #schema: string;
  readonly #closing = new AbortController();
  #clerks: Promise<unknown> = Promise.resolve();

  private constructor(pool: pg.Pool, schema: string, old: readonly { readonly id: string }[]) {
    this.#pool = pool;
    this.#schema = schema;
    this.written.push(...old.map(({ id }) => ({ table: 'customers', id, operation: 'read' as const })));
  }

  static async create({ connection, schema }: Database): Promise<Sales> {
    const pool = new pg.Pool({ ...connection, max: CLERKS + 1 });
    await pool.query(`
      CREATE SCHEMA ${schema};
      SET LOCAL search_path = ${schema};
      CREATE TABLE customers (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text, newsletter boolean);
      CREATE TABLE orders (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer_id bigint REFERENCES customers, status text);
      CREATE TABLE order_lines (order_id uuid REFERENCES orders ON DELETE CASCADE, position int, quantity int,
                                PRIMARY KEY (order_id, position))`);
    const { rows } = await pool.query<{ id: string }>(
      `INSERT INTO ${schema}.customers (name) SELECT 'old customer ' || n FROM generate_series(1, ${OLD_CUSTOMERS}) n RETURNING id`,
    );
    return new Sales(pool, schema, rows);
  }

  open(): void {
    this.#clerks = Promise.all(Array.from({ length: CLERKS }, () => this.#takeOrders()));
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#clerks;
  }

  /** One statement that inserts that many rows. Returns their ids. */
  importCustomers(count: number): Promise<string[]> {
    return this.#transaction(async (run) => {
      const names = `SELECT 'customer ' || n FROM generate_series(1, ${count}) n`;
      return run('create', 'customers', `INSERT INTO customers (name) ${names} RETURNING id`);
    });
  }

  /** One statement that updates all those rows. */
  addToNewsletter(customers: string[]): Promise<string[]> {
    return this.#transaction((run) =>
      run('update', 'customers', 'UPDATE customers SET newsletter = true WHERE id = ANY ($1) RETURNING id', [
        customers,
      ]),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
    await this.#pool.end();
  }

  /** One clerk, who touches no orders but their own. */
  async #takeOrders(): Promise<void> {
    const orders: string[] = [];
    for (let turn = 1; !this.#closing.signal.aborted; turn++) {
      if (turn % 11 === 0) await this.#transaction((run) => placeOrder(run), 'ROLLBACK');
      else if (turn % 7 === 0) await this.#transaction((run) => cancelOrder(run, orders.shift()!));
      else if (turn % 3 === 0) await this.#transaction((run) => shipOrder(run, orders.at(-1)!));
      else orders.push(await this.#transaction(placeOrder));
      await delay(40 + Math.random() * 80, undefined, { signal: this.#closing.signal }).catch(() => {});
    }
  }

  /** What `work` changes is written down once it is committed. */
  async #transaction<Result>(
    work: (run: Run) => Promise<Result>,
    end: 'COMMIT' | 'ROLLBACK' = 'COMMIT',
  ): Promise<Result> {
    const client = await this.#pool.connect();
    try {
      const changes: Written[] = [];
      await client.query(`BEGIN; SET LOCAL search_path = ${this.#schema}`);
      const result = await work(async (operation, table, sql, values = []) => {
        const { rows } = await client.query<string[]>({ text: sql, values, rowMode: 'array' });
        // A key of several columns is compared as a JSON array, because that is what the events show.
        const ids = rows.map((key) => (key.length === 1 ? String(key[0]) : JSON.stringify(key.map(String))));
        changes.push(...ids.map((id) => ({ table, id, operation })));
        return ids;
      });
      await client.query(end);
      if (end === 'COMMIT') this.written.push(...changes);
      else this.rolledBack++;
      return result;
    } finally {
      client.release();
    }
  }
}

/** Runs a statement that returns the keys of the rows it has changed. */
type Run = (operation: Operation, table: string, sql: string, values?: unknown[]) => Promise<string[]>;

async function placeOrder(run: Run): Promise<string> {
  const [customer] = await run(
    'create',
    'customers',
    `INSERT INTO customers (name) VALUES ('new') RETURNING id`,
  );
  const insertOrder = `INSERT INTO orders (customer_id, status) VALUES ($1, 'new') RETURNING id`;
  const [order] = await run('create', 'orders', insertOrder, [customer]);
  const insertLines = `INSERT INTO order_lines SELECT $1, n, 1 FROM generate_series(1, 3) n RETURNING order_id, position`;
  await run('create', 'order_lines', insertLines, [order]);
  return order!;
}

async function shipOrder(run: Run, order: string): Promise<void> {
  const turn = (status: string) =>
    run('update', 'orders', 'UPDATE orders SET status = $2 WHERE id = $1 RETURNING id', [order, status]);
  await turn('paid');
  await turn('shipped'); // twice in one transaction: two events
}

async function cancelOrder(run: Run, order: string): Promise<void> {
  // The lines go with their order, by ON DELETE CASCADE: who they are has to be asked before.
  await run('delete', 'order_lines', 'SELECT order_id, position FROM order_lines WHERE order_id = $1', [
    order,
  ]);
  await run('delete', 'orders', 'DELETE FROM orders WHERE id = $1 RETURNING id', [order]);
}
