/**
 * Statements that reach a backend of a pooler in transaction mode. The next transaction in that backend may be the application's, so nothing
 * may outlive a transaction: no setting, no named statement, no lock of the session, no temporary object, no LISTEN.
 *
 * - Each statement runs in a transaction of its own, which makes the settings for itself alone. BEGIN, the settings, the statement and COMMIT
 *   travel together, in one round trip.
 * - Statements have no names.
 * - If a statement fails, the server skips the rest up to the end of the message, and the transaction is rolled back in a second round trip.
 *   Until then the pooler keeps the backend for this client.
 */
import pg from 'pg';
import { type Backend, type Query, ended, runAndRollBack, runScript, streaming } from './backend.ts';
import { type OnTexts, type Part, send } from './batch.ts';
import { BEGIN, localSettings, localStatementTimeout, setLocally } from './session-settings.ts';
import { isConnectionError } from './sqlstates.ts';

export class PooledBackend implements Backend {
  readonly #client: pg.Client;
  /** The limit in the transaction of `begin`, in milliseconds; null outside of one. */
  #limit: number | null = null;

  constructor(client: pg.Client) {
    this.#client = client;
  }

  async ask({ text, values }: Query, timeout: number): Promise<unknown[]> {
    if (this.#limit !== null) {
      await this.#setLimit(timeout);
      return (await this.#client.query(text, values)).rows;
    }
    // pg's types lack the query mode. A text without values would go as a message of its own.
    const query = new pg.Query({ text, values, queryMode: 'extended' } as pg.QueryConfig);
    // pg gathers rows only for a callback.
    const rows = new Promise<unknown[]>((resolve, reject) => {
      const settled = (error: Error | null | undefined, results: unknown) =>
        error ? reject(error) : resolve((results as pg.QueryResult[]).at(OWN)!.rows);
      this.#client.query(Object.assign(inTransaction(query, timeout), { callback: settled }));
    });
    return rows.catch((error: unknown) => this.#rollBackAfter(error));
  }

  async eachRow({ text, values }: Query, onRow: (row: unknown[]) => void, timeout: number): Promise<void> {
    const query = streaming({ text, values }, onRow);
    if (this.#limit !== null) {
      await this.#setLimit(timeout);
      await ended(this.#client, query);
    } else
      await ended(this.#client, inTransaction(query, timeout)).catch((error) => this.#rollBackAfter(error));
  }

  async begin([begin, ...statements]: readonly string[], timeout: number): Promise<void> {
    this.#limit = timeout;
    await this.#client.query([begin, ...localSettings(timeout), ...statements].join(';\n'));
  }

  async rollBack(): Promise<void> {
    this.#limit = null;
    await this.#client.query('ROLLBACK');
  }

  batch([begin, ...parts]: readonly Part[], onRow: OnTexts, timeout: number): Promise<void> {
    const settings = localSettings(timeout).map((text) => ({ text }));
    const take: OnTexts = (row, part) => onRow(row, part - settings.length);
    return runAndRollBack(this.#client, [begin!, ...settings, ...parts], take);
  }

  script(statements: readonly string[], timeout: number): Promise<void> {
    return runScript(this.#client, [BEGIN, ...localSettings(timeout), ...statements]);
  }

  async #setLimit(timeout: number): Promise<void> {
    if (timeout === this.#limit) return;
    await this.#client.query(localStatementTimeout(timeout));
    this.#limit = timeout;
  }

  async #rollBackAfter(error: unknown): Promise<never> {
    if (!isConnectionError(error)) await this.#client.query('ROLLBACK');
    throw error;
  }
}

/** The place of a query's own result among the results of its transaction: COMMIT comes last. */
const OWN = -2;

/** Has `query` sent within a transaction. Its results are those of BEGIN, of the settings, its own, and that of COMMIT. */
function inTransaction(query: pg.Query, timeout: number): pg.Query {
  const submit = query.submit.bind(query);
  query.submit = (connection) => {
    connection.stream.cork();
    send(connection, { text: BEGIN });
    send(connection, setLocally(timeout));
    // pg ends a query with a sync, before which the transaction has to end.
    const sync = () => {
      send(connection, { text: 'COMMIT' });
      connection.sync();
    };
    const failure = submit(Object.create(connection, { sync: { value: sync } }) as pg.Connection);
    connection.stream.uncork();
    return failure;
  };
  return query;
}
