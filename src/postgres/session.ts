/**
 * A node's control session: one connection on which statements run one after the other, each with a time limit.
 *
 * It is trusted as long as every statement is answered in time. One that is not means a dead connection, or one
 * that might as well be: the socket is destroyed, all that waits fails, and `onLost` is told, once. The server is told
 * of the limit too: it would not notice that nobody waits any more, and carry on, with the locks that it has.
 */
import { once } from 'node:events';
import { Socket } from 'node:net';
import pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import type { ConnectionTarget } from '../config/connection-string.ts';
import { proveBackend, sharedBackend } from './pooler.ts';
import { INVALID_PASSWORD, isConnectionError } from './sqlstates.ts';

/** SQL with a name, under which the server keeps it prepared for the session. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

export interface SessionOptions {
  /** For connecting, all hosts together; milliseconds. */
  readonly connectTimeout: number;
  /** For each statement; milliseconds. */
  readonly statementTimeout: number;
  readonly applicationName: string;
}

/**
 * A session's own settings, whatever role and database are set to. The planner is to walk an index in every statement,
 * although the statistics may be those of a table that was empty a minute ago. The keepalives have the server free the
 * session of a node that vanished, and the session's locks.
 */
const SETTINGS = {
  client_encoding: 'UTF8',
  TimeZone: 'UTC',
  DateStyle: 'ISO',
  search_path: 'pg_catalog',
  quote_all_identifiers: 'off',
  standard_conforming_strings: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_read_only: 'off',
  lock_timeout: '0',
  idle_session_timeout: '0',
  enable_seqscan: 'off',
  enable_bitmapscan: 'off',
  enable_sort: 'off',
  jit: 'off',
  max_parallel_workers_per_gather: '0',
  tcp_keepalives_idle: '5',
  tcp_keepalives_interval: '2',
  tcp_keepalives_count: '3',
};

/** Sets them in the session of one backend only ($3): a pooler in transaction mode may have given us another. */
const SET = `
SELECT pg_catalog.set_config(name, value, false)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) AS s (name, value)
WHERE pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) $3`;

const GREETING = 'SELECT pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_backend_pid() AS pid';

/** How much longer than the node the server waits, in milliseconds: it is the node that gives up. */
const GRACE = 1000;

const TIMESTAMPTZ = 1184;

