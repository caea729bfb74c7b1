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
 * Where a pass begins: above all sequences that had been drawn when the pass before began, except for transactions that
 * were under way then and have ended since. It steps over what is acknowledged and not yet vacuumed only for these,
 * and no further back than they began. Which ones were under way: those that the snapshot lists, and those that it
 * cannot list, because they are younger than every transaction that had ended (a snapshot ends there, at its xmax,
 * and not at the next xid). Each pass therefore draws an xid itself: whoever is younger than this one began later.
 *
 * Where it ends: at the highest sequence that was drawn when it began. In between there may be millions that are
 * acknowledged and not vacuumed, since somebody holds an old snapshot. A statement that has stepped over them for some
 * time says how far it came, and the next goes on from there, so that the lease is renewed meanwhile.
 *
 * Acknowledgements are pipelined: one DELETE is under way, the next takes all that gathered meanwhile. A change that some
 * transaction of a caller's has acknowledged and not committed is tried again until that has ended: it may roll back.
 */
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import { type ChangeLogSql, LOCKED, changeLogSql } from './change-log-sql.ts';
import { Change, type ChangeEvent, type LoggedKey, operationOf } from './change.ts';
import { PostgresInputError } from './errors.ts';
import type { Lease } from './lease.ts';
import type { Names } from './names.ts';
import { type Session, isoOf } from './session.ts';
import { Snapshot } from './snapshot.ts';
import { Wakeup } from './wakeup.ts';

/** Of a moment: all sequences drawn before are up to `drawn`, and whoever began after it has an xid above `xid`. */
interface Start {
  readonly drawn: bigint;
  readonly xid: bigint;
}

interface Pass {
  readonly start: Start;
  readonly snapshot: Snapshot;
  /** The last sequence read. */
  readonly after: string;
}

type Row = [seq: string | null, at: string | null, tbl: string, id: string, op: string, key: string | null];

/** Of a statement's first row: where it holds the snapshot, the highest sequence drawn, and an xid. */
const [SNAPSHOT, DRAWN, XID] = [2, 3, 4] as const;

/** Says how far a statement came that took long; its sequence is none of a change. */
const isMilestone = (row: Row): boolean => row[1] === null;

const startOf = (row: Row): Start => ({ drawn: BigInt(row[DRAWN]), xid: BigInt(row[XID]) });

export interface Page {
  readonly changes: Change[];
  /** Whether the pass ends with this page: all that was committed before it began has been read. */
  readonly last: boolean;
}

interface Batch {
  readonly sequences: string[];
  readonly waiting: {
    /** What is to be gone; null: as much as can be. */
    readonly sequence: string | null;
    readonly resolve: () => void;
    readonly reject: (error: unknown) => void;
  }[];
}

/** Milliseconds until what another transaction has is tried again. */
const RETRY = 20;

export class ChangeLog {
  readonly #session: Session;
  readonly #lease: Lease;
  readonly #sql: ChangeLogSql;
  readonly #patience: number;

  /** The last pass that is complete; before the first one, only when that was. */
  #complete: { readonly start: Start; readonly snapshot: Snapshot | null } | null = null;
  /** The pass under way. */
  #pass: Pass | null = null;
  /** The transactions that the last complete pass's snapshot lists as under way: their sequences are above this. */
  #late: ReadonlyMap<string, bigint> = new Map();
  /** The same for those that it could not list. */
  #unlistedAfter = 0n;

  /** Most tables have a key of one column, whose name need not be parsed for every row. */
  readonly #keyColumns = new Map<string, LoggedKey>();

  #gathering: Batch = { sequences: [], waiting: [] };
  #isAcknowledging = false;
  /** Whether another transaction had some of what was acknowledged last. */
  #isContended = false;
  /** Told of an acknowledgement that failed although the lease is held: what it named would come again. */
  readonly #fail: (error: unknown) => void;

  /** `patience`: for how long a page's statement may look for changes before it tells how far it came, in milliseconds. */
  constructor(
    session: Session,
    names: Names,
    lease: Lease,
    fail: (error: unknown) => void,
    patience = session.timeout / 4,
  ) {
    this.#session = session;
    this.#patience = patience;
    this.#lease = lease;
    this.#sql = changeLogSql(names);
    this.#fail = fail;
  }

  /** Whether a transaction's changes have been read, all of them, by a complete pass. */
  covers(xid: bigint): boolean {
    return this.#complete?.snapshot?.sees(xid) ?? false;
  }

