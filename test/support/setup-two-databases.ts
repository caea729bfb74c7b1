/** Compares a watched database with one that is not: for tests that the application notices nothing. README.md here compares the setups. */
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { expect } from 'vitest';
import { type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { createDatabase, type TestDatabase } from './database.ts';

/**
 * Two databases with the same history; an input watches one. Every statement runs in both and must have the same outcome in
 * both, and the input must deliver exactly the events of the statement.
 */
export interface TwoDatabasesFixture extends AsyncDisposable {
  readonly watched: TestDatabase;
  readonly plain: TestDatabase;
  readonly input: PostgresInput;
  /** Runs SQL in both, in a session that is kept; returns the error's message, or null. */
  run(sql: string): Promise<string | null>;
  /** Does something to both, which must come out the same, or fail with the same message. */
  both<Result>(work: (database: TestDatabase) => Promise<Result>): Promise<Result>;
  /** These tables are watched: new ones are after a moment. */
  untilWatched(...tables: string[]): Promise<void>;
  /** Skips the events up to now: whether writes to a table that has just been made are told is a matter of luck. */
  drain(): Promise<void>;
  /** The next events, as `location operation id`, sorted: between tables there is no order. */
  events(count: number): Promise<string[]>;
  /** All that the tables, the materialized views and the sequences hold is the same in both. */
  expectSameContents(): Promise<void>;
  /** No event is left over. */
  expectNoMore(): Promise<void>;
}

const PATIENCE = 20_000;

export async function setupTwoDatabases(script: string): Promise<TwoDatabasesFixture> {
  const [watched, plain] = await Promise.all([createDatabase(), createDatabase()]);
  const [ourClient, theirClient] = await Promise.all([watched.client(), plain.client()]);
  for (const client of [ourClient, theirClient])
    await client.query(`${script}; CREATE TABLE the_end (id int PRIMARY KEY)`);

  const config = { name: 'twin', type: 'postgres', connectionString: watched.url };
  const input = await newPostgresInput(config, { connectTimeout: 10_000, discoveryInterval: 100 });
  const iterator = input.handle();
  let next = iterator.next();
  next.catch(() => {}); // told to whoever asks for it
  await new Promise<void>((resolve) => void input.once('active', () => resolve()));

  async function event(): Promise<string> {
    const late = new AbortController();
    const { value } = await Promise.race([
      next,
      delay(PATIENCE, undefined, { signal: late.signal }).then(() => ({ value: null })),
    ]);
    late.abort();
    if (!value) return 'no event';
    next = iterator.next();
    next.catch(() => {});
    return `${value.location} ${value.operation} ${value.id}`;
  }

  const fixture: TwoDatabasesFixture = {
    watched,
    plain,
    input,
    async run(sql) {
      const [ours, theirs] = await Promise.all([outcome(ourClient, sql), outcome(theirClient, sql)]);
      expect(ours, sql).toEqual(theirs);
      return theirs.error?.message ?? null;
    },
    async both(work) {
      const [ours, theirs] = [await settled(work(watched)), await settled(work(plain))];
      expect(ours).toEqual(theirs);
      if ('error' in theirs) throw new Error(theirs.error);
      return theirs.result;
    },
    untilWatched: (...tables) =>
      expect
        .poll(async () => (await input.status()).watched, { timeout: PATIENCE })
        .toEqual(expect.arrayContaining(tables)),
    async drain() {
      await fixture.run('DELETE FROM the_end; INSERT INTO the_end VALUES (2)');
      while (!['the_end create 2', 'no event'].includes(await event()));
    },
    async events(count) {
      const events: string[] = [];
      while (events.length < count && events.at(-1) !== 'no event') events.push(await event());
      return events.toSorted();
    },
    async expectSameContents() {
      const [ours, theirs] = await Promise.all([contents(watched), contents(plain)]);
      expect(ours).toEqual(theirs);
    },
    async expectNoMore() {
      await fixture.run('INSERT INTO the_end VALUES (1); DELETE FROM the_end WHERE id = 1');
      expect(await fixture.events(2)).toEqual(['the_end create 1', 'the_end delete 1']);
    },
    async [Symbol.asyncDispose]() {
      await input[Symbol.asyncDispose]();
      await Promise.all([watched[Symbol.asyncDispose](), plain[Symbol.asyncDispose]()]);
    },
  };
  return fixture;
}

const settled = <Result>(work: Promise<Result>) =>
  work.then(
    (result) => ({ result }),
    (error: Error) => ({ error: error.message }),
  );

/** What an application gets to see of a statement. */
interface Outcome {
  readonly results?: Pick<pg.QueryResult, 'command' | 'rowCount' | 'rows'>[];
  readonly error?: Pick<pg.DatabaseError, 'message' | 'code' | 'detail' | 'constraint' | 'table'>;
}

async function outcome(client: pg.Client, sql: string): Promise<Outcome> {
  try {
    const results = [await client.query(sql)].flat();
    return { results: results.map(({ command, rowCount, rows }) => ({ command, rowCount, rows })) };
  } catch (cause) {
    const { message, code, detail, constraint, table } = cause as pg.DatabaseError;
    return { error: { message, code, detail, constraint, table } };
  }
}

/** Less the times that the clock wrote. */
async function contents(database: TestDatabase): Promise<Record<string, unknown>> {
  const relations = await database.query<{ name: string; sql: string; kind: string }>(
    `SELECT relname AS name, format('%I', relname) AS sql, relkind AS kind FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'm', 'S')`,
  );
  const found: Record<string, unknown> = {};
  for (const { name, sql, kind } of relations) {
    found[name] = await database.query(
      kind === 'S'
        ? `SELECT last_value, is_called FROM ${sql}`
        : `SELECT to_jsonb(r) - '{last_update,create_date,created_at,updated_at,deleted_at,migration_time}'::text[] AS row FROM ${sql} r ORDER BY 1`,
    );
  }
  return found;
}