/** Times stay as printed: a Date would round them to milliseconds. */
const getTypeParser = ((oid: number, format?: 'text') =>
  oid === TIMESTAMPTZ ? String : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser;

/** A time as the session prints it, `2026-01-31 12:00:00.123456+00`, in ISO 8601. */
export const isoOf = (printed: string): string => `${printed.slice(0, 10)}T${printed.slice(11, -3)}Z`;

export class Session {
  /** The host that was connected to, for further connections to the same one. */
  readonly endpoint: pg.ClientConfig;
  readonly #client: pg.Client;
  readonly #socket: Socket;
  /** For each statement that is not given another limit; milliseconds. */
  readonly timeout: number;
  /** The limit that the server has been told. */
  #serverTimeout = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #lost: PostgresInputError | undefined;
  #closed = false;
  /** Called once, when the connection is lost before `close`. */
  onLost: (error: PostgresInputError) => void = () => {};

  private constructor(endpoint: pg.ClientConfig, options: SessionOptions, connectTimeout: number) {
    this.endpoint = endpoint;
    this.timeout = options.statementTimeout;
    this.#socket = new Socket();
    this.#client = newClient(endpoint, options, connectTimeout, this.#socket);
    this.#client.on('error', (error) => this.#fail(error));
    this.#client.on('end', () => this.#fail(new Error('the server hung up')));
  }

  /**
   * Connects to the first of the target's hosts that can be written to.
   * @throws {PostgresInputError} ERR_CONNECT
   */
  static async connect(target: ConnectionTarget, options: SessionOptions): Promise<Session> {
    const deadline = performance.now() + options.connectTimeout;
    const failures: Error[] = [];
    for (const [index, candidate] of target.candidates.entries()) {
      // An equal share of what is left for each: one that never answers must not keep us from the next.
      const share = (deadline - performance.now()) / (target.candidates.length - index);
      const timeout = Math.max(1, Math.ceil(share));
      const session = new Session(candidate, options, timeout);
      try {
        await session.#open(options, timeout);
        return session;
      } catch (error) {
        session.#closed = true;
        session.#socket.destroy();
        failures.push(session.#lacksPassword(error as Error) ? missingPassword() : (error as Error));
      }
    }
    const [first] = failures;
    const messages = new Set(failures.map((failure) => failure.message || failure.name));
    if (messages.size === 1 && first instanceof PostgresInputError) throw first;
    throw new PostgresInputError(
      'ERR_CONNECT',
      `no connection to the database within ${options.connectTimeout} ms ` +
        `(${[...messages].join('; ')}): ` +
        'check host, port, role and password, or raise connectTimeout',
      { cause: first, secrets: target.secrets },
    );
  }

  /** Whether the server asked for a password where there was none: pg answers with an empty one, or not at all. */
  #lacksPassword(error: Error): boolean {
    const refused = 'code' in error && error.code === INVALID_PASSWORD;
    return !this.#client.password && (refused || error.message.includes('client password must be'));
  }

  async #open(options: SessionOptions, timeout: number): Promise<void> {
    const deadline = performance.now() + timeout;
    const left = () => Math.max(1, Math.ceil(deadline - performance.now()));
    await this.#client.connect();
    const query = async (text: string, values: unknown[] = []) => {
      // pg's query_timeout is missing in its types.
      const timed = { text, values, query_timeout: left() };
      return (await this.#client.query(timed)).rows;
    };
    const [{ standby, pid }] = await query(GREETING);
    if (standby) {
      throw new PostgresInputError(
        'ERR_CONNECT',
        'the server is a hot standby, which takes no writes and no LISTEN: connect to the primary, or list all ' +
          'hosts with target_session_attrs=read-write',
      );
    }
    const isServer = 'processID' in this.#client && this.#client.processID === pid;
    const backend = isServer ? pid : await this.#proveBackend(options, left);
    const settings = { ...SETTINGS, statement_timeout: String(this.timeout + GRACE) };
    const set = await query(SET, [Object.keys(settings), Object.values(settings), backend]);
    if (set.length === 0) throw sharedBackend();
    this.#serverTimeout = this.timeout;
  }

  async #proveBackend(options: SessionOptions, left: () => number): Promise<number> {
    const socket = new Socket();
    const rival = newClient(this.endpoint, options, left(), socket);
    rival.on('error', () => {});
    try {
      return await proveBackend(this.#client, rival, left);
    } finally {
      await hangUp(rival, socket, left());
    }
  }

  /**
   * Runs a statement after those before it.
   * @throws {PostgresInputError} ERR_CONNECTION_LOST; whatever else the server objects to is thrown as pg's error
   */
  query<Row extends object>(
    statement: Statement | string,
    values: unknown[] = [],
    timeout = this.timeout,
  ): Promise<Row[]> {
    const config = typeof statement === 'string' ? { text: statement } : statement;
    return this.#inTurn(async () => (await this.#client.query({ ...config, values })).rows as Row[], timeout);
  }

  /** The same, with rows as arrays of columns, each given to `onRow` as it arrives; what that throws is thrown here. */
  eachRow<Row extends unknown[]>(
    statement: Statement,
    values: unknown[],
    onRow: (row: Row) => void,
    timeout = this.timeout,
  ): Promise<void> {
    const ask = async () => {
      const query = new pg.Query({ ...statement, values, rowMode: 'array' } as pg.QueryConfig);
      const failures: unknown[] = [];
      query.on('row', (row: unknown) => {
        try {
          if (failures.length === 0) onRow(row as Row);
        } catch (error) {
          failures.push(error);
        }
      });
      this.#client.query(query);
      await once(query, 'end');
      if (failures.length > 0) throw failures[0];
    };
    return this.#inTurn(ask, timeout);
  }

  #inTurn<Answer>(ask: () => Promise<Answer>, timeout: number): Promise<Answer> {
    const result = this.#turn.then(async () => {
      if (this.#closed) throw new PostgresInputError('ERR_CLOSED', 'the session is closed');
      if (this.#lost) throw this.#lost;
      const answered = expectWithin(timeout, () => this.#fail(new Error(`no answer within ${timeout} ms`)));
      try {
        if (timeout !== this.#serverTimeout) {
          await this.#client.query(`SET statement_timeout = ${timeout + GRACE}`);
          this.#serverTimeout = timeout;
        }
        return await ask();
      } catch (error) {
        if (!isConnectionError(error)) throw error;
        throw this.#fail(error);
      } finally {
        answered();
      }
    });
    this.#turn = result.catch(() => {});
    return result;
  }

  #fail(cause: unknown): PostgresInputError {
    if (!this.#lost) {
      this.#lost = connectionLost(cause);
      this.#socket.destroy();
      if (!this.#closed) this.onLost(this.#lost);
    }
    return this.#lost;
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** Ends the session at once. What is under way fails, and the server rolls it back. */
  destroy(): void {
    this.#closed = true;
    this.#fail(new Error('it was given up'));
  }

  /** Ends the session once what it was asked has been answered. Never rejects. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#turn;
    this.#closed = true;
    if (!this.#lost) await hangUp(this.#client, this.#socket, this.timeout);
    this.#socket.destroy();
  }
}

const missingPassword = () =>
  new PostgresInputError(
    'ERR_CONNECT',
    'the server asks for a password, and none was given: put it into the connection string, into the environment ' +
      'variable PGPASSWORD, or into the file ~/.pgpass (or PGPASSFILE), which nobody else may be allowed to read',
  );

const newClient = (
  endpoint: pg.ClientConfig,
  options: SessionOptions,
  connectTimeout: number,
  socket: Socket,
): pg.Client =>
  new pg.Client({
    ...endpoint,
    application_name: endpoint.application_name ?? options.applicationName,
    connectionTimeoutMillis: connectTimeout,
    keepAlive: true,
    stream: () => socket,
    types: { getTypeParser },
  });

/** Says goodbye, and waits for the server to hang up, but not for longer than `timeout`: it may be gone. */
async function hangUp(client: pg.Client, socket: Socket, timeout: number): Promise<void> {
  const timer = setTimeout(() => socket.destroy(), timeout);
  await client.end().catch(() => {});
  clearTimeout(timer);
}

/**
 * Calls `expire` after `ms`, unless the returned function is called before. Where the process was frozen the answer
 * may have come and wait to be read, which the event loop does after its timers and before its immediates. A timer
 * that is very late tells of a machine that was suspended: the answer gets as much time again.
 */
function expectWithin(ms: number, expire: () => void): () => void {
  const due = performance.now() + ms;
  let answered = false;
  const look = () => void setImmediate(() => answered || expire());
  let timer = setTimeout(() => {
    if (performance.now() - due < ms) look();
    else timer = setTimeout(look, ms);
  }, ms);
  return () => {
    answered = true;
    clearTimeout(timer);
  };
}

export const connectionLost = (cause: unknown): PostgresInputError =>
  cause instanceof PostgresInputError
    ? cause
    : new PostgresInputError(
        'ERR_CONNECTION_LOST',
        `the connection to the database was lost (${cause instanceof Error ? cause.message : String(cause)}): ` +
          'call handle() again, or use its option reconnect',
        { cause },
      );
