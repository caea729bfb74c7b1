/** The lines in which changes wait for their turn: a lane for each key, and a line for each table. */
import type { Change } from '../capture/change.ts';
import type { Timer } from './clock.ts';
import type { Deletes, HeldUp } from './key-changes.ts';
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

abstract class WaitingLine {
  waiting: Ticket[] = [];
  /** The lowest sequence that was dropped; null if none was. */
  from: bigint | null = null;
  /** Whether nothing is in the line, or between the line and its end. */
  abstract readonly isIdle: boolean;
}

export type Line = Lane | Table;

/** Where a change counts as under way. */
export type Place = Table | Deletes;

/** The line of a key. */
export class Lane extends WaitingLine {
  readonly key: string;
  /** Whether a change of the lane is ready, in hand, waits for its time, or for the DELETEs of its statement. */
  isBusy = false;
  /** Its change that waits for its time in memory. */
  timed: { readonly ticket: Ticket; readonly timer: Timer } | null = null;
  /** Its change that waits for the DELETEs of its statement. */
  heldUp: HeldUp | null = null;
  /** The highest sequence that it has dropped of each table, and of the DELETEs of each statement. */
  #dropped: Map<Place, bigint> | null = null;

  constructor(key: string) {
    super();
    this.key = key;
  }

  get isIdle(): boolean {
    return !this.isBusy && this.waiting.length === 0;
  }

  /**
   * The change is dropped. Instead of it, the lane itself is under way in the table and among the DELETEs, once for all that it drops there: whether these changes
   * are still in the log is not known until the log has been read again beyond them.
   */
  drop({ change, table, deletes }: Ticket): void {
    const sequence = BigInt(change.sequence!);
    this.#dropped ??= new Map();
    for (const place of [table, deletes]) {
      if (!place) continue;
      const highest = this.#dropped.get(place);
      if (highest === undefined || highest < sequence) this.#dropped.set(place, sequence);
      if (highest !== undefined) place.underWay--;
    }
  }

  /** Takes out the places where the lane itself is not under way any more: the log has been read again up to `from`. */
  leavePassed(): Place[] {
    const passed: Place[] = [];
    for (const [place, highest] of this.#dropped ?? [])
      if (this.from === null || highest < this.from) passed.push(place);
    for (const place of passed) this.#dropped!.delete(place);
    return passed;
  }
}

/** The line of a table. A truncation waits here until nothing of the table is under way, and all that comes after it waits for the truncation. */
export class Table extends WaitingLine {
  /** How many changes in memory have passed the table's line and are not over, and how many lanes have dropped such changes. */
  underWay = 0;
  /** The truncation that waits or is in hand. */
  truncation: Ticket | null = null;
  /** Whether the truncation waits until nothing is under way. */
  #isBarred = false;
  /** Whether all that was dropped has been offered up to `from`: what arrives below passes. */
  isReading = false;

  get isIdle(): boolean {
    return this.truncation === null && this.waiting.length === 0;
  }

  /** Whether the change has to wait in the line. */
  isShutFor({ sequence }: Change): boolean {
    if (this.truncation !== null || this.waiting.length > 0) return true;
    return this.from !== null && !(this.isReading && BigInt(sequence!) < this.from);
  }

  /** The truncation comes next. Returns its ticket if nothing of the table is under way. */
  truncate(change: Change): Ticket | null {
    this.truncation = new Ticket(change, null, this, null);
    this.#isBarred = this.underWay > 0;
    return this.#isBarred ? null : this.truncation;
  }

  /** A change of the table is not under way any more. Returns the truncation if it has waited for that. */
  leave(): Ticket | null {
    if (--this.underWay > 0 || !this.#isBarred) return null;
    this.#isBarred = false;
    return this.truncation;
  }
}

/** Of two changes of a row. A sequence says nothing of when a row was read. */
export const isBefore = (one: Ticket, other: Ticket): boolean =>
  isRead(one.change) || isRead(other.change)
    ? one.arrival < other.arrival
    : isLower(one.change, other.change);
