/** Where the changes of a term are kept until they are over: all that the delivery asks of it. A {@link Capture} is one, over the tables of a database. */
import type { Failures } from './failures.ts';

export interface Store {
  readonly acknowledgements: StoreAcknowledgements;
  readonly failures: Failures;
  readonly backfills: {
    /** The consumer had no room for a row that a backfill has read: it has to be read anew. */
    readAgain(sequence: string): void;
    /** To be called before a caller's transaction acknowledges such a row. Returns whether the row is out in this term. */
    noteRead(sequence: string): boolean;
    /** Whether the term has the lease at this moment. */
    isLeaseHeld(): Promise<boolean>;
  };
  /** To be called when changes were dropped, or are wanted again. */
  readAgain(): void;
  /** The number under which the store has the change of a public sequence, whose number is given. */
  numberOf(seq: string): string;
}

export interface StoreAcknowledgements {
  /** Resolves when the change is gone. @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST */
  acknowledge(sequence: string): Promise<void>;
  /** The same, where nobody waits. If the lease is lost first, the change comes again. */
  acknowledgeSoon(sequence: string): void;
  /** What is acknowledged and may still be there. */
  readonly pending: ReadonlySet<string>;
  /** Whether a change that a caller's transaction has acknowledged is gone, once that transaction has ended. */
  isGone(sequence: string): Promise<boolean>;
  /** Resolves when no caller's transaction that acknowledges is open, after `limit` milliseconds, or on abort. */
  callersEnded(limit: number, signal: AbortSignal): Promise<void>;
  /** Resolves when all that was acknowledged is gone. @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST */
  flush(): Promise<void>;
}
