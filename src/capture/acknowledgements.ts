/**
 * What is acknowledged, that is deleted from the change log, fenced by the lease.
 *
 * A row of the log may hold many changes. It is deleted when one of them is acknowledged, and what of it is not yet is put
 * back in the same statement, under the sequences that it has, a row each.
 *
 * Acknowledgements are pipelined: one DELETE is under way, the next takes all that gathered meanwhile. A change that some
 * transaction of a caller's has acknowledged and not committed is tried again until that has ended: it may roll back.
 */
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Lease } from '../node/lease.ts';
import type { Session } from '../postgres/session.ts';
import { sleep } from '../postgres/sleep.ts';
import { LOCKED } from '../postgres/sqlstates.ts';
import { STRIDE } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type AcknowledgementsSql, acknowledgementsSql } from './acknowledgements-sql.ts';

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

export class Acknowledgements {
  readonly #session: Session;
  readonly #lease: Lease;
  readonly #sql: AcknowledgementsSql;
  #gathering: Batch = { sequences: [], waiting: [] };
  #isAcknowledging = false;
  /** Whether another transaction had some of what was acknowledged last. */
  #isContended = false;
  /** Told of an acknowledgement that failed although the lease is held: what it named would come again. */
  readonly #fail: (error: unknown) => void;

  constructor(session: Session, names: Names, lease: Lease, fail: (error: unknown) => void) {
    this.#session = session;
    this.#lease = lease;
    this.#sql = acknowledgementsSql(names);
    this.#fail = fail;
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
    const values = [array(sequences), holder, token, array(rowsThatHold(sequences))];
    if (!this.#isContended) {
      try {
        // Once more, should a row have been unpacked meanwhile, in another session.
        for (let attempt = 0; attempt < 2; attempt++) {
          const [held] = await this.#session.query<{ found: number }>(this.#sql.acknowledge, values);
          if (!held) throw leaseLost();
          if (held.found >= sequences.length) break;
        }
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
    while (!signal.aborted && performance.now() < deadline) {
      const [row] = await this.#session.query<{ none: boolean }>(this.#sql.noneAcknowledges);
      if (row?.none) return;
      await sleep(10, signal);
    }
  }
}

// As text: pg would look at every character of every element, should one have to be quoted.
const array = (sequences: Iterable<string>): string => `{${[...sequences].join(',')}}`;

const DIGITS = String(STRIDE).length - 1;
const OF_A_ROW = '0'.repeat(DIGITS);

/** The row that was written with a change: its own, if it was the row's only one. */
const rowThatPacks = (sequence: string): string => sequence.slice(0, -DIGITS) + OF_A_ROW;

/** The rows in which changes may be: those that were written, and those that took their place. */
function rowsThatHold(sequences: readonly string[]): Iterable<string> {
  const rows = new Set(sequences);
  for (const sequence of sequences) rows.add(rowThatPacks(sequence));
  return rows;
}

/**
 * Deletes the change in a transaction of the caller's, so that it is gone if and only if that commits. A change in a packed row is given a
 * row of its own first, in a session of ours: in the caller's transaction it would keep all others waiting.
 * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECT
 */
export async function acknowledgeIn(
  client: pg.ClientBase,
  names: Names,
  { sequence, fencingToken }: ChangeEvent,
  inSession: (task: (session: Session) => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const { acknowledgeInTransaction, unpack } = acknowledgementsSql(names);
  const found = async (...rows: string[]) =>
    (await client.query(acknowledgeInTransaction.text, [array(rows), fencingToken])).rowCount !== 0;
  if (await found(sequence!)) return;
  const row = rowThatPacks(sequence!);
  if (row === sequence) throw leaseLost();
  await inSession((session) => session.query(unpack, ['{}', array([row])]));
  if (!(await found(sequence!, row))) throw leaseLost();
}

export const leaseLost = (): PostgresInputError =>
  new PostgresInputError(
    'ERR_LEASE_LOST',
    'another node holds the lease now, and the event is or will be acknowledged there: roll back what was done for it',
  );
