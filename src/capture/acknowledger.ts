/** How the changes of one kind are acknowledged: those that the log has, or the rows that a backfill has read. */
export interface Acknowledger {
  /**
   * Resolves when the change is acknowledged; if an open transaction has acknowledged it, when that transaction has ended.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST
   */
  acknowledge(sequence: string): Promise<void>;
  /** The same, where nobody waits. If the lease is lost first, the change comes again. */
  acknowledgeSoon(sequence: string): void;
  /**
   * Whether a change is gone that a caller's transaction has acknowledged: the transaction has committed.
   * @throws {PostgresInputError} ERR_CONNECTION_LOST
   */
  isGone(sequence: string): Promise<boolean>;
  /** Resolves when what was acknowledged so far is written. @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST */
  flush(): Promise<void>;
}
