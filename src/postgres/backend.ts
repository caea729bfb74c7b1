/**
 * How the statements of a session reach a backend, with the session's settings in force there.
 *
 * A backend of the session's own keeps settings, prepared statements, locks and LISTEN from one statement to the next. A backend of a
 * pooler in transaction mode (pooled-backend.ts) is another client's after each transaction.
 */
import { once } from 'node:events';
import pg from 'pg';
import { type OnTexts, type Part, runBatch } from './batch.ts';
import { statementTimeout } from './session-settings.ts';
import { isConnectionError } from './sqlstates.ts';

/** SQL with a name, under which the server keeps it prepared for the session. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** A statement with its values. Without a name, the server does not keep it. */
export interface Query {
  readonly name?: string;
  readonly text: string;
  readonly values: unknown[];
}

/** `timeout`: the limit that the server is to have for the statement, in milliseconds. One call at a time. */
export interface Backend {
  ask(query: Query, timeout: number): Promise<unknown[]>;
  /** Gives each row to `onRow` as it arrives, as an array. */
  eachRow(query: Query, onRow: (row: unknown[]) => void, timeout: number): Promise<void>;
  /** Begins a transaction of several calls. The first of the statements is the BEGIN; all go in one round trip. */
  begin(statements: readonly string[], timeout: number): Promise<void>;
  /** Rolls back the transaction of {@link begin}, within the limit that is in force. */
  rollBack(): Promise<void>;
  /** Runs a transaction of which the first statement is the BEGIN, and rolls it back, in one round trip. The limit is for each statement. */
  batch(parts: readonly Part[], onRow: OnTexts, timeout: number): Promise<void>;
  /** Runs statements in one transaction, in one round trip. The limit is for all of them. */
  script(statements: readonly string[], timeout: number): Promise<void>;
}

export class OwnBackend implements Backend {
  readonly #client: pg.Client;
  /** The limit that the server has now; milliseconds. */
  #limit: number;
  /** The limit to which a rollback takes the server back. */
  #limitBefore: number;
  /** The statements of batches that the server keeps. */
  readonly #prepared = new Set<string>();

  constructor(client: pg.Client, limit: number) {
    this.#client = client;
    this.#limit = limit;
    this.#limitBefore = limit;
  }

  async ask(query: Query, timeout: number): Promise<unknown[]> {
    await this.#setLimit(timeout);
    return (await this.#client.query(query)).rows;
  }

  async eachRow(query: Query, onRow: (row: unknown[]) => void, timeout: number): Promise<void> {
    await this.#setLimit(timeout);
    await ended(this.#client, streaming(query, onRow));
  }

  async begin(statements: readonly string[], timeout: number): Promise<void> {
    await this.#setLimit(timeout);
    this.#limitBefore = timeout;
    await this.#client.query(statements.join(';\n'));
  }

  async rollBack(): Promise<void> {
    await this.#client.query('ROLLBACK');
    this.#limit = this.#limitBefore;
  }

  async batch(parts: readonly Part[], onRow: OnTexts, timeout: number): Promise<void> {
    await this.#setLimit(timeout);
    await runAndRollBack(this.#client, parts, onRow, this.#prepared);
  }

  async script(statements: readonly string[], timeout: number): Promise<void> {
    await this.#setLimit(timeout);
    await runScript(this.#client, ['BEGIN', ...statements]);
  }

  async #setLimit(timeout: number): Promise<void> {
    if (timeout === this.#limit) return;
    await this.#client.query(statementTimeout(timeout));
    this.#limit = timeout;
  }
}

/** A query that gives each row to `onRow`, which may not throw. */
export function streaming({ text, values, name }: Query, onRow: (row: unknown[]) => void): pg.Query {
  const query = new pg.Query({ text, values, name, rowMode: 'array' } as pg.QueryConfig);
  return query.on('row', (row: unknown) => onRow(row as unknown[]));
}

/** Resolves with the results of a query when it has ended. */
export async function ended(client: pg.Client, query: pg.Query): Promise<unknown> {
  client.query(query);
  const [results] = await once(query, 'end');
  return results;
}

/** Runs statements, of which the first is the BEGIN, and commits. */
export async function runScript(client: pg.Client, statements: readonly string[]): Promise<void> {
  try {
    await client.query([...statements, 'COMMIT'].join(';\n'));
  } catch (error) {
    if (!isConnectionError(error)) await client.query('ROLLBACK');
    throw error;
  }
}

/** Runs a batch of which the first statement is a BEGIN, and rolls back. */
export async function runAndRollBack(
  client: pg.Client,
  parts: readonly Part[],
  onRow: OnTexts,
  prepared: Set<string> | null = null,
): Promise<void> {
  try {
    await runBatch(client, [...parts, { text: 'ROLLBACK' }], onRow, prepared);
  } catch (error) {
    if (!isConnectionError(error)) await client.query('ROLLBACK');
    throw error;
  }
}
