/**
 * The change log: what is read from it, and what is acknowledged, that is deleted.
 *
 * Rows come in transactions that commit in any order, so that a sequence says nothing about what is still to come: a
 * row may appear below one that was read long ago. What has been read is therefore told by a snapshot, not by a
 * high-water mark. The log is read in passes:
 *
 *   pass n reads, in pages and in the order of the sequences, what snapshot n sees and snapshot n-1 did not.
 *
 * - Nothing is missed: what snapshot n-1 did not see, a later one will.
 * - Nothing comes twice: each transaction is new to one pass only.
 * - A row's changes keep their order: the second of two transactions waits for the first to end, so it draws its
 *   sequences later, and no snapshot sees it without the first.
 * - A transaction that stays open delays nobody else's changes.
 *
 * Where a pass begins: whatever is new to it was written by transactions that snapshot n-1 did not see ended. One
 * that began later draws sequences above all that had been read. One that was under way then may have drawn lower
 * ones, but above all that had been read when it was first seen under way. So a pass steps over what is acknowledged
 * and not yet vacuumed only if such a transaction has ended in the meantime, and no further back than it began.
 *
 * Acknowledgements are pipelined: one DELETE is under way, the next takes all that gathered meanwhile.
 */
import type pg from 'pg';
import { type ChangeLogSql, changeLogSql } from './change-log-sql.ts';
import { type Change, type ChangeEvent, type LoggedKey, changeOf } from './change.ts';
import { PostgresInputError } from './errors.ts';
import type { Lease } from './lease.ts';
import type { Names } from './names.ts';
import { type Session, isoOf } from './session.ts';
import { Snapshot } from './snapshot.ts';

type Row = [seq: string | null, at: string, tbl: string, id: string, op: string, key: string | null];

export interface Page {
  readonly changes: Change[];
  /** Whether the pass ends with this page: all that was committed before it began has been read. */
  readonly last: boolean;
}

export interface ChangeLogOptions {
  /** For a page, in milliseconds: it may have to step over much that is not yet vacuumed. */
  readonly timeout: number;
  /** Told of an acknowledgement that failed although the lease is held: what it named would come again. */
  readonly fail: (error: unknown) => void;
}

interface Batch {
  readonly sequences: string[];
  readonly waiting: { resolve: () => void; reject: (error: unknown) => void }[];
}

export class ChangeLog {
  readonly #session: Session;
  readonly #lease: Lease;
  readonly #sql: ChangeLogSql;
  readonly #timeout: number;

  /** The snapshot of the last pass that is complete. */
  #complete: Snapshot | null = null;
  /** The snapshot of the pass under way, and the last sequence read in it. */
  #pass: { readonly snapshot: Snapshot; readonly after: string } | null = null;
  /** The highest sequence read in complete passes. */
  #highest = 0n;
  /** The transactions that were under way at the last complete pass: all their sequences are above this. */
  #late: ReadonlyMap<string, bigint> = new Map();

  #gathering: Batch = { sequences: [], waiting: [] };
  #acknowledging: Promise<void> | null = null;
  readonly #fail: (error: unknown) => void;

  constructor(session: Session, names: Names, lease: Lease, options: ChangeLogOptions) {
    this.#session = session;
    this.#lease = lease;
    this.#sql = changeLogSql(names);
    this.#timeout = options.timeout;
    this.#fail = options.fail;
  }

  /** Whether a transaction's changes have been read, all of them, by a complete pass. */
  covers(xid: bigint): boolean {
    return this.#complete?.sees(xid) ?? false;
  }

  /** The next page: of the pass under way, else of a new one. */
  async readPage(rows: number): Promise<Page> {
    const [first, ...page] = await this.#fetch(rows);
    const snapshot = this.#pass?.snapshot ?? new Snapshot(first![2]);
    const after = page.at(-1)?.[0] ?? this.#pass?.after ?? '0';
    const last = page.length < rows;
    if (last) this.#finishPass(snapshot, BigInt(after));
    else this.#pass = { snapshot, after };
    return { changes: page.map(changeOfRow), last };
  }

