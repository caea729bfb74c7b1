/**
 * Acknowledges changes: deletes them from the change log, fenced by the lease.
 *
 * A packed row of the log holds many changes. It is deleted when one of them is acknowledged; the same statement puts the other changes
 * back as single rows under their own sequences. Where all changes of a row are acknowledged together, nobody looks into the row. To find them in its texts
 * costs several times as much as to delete it, so the first changes of a row wait for the others, from one DELETE to the next.
 *
 * Acknowledgements are pipelined: while one DELETE is under way, others gather for the next one. After a DELETE of few changes they gather a
 * little longer, unless somebody waits for them: each DELETE makes the disk flush, and the application's commits wait for that. A change that a caller's open
 * transaction has acknowledged is tried again until that transaction has ended: it may roll back.
 *
 * models/reading.pml checks partial acknowledgements, and callers' acknowledgements that roll back, while others unpack the row.
 */
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { PostgresInputError } from '../api/errors.ts';
import type { Session } from '../postgres/session.ts';
import { NEVER, sleep } from '../postgres/sleep.ts';
import { LOCKED, isColumnMissing } from '../postgres/sqlstates.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { numberInRow, putBackFast, writtenRow } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type AcknowledgementsSql, acknowledgementsSql } from './acknowledgements-sql.ts';
import type { Acknowledger } from './acknowledger.ts';
import { type Named, array, rowsThatHold, takeUnfinished, withWholeRows, writtenRows } from './named-rows.ts';

/** The lease under which a term acknowledges. `token` is null as soon as the lease is lost or released. */
export interface Hold {
  readonly holder: string;
  readonly token: string | null;
}

/** A row of the log in which a change may be that was asked for. */
interface LeftRow {
  readonly seq: string;
  /** Whether no transaction has it. */
  readonly free: boolean;
  readonly packed: boolean;
}

interface Batch {
  readonly sequences: string[];
  readonly waiting: {
    /** The change that has to be deleted; null for a flush, which waits for no open transaction. */
    readonly sequence: string | null;
    readonly resolve: () => void;
    readonly reject: (error: unknown) => void;
  }[];
}

/** Milliseconds until changes that another transaction has are tried again. */
export const RETRY = 20;
/** For how long acknowledgements gather after a DELETE of fewer changes than that, in milliseconds; not longer than there are fewer. */
const GATHERING = { few: 500, time: 10 };

export class Acknowledgements implements Acknowledger {
  readonly #session: Session;
  readonly #hold: Hold;
  #sql: AcknowledgementsSql;
  readonly #names: Names;
  #gathering: Batch = { sequences: [], waiting: [] };
  /** What the statement under way deletes. */
  #deleting: readonly string[] = [];
  readonly #asking = new Set<string>();
  #asked: Promise<ReadonlyMap<string, LeftRow>> | null = null;
  #isAcknowledging = false;
  /** Ends the gathering. */
  readonly #enough = new Wakeup();
  /** Whether the statement for any change has run, which needs more rights than that for single rows: a right that is missing is told at once. */
  #hasRights = false;
  /** Whether another transaction had some of the changes that were acknowledged last. */
  #isContended = false;
  /** Called when an acknowledgement failed although the lease is held: its changes would come again. */
  readonly #fail: (error: unknown) => void;

  constructor(session: Session, names: Names, hold: Hold, fail: (error: unknown) => void) {
    this.#session = session;
    this.#hold = hold;
    this.#names = names;
    this.#sql = acknowledgementsSql(names, putBackFast);
    this.#fail = fail;
  }

  /**
   * Deletes a change. Resolves when the change is gone; if an open transaction has acknowledged it, when that transaction has ended.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST
   */
  async acknowledge(sequence: string): Promise<void> {
    this.#gathering.sequences.push(sequence);
    return this.#acknowledged(sequence);
  }

