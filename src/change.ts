/** A change of a row, as both roads, the notification and the change log, bring it, and the event it becomes. */
import type { Event, Operation } from './orchestrator.ts';

/** An event of this package: a change of a row, with what it takes to process it safely. */
export interface ChangeEvent extends Event {
  /**
   * Unique and stable for this change under this input's id: the key by which to tell a repeat. Null for a
   * notification that somebody sent by hand.
   */
  sequence: string | null;
  /** The row's primary key, column by column, as PostgreSQL prints it; null where there is no row or no key. */
  key: Record<string, string> | null;
  /** When the change was written: ISO 8601, UTC, to the microsecond. Null for a notification sent by hand. */
  occurredAt: string | null;
  /** The lease's token under which this was handed out: a later holder's is greater. */
  fencingToken: string | null;
}

/** A change that is not yet bound to a holder of the lease. */
export type Change = Omit<ChangeEvent, 'trigger' | 'fencingToken'>;

/** The column `key` of the log, parsed: a string is the name of the column that the id was taken from. */
export type LoggedKey = string | Record<string, string> | null;

/** What the trigger functions write into the column `op`. */
const OPERATIONS: ReadonlyMap<string, Operation> = new Map([
  ['INSERT', 'create'],
  ['UPDATE', 'update'],
  ['DELETE', 'delete'],
  ['TRUNCATE', 'delete'],
]);

export const changeOf = (
  sequence: string,
  occurredAt: string,
  location: string,
  id: string,
  op: string,
  key: LoggedKey,
): Change => ({
  sequence,
  location,
  operation: OPERATIONS.get(op) ?? 'unknown',
  id,
  key: typeof key === 'string' ? { [key]: id } : key,
  occurredAt,
});

export const eventOf = (change: Change, trigger: string, fencingToken: string | null): ChangeEvent => ({
  location: change.location,
  operation: change.operation,
  id: change.id,
  trigger,
  sequence: change.sequence,
  key: change.key,
  occurredAt: change.occurredAt,
  fencingToken,
});
