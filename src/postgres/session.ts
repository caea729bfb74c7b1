/**
 * A node's control session: one connection on which statements run one after the other, each with a time limit.
 *
 * - Trusted: the session, from the moment that its backend is known to be its own (`pooler.ts`) and as long as every
 *   statement is answered in time. A session that is to do without a backend of its own trusts nothing of the kind (`pooled-backend.ts`).
 * - Lost: once a statement is not answered in time, or the connection breaks. The socket is destroyed, the statements
 *   that wait fail, and `onLost` is called, once. A lost session stays lost.
 * - The server has a limit for each statement as well. Without one, a statement that the node has given up would run on
 *   and keep its locks.
 */
import { Socket } from 'node:net';
import type pg from 'pg';
import { PostgresInputError } from '../api/errors.ts';
import type { ConnectionTarget } from '../config/connection-string.ts';
import { type Backend, OwnBackend, type Statement } from './backend.ts';
import type { OnTexts, Part } from './batch.ts';
import { hangUp, lacksPassword, missingPassword, newClient } from './client.ts';
import { PooledBackend } from './pooled-backend.ts';
import { proveBackend, sharedBackend } from './pooler.ts';
import { settingsFor } from './session-settings.ts';
import { isConnectionError } from './sqlstates.ts';

export type { Statement } from './backend.ts';

export interface SessionOptions {
  /** The limit for connecting, for all hosts together; milliseconds. */
  readonly connectTimeout: number;
  /** The limit for each statement; milliseconds. */
  readonly statementTimeout: number;
  readonly applicationName: string;
  /**
   * What becomes of a backend that a pooler in transaction mode shares out. `refuse`: there is no connection. `accept`: the session leaves nothing
   * in the backend. `assume`: so does the session, whatever the backend is, which spares the questions. Default: `refuse`.
   */
  readonly pooling?: 'refuse' | 'accept' | 'assume';
}

const GREETING = `SELECT pg_catalog.pg_is_in_recovery() AS standby, pg_catalog.pg_backend_pid() AS pid,
  pg_catalog.getdatabaseencoding() AS encoding`;

/** Turns a time as the session prints it, `2026-01-31 12:00:00.123456+00`, into ISO 8601. */
export const isoOf = (printed: string): string => `${printed.slice(0, 10)}T${printed.slice(11, -3)}Z`;

export class Session {
  /** The host that the session is connected to, for further connections to the same host. */
  readonly endpoint: pg.ClientConfig;
  readonly #client: pg.Client;
  readonly #socket: Socket;
  /** What no error may show. */
  readonly #secrets: readonly string[];
  /** The limit for a statement that is given none of its own; milliseconds. */
  readonly timeout: number;
  #backend: Backend;
  #turn: Promise<unknown> = Promise.resolve();
  #encoding = 'UTF8';
  #lost: PostgresInputError | undefined;
  #closed = false;
  /** Called once, when the connection is lost before `close`. */
  onLost: (error: PostgresInputError) => void = () => {};

