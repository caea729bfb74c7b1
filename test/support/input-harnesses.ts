/** The same table on a database and in memory, for tests of what an input promises over either. README.md here compares the setups. */
import pg from 'pg';
import {
  type InputConfig,
  type PostgresInput,
  type PostgresInputOptions,
  newPostgresInput,
} from '../../src/index.ts';
import { type TestInput, newTestInput } from '../../src/testing.ts';
import { PATIENT } from './consumer.ts';
import { createDatabase } from './database.ts';
import { until } from './until.ts';

export interface Item {
  id: number;
  n: number;
}
export interface Tables {
  items: Item;
}

/** A table `items (id, n)`, and one input, which is not handled yet. */
export interface InputHarness extends AsyncDisposable {
  readonly input: PostgresInput<Tables>;
  create(id: number, n?: number): Promise<void>;
  update(id: number, n: number): Promise<void>;
  remove(id: number): Promise<void>;
  truncate(): Promise<void>;
  /** Gives `task` a client in a transaction, which is committed afterwards. */
  transaction(task: (client: pg.ClientBase) => Promise<void>): Promise<void>;
  /** Lets the delays of retries pass, if they are at most 20 ms. */
  elapse(): Promise<void>;
  /** Another node claims the lease and dies. Resolves when the input is active again. */
  takeOver(): Promise<void>;
  /** Whether every change is acknowledged or parked. */
  isEmpty(): Promise<boolean>;
}

export interface HarnessOptions extends PostgresInputOptions {
  /** The ids of rows that are there before the input is. */
  existing?: number[];
}

/** Waits until the condition holds, while time passes. */
export const eventually = (harness: InputHarness, condition: () => unknown): Promise<void> =>
  until(
    async () => {
      await harness.elapse();
      return condition();
    },
    undefined,
    () => String(condition),
  );

const CONFIG: InputConfig = {
  name: 'contract',
  type: 'postgres',
  connectionString: 'postgres://user@localhost/db',
};

async function inMemory({ existing = [], ...options }: HarnessOptions): Promise<InputHarness> {
  const input: TestInput<Tables> = await newTestInput<Tables>(CONFIG, {
    ...options,
    existingRows: { items: existing.map((id) => ({ id, n: 0 })) },
  });
  const rows = new Map(existing.map((id) => [id, { id, n: 0 }]));
  const location = 'items';
  return {
    input,
    async create(id, n = 0) {
      rows.set(id, { id, n });
      input.emit({ location, operation: 'create', after: { id, n } });
    },
    async update(id, n) {
      const before = rows.get(id)!;
      rows.set(id, { id, n });
      input.emit({ location, operation: 'update', before, after: { id, n } });
    },
    async remove(id) {
      input.emit({ location, operation: 'delete', before: rows.get(id)! });
      rows.delete(id);
    },
    async truncate() {
      rows.clear();
      input.emit({ location, operation: 'delete', id: '*' });
    },
    transaction: (task) => task({} as pg.ClientBase),
    elapse: () => input.advance(20),
    takeOver: () => input.takeover(),
    isEmpty: async () => (await input.status()).backlog === 0,
    [Symbol.asyncDispose]: () => input[Symbol.asyncDispose](),
  };
}

async function onDatabase({ existing = [], ...options }: HarnessOptions): Promise<InputHarness> {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY, n int NOT NULL)');
  for (const id of existing) await database.query('INSERT INTO items VALUES ($1, 0)', [id]);
  const input = await newPostgresInput<Tables>(
    { ...CONFIG, connectionString: database.url },
    { ...PATIENT, rows: 'both', lease: { renewInterval: 250, pollInterval: 20 }, ...options },
  );
  // What is not watched yet is not logged.
  const watched = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  const query = async (text: string, values: unknown[] = []) => {
    await watched;
    await database.query(text, values);
  };
  return {
    input,
    create: (id, n = 0) => query('INSERT INTO items VALUES ($1, $2)', [id, n]),
    update: (id, n) => query('UPDATE items SET n = $2 WHERE id = $1', [id, n]),
    remove: (id) => query('DELETE FROM items WHERE id = $1', [id]),
    truncate: () => query('TRUNCATE items'),
    async transaction(task) {
      const client = new pg.Client(database.url);
      await client.connect();
      try {
        await client.query('BEGIN');
        await task(client);
        await client.query('COMMIT');
      } finally {
        await client.end();
      }
    },
    elapse: async () => {},
    async takeOver() {
      const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
      await database.query(
        `UPDATE postgres_input.lock_postgres_input_contract SET holder = 'another', token = token + 1, expires_at = clock_timestamp()`,
      );
      await active;
    },
    isEmpty: async () => (await input.status()).backlog === 0,
    async [Symbol.asyncDispose]() {
      await input[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    },
  };
}

export const HARNESSES = [
  { kind: 'in memory', setup: inMemory },
  { kind: 'on a database', setup: onDatabase },
];
