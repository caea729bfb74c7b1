/**
 * A change is in the log, or it is a row that a backfill has read. Both kinds are acknowledged and parked, each in its own way. Within a term, this is
 * the one place that asks of which kind a change is.
 */
import { NEVER } from '../postgres/sleep.ts';
import { isReadSequence } from '../schema/log-layout.ts';
import type { Acknowledgements } from './acknowledgements.ts';
import type { Acknowledger } from './acknowledger.ts';
import type { BackfillAcknowledgements } from './backfill-acknowledgements.ts';
import type { Failures } from './failures.ts';

/** For how long a COMMIT may be under way whose answer the caller did not get, in milliseconds. */
const COMMIT_TIME = 1000;

/** Acknowledges changes of both kinds. */
export class SourcesAcknowledger implements Acknowledger {
  readonly #log: Acknowledgements;
  readonly #reads: Acknowledger;

  constructor(log: Acknowledgements, reads: Acknowledger) {
    this.#log = log;
    this.#reads = reads;
  }

  #of(sequence: string): Acknowledger {
    return isReadSequence(sequence) ? this.#reads : this.#log;
  }

  acknowledge(sequence: string): Promise<void> {
    return this.#of(sequence).acknowledge(sequence);
  }

  acknowledgeSoon(sequence: string): void {
    this.#of(sequence).acknowledgeSoon(sequence);
  }

  /** The log's row of a change is locked while a caller's transaction is open. Nothing is locked of a row that a backfill has read, so the transactions are waited for. */
  async isGone(sequence: string): Promise<boolean> {
    const source = this.#of(sequence);
    if (await source.isGone(sequence)) return true;
    if (source === this.#log) return false;
    await this.#log.callersEnded(COMMIT_TIME, NEVER);
    return source.isGone(sequence);
  }

  async flush(): Promise<void> {
    await this.#log.flush();
    await this.#reads.flush();
  }

  /** What is acknowledged and perhaps not deleted from the log yet. */
  get pending(): ReadonlySet<string> {
    return this.#log.pending;
  }

  /** Resolves when no caller's transaction that acknowledges is open, after `limit` milliseconds, or on abort. */
  callersEnded(limit: number, signal: AbortSignal): Promise<void> {
    return this.#log.callersEnded(limit, signal);
  }
}

/** The failures of changes of both kinds, which one table keeps. Only parking differs, since no log has a row that a backfill has read. */
export const failuresOf = (log: Failures, reads: BackfillAcknowledgements): Failures => ({
  load: () => log.load(),
  fail: (change, failure) => log.fail(change, failure),
  park: (change, reason) =>
    isReadSequence(change.sequence) ? reads.park(change.sequence, reason) : log.park(change, reason),
  suspect: (changes) => log.suspect(changes),
  clear: (changes) => log.clear(changes),
  forget: (changes) => log.forget(changes),
});
