/** Takes a whole input, with its nodes: for tests of what an application sees. README.md here compares the setups. */
import { inject } from 'vitest';
import {
  type Operation,
  type PostgresInput,
  type PostgresInputOptions,
  newPostgresInput,
} from '../../src/index.ts';
import { PATIENT } from './consumer.ts';
import { type TestDatabase, createDatabase } from './database.ts';
import { until } from './until.ts';

export interface InputsFixture extends AsyncDisposable {
  readonly database: TestDatabase;
  /** An input on the database; closed with the fixture. */
  input(
    options?: PostgresInputOptions,
    config?: { name?: string; url?: string; operations?: Operation[] },
  ): Promise<PostgresInput>;
}

/** A database with a table `items (id, value)`, and inputs named `test-input` on it. */
export async function setupInputs(adminUrl: string = inject('adminUrl')): Promise<InputsFixture> {
  const database = await createDatabase(adminUrl);
  const inputs: PostgresInput[] = [];
  await database.query('CREATE TABLE items (id int PRIMARY KEY, value int)');
  return {
    database,
    async input(options = {}, { name = 'test-input', url = database.url, operations } = {}) {
      const config = { name, type: 'postgres', connectionString: url, ...(operations && { operations }) };
      const input = await newPostgresInput(config, { ...PATIENT, ...options });
      inputs.push(input);
      return input;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(inputs.map((input) => input[Symbol.asyncDispose]()));
      await database[Symbol.asyncDispose]();
    },
  };
}

/** How many connections the inputs of this database have. */
export async function connections(database: TestDatabase): Promise<number> {
  const [row] = await database.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'dapper-postgres-input%'`,
  );
  return row!.n;
}

/**
 * Waits until the queue of the active node has no room for a page. While the reader is awake and has room, the control session gets a
 * statement every 50 ms at least.
 */
export const untilQueueIsFull = (database: TestDatabase): Promise<void> =>
  until(async () => {
    const still = await database.query(
      `SELECT FROM pg_stat_activity WHERE state = 'idle' AND clock_timestamp() - state_change > interval '200 ms'
       AND pid = (SELECT backend_pid FROM postgres_input.lock_postgres_input_test_input)`,
    );
    return still.length > 0;
  });
