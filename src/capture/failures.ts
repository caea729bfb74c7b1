/**
 * What is known of changes that failed, and the changes that were parked.
 *
 * A change that has never failed is in the log alone. After a failure a row in the table of failures has its attempts and how long it waits, and
 * until when, so that another node goes on with them. The row is a note: it is written after the handler has failed, and what is lost with a node is
 * at most one count. Rows of changes that are gone from the log are swept at the beginning of a term. The failures of rows that a backfill has
 * read are kept here too, under a number that no change has, until their backfill is over.
 *
 * To park a change moves it from the log to the table of parked changes. To redrive it moves it back, under the negative of its number:
 * no pass meets it there, since passes begin above zero. The active node reads such rows at the beginning of its term, and when it is told. It
 * knows by their numbers which of them it has read.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { PostgresInputError } from '../api/errors.ts';
import type { Session } from '../postgres/session.ts';
import { LOCKED, isMissing, isPrivilegeError } from '../postgres/sqlstates.ts';
import { isReadSequence, numberOf, original, publicSequence, redriven } from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { type Hold, RETRY, leaseLost } from './acknowledgements.ts';
import { type FailuresSql, failuresSql } from './failures-sql.ts';
import { rowsThatHold } from './named-rows.ts';

/** A change in the log, or a row that a backfill has read, as `Change` names it. */
export interface LoggedChange {
  readonly sequence: string;
  readonly stamp: string;
}

export interface Failure extends LoggedChange {
  /** How many times it failed. */
  readonly attempts: number;
  readonly error: string | null;
  /** Milliseconds from now until it may come again; 0 or less: now. */
  readonly delay: number;
  /** How many times it was suspected, and its node died. */
  readonly deaths: number;
}

export interface Failures {
  /** All that is known, at the beginning of a term. */
  load(): Promise<readonly Failure[]>;
  /** Notes a failure. Those of one turn of the event loop go together. */
  fail(
    change: LoggedChange,
    failure: { readonly error: string; readonly delay: number; readonly attempts: number },
  ): Promise<void>;
  /** Moves a change out of the log to the parked ones. Returns whether it was there: a caller's transaction may have acknowledged it meanwhile. */
  park(change: LoggedChange, reason: { readonly error: string; readonly attempts: number }): Promise<boolean>;
  /** To be called before suspects are handed out: each is counted as dead until it is cleared. */
  suspect(changes: readonly LoggedChange[]): Promise<void>;
  /** These killed no node. */
  clear(changes: readonly LoggedChange[]): Promise<void>;
  /** These were acknowledged: nothing of them is kept. */
  forget(changes: readonly LoggedChange[]): Promise<void>;
}

interface FailureRow {
  readonly sequence: string;
  readonly seq: string;
  readonly attempts: number;
  readonly deaths: number;
  readonly error: string | null;
  readonly delay: number;
}

interface Noted {
  readonly change: LoggedChange;
  readonly failure: { readonly error: string; readonly delay: number; readonly attempts: number };
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** Of an error's text, in characters: enough for a stack. */
const MAX_ERROR = 10_000;

/** The failures of an input, written under the lease. Every method throws ERR_LEASE_LOST, ERR_CONNECTION_LOST, and ERR_INSTALL where a right is missing. */
export class FailureTable implements Failures {
  readonly #session: Session;
  readonly #hold: Hold;
  readonly #sql: FailuresSql;
  #gathering: Noted[] = [];

  readonly #onParked: (sequence: string) => void;

  /** `onParked` is called with the number of each change that was parked. */
  constructor(session: Session, names: Names, hold: Hold, onParked: (sequence: string) => void = () => {}) {
    this.#onParked = onParked;
    this.#session = session;
    this.#hold = hold;
    this.#sql = failuresSql(names);
  }

  async load(): Promise<readonly Failure[]> {
    await refusedClearly(() => this.#session.query(this.#sql.sweep));
    let rows = await this.#session.query<FailureRow>(this.#sql.load);
    // Who has no part in backfills need not have rights on their table.
    if (rows.some(({ sequence, seq }) => isReadSequence(sequence) && seq === numberOf(sequence))) {
      await refusedClearly(() => this.#session.query(this.#sql.sweepReads));
      rows = await this.#session.query<FailureRow>(this.#sql.load);
    }
    return rows.map(({ sequence, seq, ...known }) => ({ ...known, ...changeNamed(sequence, seq) }));
  }

  fail(change: LoggedChange, failure: Noted['failure']): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#gathering.push({ change, failure, resolve, reject });
      if (this.#gathering.length === 1) setImmediate(() => void this.#noteAll());
    });
  }

