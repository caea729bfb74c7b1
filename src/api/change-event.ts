import type { Event } from './orchestrator.ts';

/** A row, column by column, as a SELECT of node-postgres returns it. */
export type Row = Record<string, unknown>;

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
  /** The row as it was before an update or delete, with `rows: 'both'`; else null. */
  before: Row | null;
  /** The row as a create, update or read left it, with `rows: 'after'` or `'both'`; else null. */
  after: Row | null;
  /** Of an update with `rows: 'both'`, the columns that differ; else null. */
  changed: readonly string[] | null;
  /**
   * Why there is no data although it was asked for: a side of the row is longer than `maxRowBytes`, or PostgreSQL can't print it. Null where
   * nothing is missing.
   */
  dataOmitted: 'too-large' | 'unreadable' | null;
  /** The id of the transaction that made the change, the same for all its changes. Null for a notification sent by hand. */
  transaction: string | null;
  /** Who wrote it, as the transaction says itself: the setting `postgres_input.origin`. Null: it does not say. */
  origin: string | null;
  /** What the transaction says of itself: the JSON in the setting `postgres_input.context`; a text that is not JSON, as it is. Null: nothing. */
  context: unknown;
  /** 1, and one more for every time that this event failed. */
  attempt: number;
  /** The lease's token under which this was handed out: a later holder's is greater. */
  fencingToken: string | null;
}

/** An event that was taken out of the way after it had failed. It is kept until it is redriven or discarded. */
export interface ParkedEvent extends ChangeEvent {
  /** How many times it failed. */
  attempts: number;
  /** What the last failure said. */
  error: string;
  /** When it was parked: ISO 8601, UTC. */
  parkedAt: string;
}