  #fetch(rows: number): Promise<Row[]> {
    const snapshot = this.#pass?.snapshot.text ?? null;
    if (!this.#complete) {
      const values = [snapshot, this.#pass?.after ?? '0', rows];
      return this.#session.queryArrays<Row>(this.#sql.firstPass, values, this.#timeout);
    }
    const late = this.#pass ? [] : [...this.#late];
    const values = [
      snapshot,
      this.#complete.text,
      this.#pass?.after ?? this.#highest,
      late.map(([xid]) => xid),
      late.map(([, after]) => after),
      rows,
    ];
    return this.#session.queryArrays<Row>(this.#sql.nextPass, values, this.#timeout);
  }

  #finishPass(snapshot: Snapshot, lastRead: bigint): void {
    // A transaction that this snapshot is the first to know began after the one before had been read.
    const before = this.#highest;
    this.#late = new Map([...snapshot.inProgress].map((xid) => [xid, this.#late.get(xid) ?? before]));
    if (lastRead > this.#highest) this.#highest = lastRead;
    this.#complete = snapshot;
    this.#pass = null;
  }

  /**
   * Deletes a change.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST
   */
  acknowledge(sequence: string): Promise<void> {
    this.#gathering.sequences.push(sequence);
    return this.flush();
  }

  /** Deletes a change, soon. If the lease is lost first, it comes again. */
  acknowledgeSoon(sequence: string): void {
    this.#gathering.sequences.push(sequence);
    this.#acknowledging ??= this.#acknowledgeAll();
  }

  /**
   * Resolves when all that was acknowledged so far is deleted.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST
   */
  flush(): Promise<void> {
    if (this.#gathering.sequences.length === 0) return this.#acknowledging ?? Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#gathering.waiting.push({ resolve, reject });
      this.#acknowledging ??= this.#acknowledgeAll();
    });
  }

  async #acknowledgeAll(): Promise<void> {
    // What is acknowledged in one turn of the event loop goes together.
    await Promise.resolve();
    while (this.#gathering.sequences.length > 0) {
      const { sequences, waiting } = this.#gathering;
      this.#gathering = { sequences: [], waiting: [] };
      try {
        const { holder, token } = this.#lease;
        const values = [sequences, holder, token];
        const held = await this.#session.query(this.#sql.acknowledge, values, this.#timeout);
        if (held.length > 0) for (const { resolve } of waiting) resolve();
        else for (const { reject } of waiting) reject(leaseLost());
      } catch (error) {
        for (const { reject } of waiting) reject(error);
        this.#fail(error);
      }
    }
    this.#acknowledging = null;
  }

  /**
   * Deletes the change in a transaction of the caller's, so that it is gone if and only if that commits.
   * @throws {PostgresInputError} ERR_LEASE_LOST
   */
  static async acknowledgeIn(client: pg.ClientBase, names: Names, event: ChangeEvent): Promise<void> {
    const { text } = changeLogSql(names).acknowledgeInTransaction;
    const { rowCount } = await client.query(text, [event.sequence, event.fencingToken]);
    if (rowCount === 0) throw leaseLost();
  }
}

export const leaseLost = (): PostgresInputError =>
  new PostgresInputError(
    'ERR_LEASE_LOST',
    'another node holds the lease now, and the event is or will be acknowledged there: roll back what was done for it',
  );

const changeOfRow = ([seq, at, tbl, id, op, key]: Row): Change =>
  changeOf(seq!, isoOf(at), tbl, id, op, key === null ? null : parseKey(key));

/** Most tables have a key of one column, whose name need not be parsed for every row. */
const keyColumns = new Map<string, LoggedKey>();

function parseKey(json: string): LoggedKey {
  if (!json.startsWith('"')) return JSON.parse(json) as LoggedKey;
  let column = keyColumns.get(json);
  if (column === undefined) keyColumns.set(json, (column = JSON.parse(json) as LoggedKey));
  return column;
}