  /** The next page: of the pass under way, else of a new one. */
  async readPage(rows: number): Promise<Page> {
    this.#complete ??= { start: await this.#readStart(), snapshot: null };
    let first: Row | undefined;
    const changes: Change[] = [];
    let milestone: string | null = null;
    await this.#fetch(rows, this.#complete.start, this.#complete.snapshot, (row) => {
      if (!first) first = row;
      else if (isMilestone(row)) milestone ??= row[0];
      else if (milestone === null) changes.push(this.#changeOf(row));
    });
    const pass = this.#pass ?? {
      start: startOf(first!),
      snapshot: new Snapshot(first![SNAPSHOT]),
      after: '0',
    };
    const after = milestone ?? changes.at(-1)?.sequence ?? pass.after;
    const last = changes.length < rows && milestone === null;
    this.#pass = { ...pass, after };
    if (last) this.#finishPass(this.#pass, this.#complete.start);
    return { changes, last };
  }

  #changeOf([seq, at, tbl, id, op, key]: Row): Change {
    return new Change(seq, tbl, operationOf(op), id, key === null ? null : this.#parseKey(key), isoOf(at!));
  }

  #parseKey(json: string): LoggedKey {
    if (!json.startsWith('"')) return JSON.parse(json) as LoggedKey;
    let column = this.#keyColumns.get(json);
    if (column === undefined) this.#keyColumns.set(json, (column = JSON.parse(json) as LoggedKey));
    return column;
  }

  async #readStart(): Promise<Start> {
    let start: Start;
    await this.#session.eachRow<Row>(this.#sql.start, [], (row) => (start = startOf(row)));
    return start!;
  }

  #fetch(rows: number, previous: Start, seen: Snapshot | null, onRow: (row: Row) => void): Promise<void> {
    const pass = this.#pass;
    const common = [pass?.snapshot.text ?? null, pass?.start.drawn ?? null, this.#patience, rows];
    if (!seen) return this.#session.eachRow(this.#sql.firstPass, [...common, pass?.after ?? '0'], onRow);
    const late = pass ? [] : [...this.#late];
    const someUnlisted = seen.xmax < previous.xid;
    const values = [
      ...common,
      pass?.after ?? (someUnlisted ? this.#unlistedAfter : previous.drawn),
      late.map(([xid]) => xid),
      late.map(([, after]) => after),
      seen.text,
    ];
    return this.#session.eachRow(this.#sql.nextPass, values, onRow);
  }

  #finishPass({ start, snapshot, after: read }: Pass, previous: Start): void {
    // Who was under way when the pass before began is known since then; all others began after it.
    const after = (xid: string) =>
      this.#late.get(xid) ?? (BigInt(xid) < previous.xid ? this.#unlistedAfter : previous.drawn);
    this.#late = new Map([...snapshot.inProgress].map((xid) => [xid, after(xid)]));
    this.#unlistedAfter = previous.drawn;
    // The sequence itself may not be known; what was read of it is.
    const drawn = [start.drawn, previous.drawn, BigInt(read)].reduce((a, b) => (a > b ? a : b));
    this.#complete = { start: { ...start, drawn }, snapshot };
    this.#pass = null;
  }

  /**
   * Deletes a change. Resolves when it is gone: should an open transaction have acknowledged it, when that has ended.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST
   */
  acknowledge(sequence: string): Promise<void> {
    this.#gathering.sequences.push(sequence);
    return this.#acknowledged(sequence);
  }

  /** Deletes a change, soon. If the lease is lost first, it comes again. */
  acknowledgeSoon(sequence: string): void {
    this.#gathering.sequences.push(sequence);
    if (!this.#isAcknowledging) void this.#acknowledgeAll();
  }

  /**
   * Resolves when all that was acknowledged so far is deleted, save what an open transaction has.
   * @throws {PostgresInputError} ERR_LEASE_LOST, also if nothing was left to delete; ERR_CONNECTION_LOST
   */
  flush(): Promise<void> {
    return this.#acknowledged(null);
  }

  #acknowledged(sequence: string | null): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#gathering.waiting.push({ sequence, resolve, reject });
      if (!this.#isAcknowledging) void this.#acknowledgeAll();
    });
  }

  async #acknowledgeAll(): Promise<void> {
    this.#isAcknowledging = true;
    // What is acknowledged in one turn of the event loop goes together.
    await setImmediate();
    while (this.#gathering.sequences.length > 0 || this.#gathering.waiting.length > 0) {
      const { sequences, waiting } = this.#gathering;
      this.#gathering = { sequences: [], waiting: [] };
      try {
        const locked = await this.#delete(sequences);
        this.#isContended = locked.length > 0;
        this.#gathering.sequences.push(...locked);
        for (const one of waiting) {
          if (one.sequence !== null && locked.includes(one.sequence)) this.#gathering.waiting.push(one);
          else one.resolve();
        }
      } catch (error) {
        this.#isContended = false;
        for (const { reject } of waiting) reject(error);
        if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') this.#fail(error);
      }
      if (this.#isContended) await delay(RETRY);
    }
    this.#isAcknowledging = false;
  }

  /** Returns what other transactions have. */
  async #delete(sequences: readonly string[]): Promise<readonly string[]> {
    const { holder, token } = this.#lease;
    if (token === null) throw leaseLost();
    // As text: pg would look at every character of every element, should one have to be quoted.
    const values = [`{${sequences.join(',')}}`, holder, token];
    if (!this.#isContended) {
      try {
        const held = await this.#session.query(this.#sql.acknowledge, values);
        if (held.length === 0) throw leaseLost();
        return [];
      } catch (error) {
        if ((error as { code?: string }).code !== LOCKED) throw error;
      }
    }
    const [held] = await this.#session.query<{ locked: string[] }>(this.#sql.acknowledgeUnlocked, values);
    if (!held) throw leaseLost();
    return held.locked;
  }

  /** Resolves when no caller's transaction that acknowledges is open, after `limit` milliseconds, or on abort. */
  async callersEnded(limit: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + limit;
    const pause = new Wakeup();
    while (!signal.aborted && performance.now() < deadline) {
      const [row] = await this.#session.query<{ none: boolean }>(this.#sql.noneAcknowledges);
      if (row?.none) return;
      await pause.wait(10, signal);
    }
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