  /** Deletes a change, soon. If the lease is lost first, it comes again. */
  acknowledgeSoon(sequence: string): void {
    const { sequences } = this.#gathering;
    sequences.push(sequence);
    if (!this.#isAcknowledging) void this.#acknowledgeAll();
    else if (sequences.length === GATHERING.few) this.#enough.wake();
  }

  /**
   * Resolves when all changes that were acknowledged so far are deleted, except those that an open transaction has.
   * @throws {PostgresInputError} ERR_LEASE_LOST, also if nothing was left to delete; ERR_CONNECTION_LOST
   */
  async flush(): Promise<void> {
    await this.#acknowledged(null);
  }

  /** What is acknowledged and perhaps not deleted yet. */
  get pending(): ReadonlySet<string> {
    return new Set([...this.#deleting, ...this.#gathering.sequences]);
  }

  #acknowledged(sequence: string | null): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#gathering.waiting.push({ sequence, resolve, reject });
      if (!this.#isAcknowledging) void this.#acknowledgeAll();
      else this.#enough.wake();
    });
  }

  async #acknowledgeAll(): Promise<void> {
    this.#isAcknowledging = true;
    // All changes that are acknowledged in one turn of the event loop go together.
    await setImmediate();
    while (this.#gathering.sequences.length > 0 || this.#gathering.waiting.length > 0) {
      const { sequences, waiting } = this.#gathering;
      this.#gathering = { sequences: [], waiting: [] };
      if (waiting.length === 0) this.#gathering.sequences.push(...takeUnfinished(sequences));
      this.#deleting = sequences;
      try {
        const locked = await this.#deleteFromAnyLog(sequences);
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
      this.#deleting = [];
      if (this.#isContended) await delay(RETRY);
      else if (sequences.length < GATHERING.few && !this.#isWorthIt)
        await this.#enough.wait(GATHERING.time, NEVER);
    }
    this.#isAcknowledging = false;
  }

  get #isWorthIt(): boolean {
    return this.#gathering.waiting.length > 0 || this.#gathering.sequences.length >= GATHERING.few;
  }

  /** The log may still be without the columns of version 4. */
  async #deleteFromAnyLog(sequences: readonly string[]): Promise<readonly string[]> {
    try {
      return await this.#delete(sequences);
    } catch (error) {
      if (!isColumnMissing(error)) throw error;
      this.#sql = acknowledgementsSql(this.#names);
      return this.#delete(sequences);
    }
  }

  /** Returns the sequences that other transactions have. */
  async #delete(sequences: readonly string[]): Promise<readonly string[]> {
    const { holder, token } = this.#hold;
    if (token === null) throw leaseLost();
    const hold = [holder, token];
    if (!this.#isContended) {
      try {
        const isSingle = this.#hasRights && sequences.every((sequence) => numberInRow(sequence) === 0);
        await (isSingle ? this.#deleteSingle(sequences, hold) : this.#deleteAny(sequences, hold));
        this.#hasRights = true;
        return [];
      } catch (error) {
        if ((error as { code?: string }).code !== LOCKED) throw error;
      }
    }
    const values = [array(sequences), ...hold, array(rowsThatHold(sequences))];
    const [held] = await this.#session.query<{ locked: string[] }>(this.#sql.acknowledgeUnlocked, values);
    if (!held) throw leaseLost();
    return held.locked;
  }

  async #deleteSingle(sequences: readonly string[], hold: readonly string[]): Promise<void> {
    const [held] = await this.#session.query(this.#sql.acknowledgeSingle, [array(sequences), ...hold]);
    if (!held) throw leaseLost();
  }

  async #deleteAny(sequences: readonly string[], hold: readonly string[]): Promise<void> {
    const oneByOne: Named = { each: sequences, rows: [], sizes: [] };
    const together = withWholeRows(sequences);
    let found = 0;
    // The packed rows that were looked for one by one: they are gone. After the sequence was set back, one that is not meant may have such a number.
    const opened = new Set<string>();
    // One by one twice, since another session may unpack a row meanwhile.
    for (const { each, rows, sizes } of together.rows.length > 0
      ? [together, oneByOne, oneByOne]
      : [oneByOne, oneByOne]) {
      const written = [...writtenRows(each)].filter((row) => !opened.has(row));
      const values = [
        array(each),
        ...hold,
        array([...each, ...written, ...rows]),
        array(rows),
        array(sizes),
        array(written),
      ];
      const [held] = await this.#session.query<{ found: number }>(this.#sql.acknowledge, values);
      if (!held) throw leaseLost();
      found += held.found;
      if (found >= sequences.length) return;
      for (const row of written) if (!rows.includes(row)) opened.add(row);
    }
  }

  /**
   * Whether a change is gone that a caller's transaction has acknowledged: the transaction has committed. Resolves when the transaction has ended.
   * @throws {PostgresInputError} ERR_CONNECTION_LOST
   */
  async isGone(sequence: string): Promise<boolean> {
    for (;;) {
      const left = await this.#left(sequence);
      if (left !== 'locked') return left === 'gone';
      await delay(RETRY);
    }
  }

  /** All changes that are asked for in one turn of the event loop go together. */
  async #left(sequence: string): Promise<'gone' | 'free' | 'locked'> {
    this.#asked ??= (async () => {
      await setImmediate();
      const values = [array(rowsThatHold([...this.#asking]))];
      this.#asking.clear();
      this.#asked = null;
      const rows = await this.#session.query<LeftRow>(this.#sql.left, values);
      return new Map(rows.map((row) => [row.seq, row]));
    })();
    this.#asking.add(sequence);
    const asked = await this.#asked;
    const own = asked.get(sequence);
    // A change is in its packed row until somebody unpacks that. Then another change may get the row's number, if the sequence is set back.
    const written = asked.get(writtenRow(sequence));
    const row = own ?? (written?.packed ? written : undefined);
    return row === undefined ? 'gone' : row.free ? 'free' : 'locked';
  }

  /** Resolves when no caller's transaction that acknowledges is open, after `limit` milliseconds, or on abort. */
  async callersEnded(limit: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + limit;
    while (!signal.aborted && performance.now() < deadline) {
      const [row] = await this.#session.query<{ ended: boolean }>(this.#sql.callersEnded);
      if (row?.ended) return;
      await sleep(10, signal);
    }
  }
}

export const leaseLost = (): PostgresInputError =>
  new PostgresInputError(
    'ERR_LEASE_LOST',
    'another node holds the lease now, and the event is or will be acknowledged there: roll back what was done for it',
  );
