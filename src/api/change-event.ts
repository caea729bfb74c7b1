import type { Event } from './orchestrator.ts';

/** An event of this package: a change of a row, with what it takes to process it safely. */
export interface ChangeEvent extends Event {
  /**
   * Unique and stable for this change under this input's id: the key by which to tell a repeat. Digits, as a rule more
   * than a bigint holds: store it as text or numeric. Null for a notification that somebody sent by hand.
   */
  sequence: string | null;
  /** The row's primary key, column by column, as PostgreSQL prints it; null where there is no row or no key. */
  key: Record<string, string> | null;
  /** When the change was written: ISO 8601, UTC, to the microsecond. Null for a notification sent by hand. */
  occurredAt: string | null;
  /** The id of the transaction that made the change, the same for all its changes. Null for a notification sent by hand. */
  transaction: string | null;
  /** The lease's token under which this was handed out: a later holder's is greater. */
  fencingToken: string | null;
}
