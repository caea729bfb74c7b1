/** Of which row a change is, and which place it has among the changes of its row. */
import type { Change } from '../capture/change.ts';

/** By default, a lane has the changes of one row. */
export const rowOf = ({ location, key, id }: Change): string =>
  `${location}\0${typeof key === 'object' && key !== null ? JSON.stringify(key) : id}`;

/** Whether a pass of the log brings the change, in the order of its row: not if it was announced by hand, redriven, or read by a backfill. */
export const isInOrder = (change: Change): boolean =>
  change.sequence !== null && !change.sequence.startsWith('-') && !isRead(change);

/** Whether the change has no place among the changes of its row: announced by hand, or redriven. */
export const isOutOfOrder = (change: Change): boolean => !isInOrder(change) && !isRead(change);

/** Whether it is a row that a backfill has read. Its place is behind the changes that came before it. No log has it. */
export const isRead = (change: Change): boolean => change.isRead;

export const isTruncation = ({ operation, id, key }: Change): boolean =>
  id === '*' && operation === 'delete' && key === null;

/** All changes that a trigger function logs for one statement have one transaction and one time. */
export const statementOf = ({ location, transaction, occurredAt }: Change): string =>
  `${transaction} ${occurredAt} ${location}`;

/** Of two changes that were logged. */
export const isLower = (one: Change, other: Change): boolean =>
  one.sequence !== null && other.sequence !== null && BigInt(one.sequence) < BigInt(other.sequence);
