/** The lines in which changes wait for their turn. */
import type { Change } from '../capture/change.ts';
import type { Timer } from './clock.ts';
import { isLower, isRead } from './row-order.ts';

/** A change on its way through the lanes. */
export class Ticket {
  readonly change: Change;
  /** Null if it holds nobody up but its table. */
  readonly lane: Lane | null;
  readonly table: Table | null;
  /** The DELETEs of its statement, if this is one of them. */
  readonly deletes: Deletes | null;
  /** When it may come again, by the clock. */
  notBefore = 0;
  /** How many changes had arrived when it did. */
  arrival = 0;

  constructor(change: Change, lane: Lane | null, table: Table | null, deletes: Deletes | null) {
    this.change = change;
    this.lane = lane;
    this.table = table;
    this.deletes = deletes;
  }
}

export interface Line {
  waiting: Ticket[];
  /** The lowest sequence that was dropped; null if none was. */
  from: bigint | null;
}

export interface Lane extends Line {
  readonly key: string;
  /** Whether a change of the lane is ready, in hand, waits for its time, or for the DELETEs of its statement. */
  isBusy: boolean;
  /** Its change that waits for its time in memory. */
  timed: { readonly ticket: Ticket; readonly timer: Timer } | null;
  /** Its change that waits for the DELETEs of its statement. */
  heldUp: HeldUp | null;
}

/** A change that waits for the DELETEs of its statement. */
export interface HeldUp {
  readonly lane: Lane;
  readonly sequence: bigint;
  readonly deletes: Deletes;
  /** Null if there was no room for it: it was dropped, and is read again when the DELETEs are over. */
  readonly ticket: Ticket | null;
}

export interface Table extends Line {
  /** How many changes have passed the table's line and are not over, also those that their lane has dropped. */
  underWay: number;
  /** The truncation that waits or is in hand. */
  truncation: Ticket | null;
  /** Whether the truncation waits until nothing is under way. */
  isTruncationBarred: boolean;
  /** Whether all that was dropped has been offered up to `from`: what arrives below passes. */
  isReading: boolean;
}

/** The DELETEs of one statement that are not over, and the statement's changes that wait for them. */
export interface Deletes {
  readonly statement: string;
  left: number;
  readonly waiting: Set<HeldUp>;
}

export const isLane = (line: Line): line is Lane => 'key' in line;
export const isTable = (line: Line): line is Table => 'truncation' in line;

export const isIdle = (line: {
  isBusy?: boolean;
  truncation?: Ticket | null;
  waiting: readonly Ticket[];
}): boolean => !line.isBusy && !line.truncation && line.waiting.length === 0;

/** Of two changes of a row. A sequence says nothing of when a row was read. */
export const isBefore = (one: Ticket, other: Ticket): boolean =>
  isRead(one.change) || isRead(other.change)
    ? one.arrival < other.arrival
    : isLower(one.change, other.change);
