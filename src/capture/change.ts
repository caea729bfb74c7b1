/** A change of a row. Notification and change log both bring a logged change as the same `Change`. */
import type { Operation } from '../api/orchestrator.ts';
import { type Details, type Key, type MakeChange, READ, isReadSequence } from '../schema/log-layout.ts';
import type { Omission, RowShape } from './row-shapes.ts';

/** The values that the trigger functions write into the column `op`. */
const OPERATIONS: ReadonlyMap<string, Operation> = new Map([
  ['INSERT', 'create'],
  ['UPDATE', 'update'],
  ['DELETE', 'delete'],
  ['TRUNCATE', 'delete'],
  // No trigger function logs it. A backfill writes it when an event of a row that it read is parked.
  [READ, 'read'],
]);

/**
 * So many bytes of text weigh as much as a change. What waits is bounded by weight, since the text of a key may have a few bytes or
 * hundreds of kilobytes: 1,000 changes, or 4 MB.
 */
export const TEXT_OF_A_CHANGE = 4096;

/** The text of rows counts so many times: while a page is read and an event is made, there are copies of it. */
export const DATA_FACTOR = 16;

/**
 * A change that has not been handed out yet. Thousands of them may wait for a slow consumer. It is a class, not a literal: V8 moves
 * allocation sites whose objects survive to the old generation, where garbage is collected late.
 */
export class Change {
  /** The change's number in the log. */
  readonly sequence: string | null;
  readonly location: string;
  readonly operation: Operation;
  readonly id: string;
  readonly key: Key;
  readonly occurredAt: string | null;
  readonly transaction: string | null;
  /** What the public sequence has after the number; all of it for a redriven row that a backfill has read. */
  readonly stamp: string;
  /** Null where neither the input asks for data nor the transaction says anything of itself. */
  readonly details: Details | null;
  /** How to decode the row in `details`, or why there is none; null where the input does not ask for data. */
  shape: RowShape | Omission | null = null;

  constructor(
    sequence: string | null,
    location: string,
    operation: Operation,
    id: string,
    key: Key,
    occurredAt: string | null,
    transaction: string | null,
    stamp: string,
    details: Details | null,
  ) {
    this.sequence = sequence;
    this.location = location;
    this.operation = operation;
    this.id = id;
    this.key = key;
    this.occurredAt = occurredAt;
    this.transaction = transaction;
    this.stamp = stamp;
    this.details = details;
  }

  /** Whether it is a row that a backfill has read. One that was parked and redriven is in the log, and counts as a change. */
  get isRead(): boolean {
    return this.sequence !== null && isReadSequence(this.sequence);
  }

  /** 1 for a change of little text. */
  get weight(): number {
    let text = this.id.length;
    // A key that is a string is the name of a column.
    if (typeof this.key === 'object') for (const column in this.key) text += this.key[column]!.length;
    if (this.details) {
      const { before, after, context } = this.details;
      text += DATA_FACTOR * ((before?.length ?? 0) + (after?.length ?? 0) + (context?.length ?? 0));
    }
    return 1 + Math.floor(text / TEXT_OF_A_CHANGE);
  }
}

/** The change that a trigger function logged, whether a notification or the log brings it. */
export const changeOf: MakeChange<Change> = (seq, at, tbl, id, op, key, xid, stamp, details) =>
  op === READ
    ? redrivenRead(seq, at, tbl, id, key, stamp, details)
    : new Change(seq, tbl, OPERATIONS.get(op) ?? 'unknown', id, key, at, xid, stamp, details);

/** A row that a backfill has read, and that was parked. No transaction is known to have written it. */
function redrivenRead(
  seq: string,
  at: string,
  tbl: string,
  id: string,
  key: Key,
  stamp: string,
  details: Details | null,
): Change {
  const sequence = details?.origin ?? null;
  const row = details && { ...details, origin: null };
  return new Change(seq, tbl, 'read', id, key, at, null, sequence ?? stamp, row);
}

/** A change that somebody announced by hand: it is in no log. */
export const foreignChange = (location: string, operation: Operation, id: string): Change =>
  new Change(null, location, operation, id, null, null, null, '', null);
