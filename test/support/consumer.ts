import { inject } from 'vitest';
import {
  type ChangeEvent,
  type HandleOptions,
  type PostgresInput,
  type PostgresInputOptions,
  newPostgresInput,
} from '../../src/index.ts';
import { type TestDatabase, createDatabase } from './database.ts';
import type { NodeSetup, Report } from './node.ts';
import { type NodeProcess, spawnNode } from './processes.ts';
import { until } from './until.ts';

export { until };

/** Whatever the machine is busy with, connecting is not what a test is about. */
export const PATIENT: PostgresInputOptions = { connectTimeout: 15_000 };

export interface Bench extends AsyncDisposable {
  readonly database: TestDatabase;
  /** An input on the database; closed with the bench. */
  input(options?: PostgresInputOptions, config?: { name?: string; url?: string }): Promise<PostgresInput>;
}

/** A database with a table `items (id, value)`, and inputs named `test-input` on it. */
export async function setup(adminUrl: string = inject('adminUrl')): Promise<Bench> {
  const database = await createDatabase(adminUrl);
  const inputs: PostgresInput[] = [];
  await database.query('CREATE TABLE items (id int PRIMARY KEY, value int)');
  return {
    database,
    async input(options = {}, { name = 'test-input', url = database.url } = {}) {
      const config = { name, type: 'postgres', connectionString: url };
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

export const spawnReplica = (setup: NodeSetup): NodeProcess<Report> =>
  spawnNode<Report>(new URL('node.ts', import.meta.url), { args: [JSON.stringify(setup)] });

export async function stopAll(replicas: readonly NodeProcess<Report>[]): Promise<void> {
  await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()));
}

/** Takes the events of an input as they come. */
export class Consumer {
  readonly events: ChangeEvent[] = [];
  /** How the iteration ended: with this error, or without. */
  readonly ended: Promise<unknown>;

  constructor(
    input: PostgresInput,
    options: HandleOptions = {},
    each: (event: ChangeEvent) => unknown = () => {},
  ) {
    const events = input.handle(options);
    this.ended = (async () => {
      try {
        for await (const event of events) {
          this.events.push(event);
          await each(event);
        }
        return undefined;
      } catch (error) {
        return error;
      }
    })();
  }

  /** Ids, in the order of arrival. */
  get ids(): string[] {
    return this.events.map(({ id }) => id);
  }

  /** Waits for so many events. */
  async count(count: number, timeoutMs?: number): Promise<void> {
    await until(
      () => this.events.length >= count,
      timeoutMs,
      () => `${this.events.length} of ${count} events`,
    );
  }
}

/** Resolves when the input is in that state. */
export const reaches = (input: PostgresInput, state: PostgresInput['state']): Promise<void> =>
  until(
    () => input.state === state,
    undefined,
    () => `${state}; it is ${input.state}`,
  );

/** Resolves with the next lifecycle event of that name; call it before what causes the event. */
export const once = (input: PostgresInput, name: 'asleep' | 'awake' | 'active' | 'standby'): Promise<void> =>
  new Promise((resolve) => void input.once(name, () => resolve()));

/** How many connections the inputs of this database have. */
export async function connections(database: TestDatabase): Promise<number> {
  const [row] = await database.query<{ n: number }>(
    `SELECT count(*)::int AS n FROM pg_stat_activity
     WHERE datname = current_database() AND application_name LIKE 'dapper-postgres-input%'`,
  );
  return row!.n;
}
