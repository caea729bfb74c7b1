import type { Event, Operation } from './orchestrator.ts';

/** A row, column by column, as a SELECT of node-postgres returns it. */
export type Row = Record<string, unknown>;

/**
 * The tables of an input without a type argument: any may be there, with any columns. This is `any` so that TypeScript takes an input of
 * known tables for an input of any tables. No member of an event gets the type `any` from it.
 */
export type AnyTables = any;

/** One kind of change. Its type arguments narrow together: `operation` tells which sides of the row there can be. */
export interface RowChange<
  Location extends string,
  Kind extends Operation,
  Before extends Row | null,
  After extends Row | null,
  Changed extends readonly string[] | null,
> extends Event {
  location: Location;
  operation: Kind;
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
  before: Before;
  /** The row as a create, update or read left it, with `rows: 'after'` or `'both'`; else null. */
  after: After;
  /** Of an update with `rows: 'both'`, the columns that differ; else null. */
  changed: Changed;
  /**
   * Why there is no data although it was asked for: a side of the row is longer than `maxRowBytes`, or PostgreSQL can't print it. Null where
   * nothing is missing.
   */
  dataOmitted: 'too-large' | 'unreadable' | null;
  /** The id of the transaction that made the change, the same for all its changes. Null for a `read` event, and for a notification sent by hand. */
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

/**
 * An event of this package: a change of a row, with what it takes to process it safely.
 *
 * `Tables` maps each location ('orders', 'crm.notes') to the type of its rows. With it, `location` and `operation` narrow `before`, `after`
 * and `changed`. A side of the row stays nullable where the operation has that side, because `rows` may not ask for the side, `dataOmitted` may
 * tell why it is missing, and an event that was sent by hand has no data. The rows themselves are not checked: `Tables` is a promise of the
 * caller. It has to name every table that is watched, and only the columns that events carry.
 */
export type ChangeEvent<Tables extends RowsByLocation<Tables> = AnyTables> = string extends keyof Tables
  ? RowChange<string, Operation, Row | null, Row | null, readonly string[] | null>
  : { [Location in keyof Tables & string]: ChangeOf<Location, Columns<Tables[Location]>> }[keyof Tables &
      string];

/** What a type argument `Tables` has to be. It refers to itself because an interface has no index signature, and is welcome too. */
export type RowsByLocation<Tables> = { [Location in keyof Tables]: object };

type ChangeOf<Location extends string, R extends Row> =
  | RowChange<Location, 'create' | 'read', null, R | null, null>
  | RowChange<Location, 'update', R | null, R | null, readonly (keyof R & string)[] | null>
  | RowChange<Location, 'delete', R | null, null, null>
  | RowChange<Location, 'unknown', null, null, null>;

/** The same row as a type that also fits {@link Row}, which an interface does not. */
type Columns<R> = { [Column in keyof R]: R[Column] };

/** What an event that was taken out of the way has beside the event. */
interface Parking {
  /** How many times it failed. */
  attempts: number;
  /** What the last failure said. */
  error: string;
  /** When it was parked: ISO 8601, UTC. */
  parkedAt: string;
}

/** An event that was taken out of the way after it had failed. It is kept until it is redriven or discarded. */
export type ParkedEvent<Tables extends RowsByLocation<Tables> = AnyTables> = ChangeEvent<Tables> & Parking;
