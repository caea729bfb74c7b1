/** The table of backfills as a term reads and writes it. Every write is fenced by the lease, and throws ERR_LEASE_LOST without it. */
import type { Session, Statement } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { type Hold, leaseLost } from './acknowledgements.ts';
import { type BackfillSql, backfillSql } from './backfill-sql.ts';
import { stored } from './failures.ts';

/** The backfill of one table. */
export interface Job {
  readonly backfill: string;
  /** The table's oid when the backfill was asked for, which names the row of this job. */
  readonly relation: string;
  /** The table's oid now. */
  readonly table: string;
  readonly location: string;
  readonly condition: string | null;
  readonly chunk: number | null;
  keyColumns: string | null;
  /** The last key that was read; empty: none. Another array whenever it was moved or set back. */
  after: readonly string[];
  state: 'waiting' | 'running' | 'paused';
}

export const keyOf = ({ backfill, relation }: Job): string => `${backfill} ${relation}`;

export class BackfillStore {
  readonly #session: Session;
  readonly #hold: Hold;
  readonly #sql: BackfillSql;

  constructor(session: Session, names: Names, hold: Hold) {
    this.#session = session;
    this.#hold = hold;
    this.#sql = backfillSql(names);
  }

  /**
   * What is to be read, in this order; null where this role has no part in backfills. Nobody can have asked for a backfill where the table is
   * missing. `out`: the backfills of which events are out.
   */
  async load(out: readonly string[]): Promise<Job[] | null> {
    const [may] = await this.#session.query<{ take: boolean | null }>(this.#sql.mayTakePart);
    const { holder, token } = this.#hold;
    return may?.take ? this.#session.query<Job>(this.#sql.load, [out, holder, token]) : null;
  }

  /** The events of a backfill that were acknowledged one by one. */
  async acknowledged(backfill: string): Promise<string[]> {
    const rows = await this.#session.query<{ sequence: string }>(this.#sql.acknowledged, [backfill]);
    return rows.map(({ sequence }) => sequence);
  }

  /** The table is read from its beginning. */
  async begin(job: Job, keyColumns: string): Promise<void> {
    await this.#writeJob(this.#sql.begin, job, [keyColumns]);
  }

  /**
   * Moves the progress; `cursor` null: it stays. `isRead`: the table is read. `cleared`: events whose own rows are no longer needed. Returns whether
   * the backfill of the table is done: it may have been cancelled meanwhile.
   */
  async finish(
    job: Job,
    cursor: readonly string[] | null,
    rows: number,
    isRead: boolean,
    cleared: readonly string[],
  ): Promise<boolean> {
    return this.#writeJob(this.#sql.finish, job, [cursor, rows, isRead, cleared]);
  }

  /** The table can't be read. Returns whether that has ended its backfill: it may have been cancelled meanwhile. */
  async fail(job: Job, reason: string): Promise<boolean> {
    return this.#writeJob(this.#sql.fail, job, [reason]);
  }

  /** Keeps events that were acknowledged although their chunks are not over. */
  async keep(events: readonly (readonly [backfill: string, sequence: string])[]): Promise<void> {
    await this.#write(this.#sql.keep, [
      events.map(([backfill]) => backfill),
      events.map(([, sequence]) => sequence),
    ]);
  }

  async isLeaseHeld(): Promise<boolean> {
    const { holder, token } = this.#hold;
    return (await this.#session.query(this.#sql.held, [holder, token])).length > 0;
  }

  /** `values`: those of the statement, without holder, token and error. Returns whether the event was not acknowledged before. */
  async park(values: readonly unknown[], error: string): Promise<boolean> {
    return this.#write(this.#sql.park, [...values, stored(error, this.#session.encoding)]);
  }

  #writeJob(statement: Statement, job: Job, values: readonly unknown[]): Promise<boolean> {
    return this.#write(statement, [job.backfill, job.relation, ...values]);
  }

  /** Runs a statement whose second and third value are the lease's holder and token. Returns whether it has found what it was to change. */
  async #write(statement: Statement, [first, ...rest]: readonly unknown[]): Promise<boolean> {
    const { holder, token } = this.#hold;
    if (token === null) throw leaseLost();
    const values = [first, holder, token, ...rest];
    const [held] = await this.#session.query<{ found?: boolean }>(statement, values);
    if (!held) throw leaseLost();
    return held.found ?? true;
  }
}