  private constructor(
    endpoint: pg.ClientConfig,
    options: SessionOptions,
    connectTimeout: number,
    secrets: readonly string[],
  ) {
    this.endpoint = endpoint;
    this.#secrets = secrets;
    this.timeout = options.statementTimeout;
    this.#socket = new Socket();
    this.#client = newClient(endpoint, options.applicationName, connectTimeout, this.#socket);
    this.#backend = new PooledBackend(this.#client);
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
      // Each host gets an equal share of the time that is left: one that never answers must leave time for the next.
      const share = (deadline - performance.now()) / (target.candidates.length - index);
      const timeout = Math.max(1, Math.ceil(share));
      const session = new Session(candidate, options, timeout, target.secrets);
      try {
        await session.#open(options, timeout);
        return session;
      } catch (error) {
        session.#closed = true;
        session.#socket.destroy();
        failures.push(lacksPassword(session.#client, error as Error) ? missingPassword() : (error as Error));
      }
    }
    const [first] = failures;
    const messages = new Set(failures.map((failure) => failure.message || failure.name));
    if (messages.size === 1 && first instanceof PostgresInputError) {
      const { code, message, cause } = first;
      throw new PostgresInputError(code, message, { cause, secrets: target.secrets });
    }
    throw new PostgresInputError(
      'ERR_CONNECT',
      `no connection to the database within ${options.connectTimeout} ms ` +
        `(${[...messages].join('; ')}): ` +
        'check host, port, role and password, or raise connectTimeout',
      { cause: first, secrets: target.secrets },
    );
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
    const [{ standby, pid, encoding }] = await query(GREETING);
    this.#encoding = encoding;
    if (standby) {
      throw new PostgresInputError(
        'ERR_CONNECT',
        'the server is a hot standby, which takes no writes and no LISTEN: connect to the primary, or list all ' +
          'hosts with target_session_attrs=read-write',
      );
    }
    const { pooling = 'refuse' } = options;
    if (pooling === 'assume') return;
    const isServer = 'processID' in this.#client && this.#client.processID === pid;
    try {
      // Time is kept back to go on with a backend about which nothing could be found out.
      const patience = pooling === 'accept' ? () => Math.max(1, left() - timeout / 2) : left;
      const backend = isServer ? pid : await this.#proveBackend(options, patience);
      const { text, values } = settingsFor(backend, this.timeout);
      if ((await query(text, values)).length === 0) throw sharedBackend();
      this.#backend = new OwnBackend(this.#client, this.timeout);
    } catch (error) {
      if (pooling === 'refuse' || !(error instanceof PostgresInputError)) throw error;
      await query('SELECT');
    }
  }

  /** What the database's texts are encoded in, as the server names it. */
  get encoding(): string {
    return this.#encoding;
  }

  /** Whether a pooler may give the backend to somebody else after each transaction. */
  get isPooled(): boolean {
    return this.#backend instanceof PooledBackend;
  }

  async #proveBackend(options: SessionOptions, left: () => number): Promise<number> {
    const socket = new Socket();
    const rival = newClient(this.endpoint, options.applicationName, left(), socket);
    rival.on('error', () => {});
    try {
      return await proveBackend(this.#client, rival, left);
    } finally {
      await hangUp(rival, socket, left());
    }
  }

  /**
   * Runs a statement after all statements that were asked for before it.
   * @throws {PostgresInputError} ERR_CONNECTION_LOST, ERR_CLOSED. An error of the statement is thrown as pg's error.
   */
  query<Row extends object>(
    statement: Statement | string,
    values: unknown[] = [],
    timeout = this.timeout,
  ): Promise<Row[]> {
    const { name, text } = typeof statement === 'string' ? { name: '', text: statement } : statement;
    const ask = () => this.#backend.ask({ name, text, values }, timeout);
    return this.#inTurn(ask, timeout) as Promise<Row[]>;
  }

  /** Runs a statement as `query` does, and gives each row to `onRow` as it arrives, as an array. An error of `onRow` is thrown here. */
  eachRow<Row extends unknown[]>(
    statement: Statement,
    values: unknown[],
    onRow: (row: Row) => void,
    timeout = this.timeout,
  ): Promise<void> {
    const rows = guarded(onRow);
    const ask = async () => {
      await this.#backend.eachRow({ ...statement, values }, (row) => rows.take(row as Row), timeout);
      rows.rethrow();
    };
    return this.#inTurn(ask, timeout);
  }

  /**
   * Runs a transaction of which the first statement is the BEGIN, and rolls it back, in one round trip. Gives each row to `onRow` as it
   * arrives: the texts of its columns, and the place of its statement. An error of `onRow` is thrown here.
   */
  batch(parts: readonly Part[], onRow: OnTexts, timeout = this.timeout): Promise<void> {
    const rows = guarded(onRow);
    const ask = async () => {
      await this.#backend.batch(parts, rows.take, timeout);
      rows.rethrow();
    };
    return this.#inTurn(ask, timeout);
  }

  /**
   * Runs `work` between the statements `begin`, of which the first is a BEGIN, and a ROLLBACK. Nobody else may ask for statements meanwhile.
   * `timeout`: that of `begin`, in milliseconds.
   */
  async transaction<Result>(
    begin: readonly string[],
    work: () => Promise<Result>,
    timeout = this.timeout,
  ): Promise<Result> {
    try {
      await this.#inTurn(() => this.#backend.begin(begin, timeout), timeout);
      return await work();
    } finally {
      await this.#inTurn(() => this.#backend.rollBack(), this.timeout).catch(() => {});
    }
  }

  /** Runs statements in one transaction, and in one round trip: no lock is held while something is on its way. */
  script(statements: readonly string[], timeout = this.timeout): Promise<void> {
    return this.#inTurn(() => this.#backend.script(statements, timeout), timeout);
  }

  #inTurn<Answer>(ask: () => Promise<Answer>, timeout: number): Promise<Answer> {
    const result = this.#turn.then(async () => {
      if (this.#closed) throw new PostgresInputError('ERR_CLOSED', 'the session is closed');
      if (this.#lost) throw this.#lost;
      const answered = expectWithin(timeout, () => this.#fail(new Error(`no answer within ${timeout} ms`)));
      try {
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
      this.#lost = connectionLost(cause, this.#secrets);
      this.#socket.destroy();
      if (!this.#closed) this.onLost(this.#lost);
    }
    return this.#lost;
  }

  get isLost(): boolean {
    return this.#lost !== undefined;
  }

  /** Whether the process stays alive for this connection, as it does from the beginning. */
  keepProcess(isKept: boolean): void {
    this.#socket[isKept ? 'ref' : 'unref']();
  }

  /** Ends the session at once. A statement that is under way fails, and the server rolls its transaction back. */
  destroy(): void {
    this.#closed = true;
    this.#fail(new Error('it was given up'));
  }

  /** Ends the session after its last statement has been answered. Never rejects. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#turn;
    this.#closed = true;
    if (!this.#lost) await hangUp(this.#client, this.#socket, this.timeout);
    this.#socket.destroy();
  }
}

/** pg can't stand an error in a handler of rows: the first one is kept until the statement has ended. */
function guarded<Arguments extends unknown[]>(onRow: (...row: Arguments) => void) {
  const failures: unknown[] = [];
  return {
    take: (...row: Arguments) => {
      try {
        if (failures.length === 0) onRow(...row);
      } catch (error) {
        failures.push(error);
      }
    },
    rethrow: () => {
      if (failures.length > 0) throw failures[0];
    },
  };
}

/**
 * Calls `expire` after `ms`, unless the returned function is called before. When the process was frozen, the answer may
 * have arrived unread. The event loop reads sockets after its timers and before its immediates, so the verdict waits
 * for an immediate. A timer that is late by more than `ms` shows that the machine was suspended: the answer then gets
 * as much time again.
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

export const connectionLost = (cause: unknown, secrets: readonly string[] = []): PostgresInputError =>
  cause instanceof PostgresInputError
    ? cause
    : new PostgresInputError(
        'ERR_CONNECTION_LOST',
        `the connection to the database was lost (${cause instanceof Error ? cause.message : String(cause)}): ` +
          'call handle() again, or use its option reconnect',
        { cause, secrets },
      );
