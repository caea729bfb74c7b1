/**
 * UPDATEs of keys: each is logged as DELETEs of the old keys, followed by the statement's other changes. These are held up until all DELETEs of the
 * statement are over, since the log does not say which of them is of the same row.
 *
 * A change that is held up is the next one of its lane, and its lane waits with it. Where a key joins rows, an earlier change may come to that lane late. Then
 * the change that is held up gives way: the lane drops all of its changes, and reads them again in the order of the sequences. So a change waits for earlier
 * ones alone, and no two wait for each other.
 */
import type { Change } from '../capture/change.ts';
import type { Lane, Ticket } from './line.ts';
import { isInOrder, statementOf } from './row-order.ts';

/** A change that waits for the DELETEs of its statement. */
export interface HeldUp {
  readonly lane: Lane;
  readonly sequence: bigint;
  readonly deletes: Deletes;
  /** Null if there was no room for it: it was dropped, and is read again when the DELETEs are over. */
  readonly ticket: Ticket | null;
}

/** The DELETEs of one statement, and the statement's changes that wait for them. */
export interface Deletes {
  readonly statement: string;
  /** How many DELETEs in memory are not over, and how many lanes have dropped some. */
  underWay: number;
  readonly waiting: Set<HeldUp>;
}

export class KeyChanges {
  readonly #statements = new Map<string, Deletes>();
  #waiting = 0;

  /** How many changes wait for DELETEs. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Notes the change if it is a DELETE: it is under way from now on. Returns the DELETEs of its statement then. */
  begin(change: Change): Deletes | null {
    if (change.operation !== 'delete' || !isInOrder(change)) return null;
    const statement = statementOf(change);
    let deletes = this.#statements.get(statement);
    if (!deletes) this.#statements.set(statement, (deletes = { statement, underWay: 0, waiting: new Set() }));
    deletes.underWay++;
    return deletes;
  }

  /** The DELETEs for which the change has to wait. A redriven change has lost its place: a DELETE of its statement that comes again may be behind it. */
  holdingUp(change: Change): Deletes | null {
    if (this.#statements.size === 0 || change.operation === 'delete' || !isInOrder(change)) return null;
    return this.#statements.get(statementOf(change)) ?? null;
  }

  /** The change waits for these DELETEs, as the next one of its lane. `ticket`: null if it was dropped. */
  holdUp(lane: Lane, sequence: bigint, ticket: Ticket | null, deletes: Deletes): void {
    lane.heldUp = { lane, sequence, deletes, ticket };
    deletes.waiting.add(lane.heldUp);
    this.#waiting++;
  }

  /** The change waits no more, although the DELETEs are not over. */
  letGo(heldUp: HeldUp): void {
    heldUp.lane.heldUp = null;
    heldUp.deletes.waiting.delete(heldUp);
    this.#waiting--;
  }

  /** One of these is not under way any more. Returns what need not wait any more. */
  leave(deletes: Deletes): Iterable<HeldUp> {
    if (--deletes.underWay > 0) return [];
    this.#statements.delete(deletes.statement);
    this.#waiting -= deletes.waiting.size;
    for (const { lane } of deletes.waiting) lane.heldUp = null;
    return deletes.waiting;
  }

  clear(): void {
    this.#statements.clear();
    this.#waiting = 0;
  }
}
