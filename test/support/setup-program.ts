/** Runs a program of examples/ on a database, as a user of the package would. README.md here compares the setups. */
import { expect, onTestFinished } from 'vitest';
import { type TestDatabase, createDatabase } from './database.ts';
import { type NodeProcess, spawnNode } from './processes.ts';
import { until } from './until.ts';

export interface ProgramFixture extends AsyncDisposable {
  readonly database: TestDatabase;
  /** Starts the program once more. */
  start(): NodeProcess<never>;
  /** The process that was started first. When the fixture is there, the program is active. */
  readonly first: NodeProcess<never>;
  /** Waits until every change is acknowledged, and ends the program. Returns what it has printed. */
  finish(program?: NodeProcess<never>): Promise<string>;
}

/** A database with the tables of `ddl`, and the program, whose input is named `input`. It gets the database's URL as its first argument. */
export async function setupProgram(
  { file, input, args = [] }: { file: string; input: string; args?: string[] },
  ddl: string,
): Promise<ProgramFixture> {
  const database = await createDatabase();
  await database.query(ddl);
  const patient = new URL(database.url);
  patient.searchParams.set('connect_timeout', '15');
  const start = () => {
    const path = new URL(`../../examples/${file}`, import.meta.url);
    const program = spawnNode<never>(path, { args: [patient.href, ...args] });
    onTestFinished(() => program[Symbol.asyncDispose]());
    return program;
  };
  const first = start();
  await until(
    () => isActive(database, input),
    60_000,
    () => first.output(),
  );
  return {
    database,
    start,
    first,
    async finish(program = first) {
      const unacknowledged = () =>
        database.query(
          `SELECT FROM postgres_input.log_postgres_input_${input}
           UNION ALL SELECT FROM postgres_input.backfill_postgres_input_${input} WHERE state NOT IN ('done', 'cancelled')`,
        );
      await until(
        async () => (await unacknowledged()).length === 0,
        90_000,
        () => program.output(),
      );
      program.signal('SIGTERM');
      expect(await program.exited, program.output()).toEqual({ code: 0, signal: null });
      return program.output();
    },
    [Symbol.asyncDispose]: () => database[Symbol.asyncDispose](),
  };
}

async function isActive(database: TestDatabase, input: string): Promise<boolean> {
  const lock = `postgres_input.lock_postgres_input_${input}`;
  const [made] = await database.query('SELECT to_regclass($1) AS name', [lock]);
  if (made.name === null) return false;
  const [row] = await database.query(`SELECT holder FROM ${lock}`);
  return row.holder !== null;
}
