/**
 * Unpacks packed rows of the log for callers' transactions, in sessions of our own: in a caller's transaction, the other changes of the row
 * would stay locked. A consumer has many changes of one row in hand at once, so what is asked for while a session is at work is done
 * together by the next one.
 */
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { acknowledgementsSql } from './acknowledgements-sql.ts';
import { array } from './named-rows.ts';

export class Unpacking {
  readonly #names: Names;
  readonly #inSession: (task: (session: Session) => Promise<unknown>) => Promise<unknown>;
  #wanted = new Set<string>();
  /** Those that are wanted now, together. */
  #next: Promise<void> | null = null;
  /** Those that are being unpacked. Never rejects. */
  #underWay: Promise<unknown> = Promise.resolve();

  /** `inSession` runs a task in a session that is closed afterwards. */
  constructor(names: Names, inSession: (task: (session: Session) => Promise<unknown>) => Promise<unknown>) {
    this.#names = names;
    this.#inSession = inSession;
  }

  /** Replaces a packed row by a row for each of its changes. @throws {PostgresInputError} ERR_CONNECT, ERR_CONNECTION_LOST */
  unpack(row: string): Promise<void> {
    this.#wanted.add(row);
    if (this.#next) return this.#next;
    const next = this.#underWay.then(() => this.#unpackAll());
    this.#underWay = next.catch(() => {});
    return (this.#next = next);
  }

  async #unpackAll(): Promise<void> {
    const rows = [...this.#wanted];
    this.#wanted = new Set();
    this.#next = null;
    const { unpack } = acknowledgementsSql(this.#names);
    await this.#inSession((session) => session.query(unpack, ['{}', array(rows)]));
  }
}