  async park(
    change: LoggedChange,
    { error, attempts }: { error: string; attempts: number },
  ): Promise<boolean> {
    const { sequence } = change;
    const isParked = await this.#parkUnlocked([
      [sequence],
      rowsThatHold([sequence]),
      nameOf(change),
      attempts,
      stored(error, this.#session.encoding),
    ]);
    this.#onParked(sequence);
    return isParked;
  }

  async #parkUnlocked(values: readonly unknown[]): Promise<boolean> {
    const park = () => unlocked(() => this.#write(this.#sql.park, values));
    // Twice, since another session may unpack a row meanwhile.
    return (await park()) || park();
  }

  async suspect(changes: readonly LoggedChange[]): Promise<void> {
    if (changes.length === 0) return;
    await this.#write(this.#sql.suspect, [
      changes.map(nameOf),
      changes.map(({ sequence }) => numberOf(sequence)),
    ]);
  }

  async clear(changes: readonly LoggedChange[]): Promise<void> {
    if (changes.length > 0) await this.#write(this.#sql.clear, [changes.map(nameOf)]);
  }

  async forget(changes: readonly LoggedChange[]): Promise<void> {
    if (changes.length > 0) await this.#write(this.#sql.forget, [changes.map(nameOf)]);
  }

  async #noteAll(): Promise<void> {
    const noted = this.#gathering;
    this.#gathering = [];
    // On a busy machine a change may fail twice within a turn. The statement can write a row only once, and the last failure counts.
    const last = [...new Map(noted.map((one) => [nameOf(one.change), one])).values()];
    try {
      await this.#write(this.#sql.fail, [
        last.map(({ change }) => nameOf(change)),
        last.map(({ change }) => numberOf(change.sequence)),
        last.map(({ failure }) => failure.attempts),
        last.map(({ failure }) => stored(failure.error, this.#session.encoding)),
        last.map(({ failure }) => failure.delay),
      ]);
      for (const { resolve } of noted) resolve();
    } catch (error) {
      for (const { reject } of noted) reject(error);
    }
  }

  /** Runs a statement whose second and third value are the lease's holder and token. Returns whether it has found what it was to find. */
  async #write(
    statement: FailuresSql[keyof FailuresSql],
    [first, ...rest]: readonly unknown[],
  ): Promise<boolean> {
    const { holder, token } = this.#hold;
    if (token === null) throw leaseLost();
    const values = [first, holder, token, ...rest];
    const [held] = await refusedClearly(() => this.#session.query<{ found?: boolean }>(statement, values));
    if (!held) throw leaseLost();
    return held.found ?? true;
  }
}

const nameOf = ({ sequence, stamp }: LoggedChange): string => publicSequence(sequence, stamp);

/** The change that has this public sequence, and this number. */
function changeNamed(name: string, seq: string): LoggedChange {
  if (!isReadSequence(name)) return { sequence: seq, stamp: name.slice(original(seq).length) };
  return seq === redriven(numberOf(name)) ? { sequence: seq, stamp: name } : { sequence: name, stamp: '' };
}

/** A statement is tried again while a caller's open transaction has the change: if that is rolled back, the change is there. */
export async function unlocked<Result>(task: () => Promise<Result>): Promise<Result> {
  for (;;) {
    try {
      return await task();
    } catch (error) {
      if ((error as { code?: string }).code !== LOCKED) throw error;
      await delay(RETRY);
    }
  }
}

/** The text of an error as the tables keep it: PostgreSQL's text has no NUL, and that of a database in LATIN1, for instance, not all characters. */
export function stored(error: string, encoding: string): string {
  const text = error.slice(0, MAX_ERROR).replaceAll('\0', '\uFFFD');
  if (encoding === 'UTF8') return text;
  return text.replaceAll(
    /[^\0-\x7F]/g,
    (unit) => String.raw`\u` + unit.charCodeAt(0).toString(16).padStart(4, '0'),
  );
}

/** @throws {PostgresInputError} ERR_INSTALL where the tables or the rights on them are missing; retryable if a table is, since a node that joins makes it */
export async function refusedClearly<Result>(
  task: () => Promise<Result>,
  what = "failed and parked changes can't be kept",
): Promise<Result> {
  try {
    return await task();
  } catch (cause) {
    if (!isPrivilegeError(cause) && !isMissing(cause)) throw cause;
    throw new PostgresInputError(
      'ERR_INSTALL',
      `${what} (${(cause as Error).message}): install again, or have a DBA run what ` +
        '`plan --grant-to` prints',
      { cause, retryable: isMissing(cause) },
    );
  }
}
