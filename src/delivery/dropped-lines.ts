/**
 * The lines that have dropped changes, and how these come again.
 *
 * A line drops from a sequence on: what waits or arrives with that sequence or a higher one stays in the log alone. When nothing else is left in the line,
 * it is hungry. The log is then read again from the lowest sequence that a hungry line has dropped, page after page, until every line has taken
 * all that it dropped or is full again.
 */
import type { Change } from '../capture/change.ts';
import { Lane, type Line, type Place, Table, type Ticket } from './line.ts';
import { isInOrder, isRead } from './row-order.ts';

/** What takes the changes that are read again. */
interface Retaker {
  /** The line that has dropped this change. */
  droppedBy(change: Change, sequence: bigint): Line | null;
  /** Takes a dropped change again, unless there is no room. The first one of a lane needs none. */
  retake(line: Line, change: Change): boolean;
  /** Called for a place where a lane is not under way any more by what it has dropped. */
  leave(place: Place): void;
  /** Called when a line has taken what there was. */
  settle(line: Line): void;
}

export class DroppedLines {
  readonly #retaker: Retaker;
  readonly #hungry = new Set<Line>();
  /** Tables that were offered more than there was room for. They are hungry when there is room. */
  readonly #full = new Set<Table>();
  #count = 0;
  /** The lines that have dropped something since the log was last read again. */
  readonly #since = new Set<Line>();

  constructor(retaker: Retaker) {
    this.#retaker = retaker;
  }

  /** Whether any line has dropped something. */
  get any(): boolean {
    return this.#count > 0;
  }

  /** Whether a line waits for nothing but that the log is read again. */
  get isHungry(): boolean {
    return this.#hungry.size > 0;
  }

  /** The line drops this sequence, and all that comes after it. */
  drop(line: Line, sequence: bigint): void {
    if (line.from === null) this.#count++;
    line.from = sequence;
    this.#since.add(line);
    if (line instanceof Table) line.isReading = false;
  }

  /** Drops what waits in the line, and remembers this sequence, or a lower one that waited. Returns what it has dropped. */
  dropAll(line: Line, sequence: bigint): Ticket[] {
    let lowest = line.from !== null && line.from < sequence ? line.from : sequence;
    const kept: Ticket[] = [];
    const dropped: Ticket[] = [];
    for (const ticket of line.waiting) {
      const { change } = ticket;
      if (!isRead(change) && !isInOrder(change)) {
        kept.push(ticket);
        continue;
      }
      dropped.push(ticket);
      if (isRead(change)) continue;
      const own = BigInt(change.sequence!);
      if (own < lowest) lowest = own;
    }
    line.waiting = kept;
    this.drop(line, lowest);
    return dropped;
  }

  /** Nothing is left in the line but what it has dropped. */
  starve(line: Line): void {
    this.#hungry.add(line);
  }

  /** Which lines are hungry now, and from which sequence on the log has to be read for them; null: none is. */
  beginReading(): { lines: ReadonlySet<Line>; from: bigint } | null {
    // A lane that has something else to do since is hungry again when that is over.
    for (const line of this.#hungry) if (line instanceof Lane && !line.isIdle) this.#hungry.delete(line);
    // Lanes and tables have to be read for separately: what passes a table's line may be dropped by its lane.
    const lanes = [...this.#hungry].filter((line) => line instanceof Lane);
    const lines = new Set(lanes.length > 0 ? lanes : this.#hungry);
    let from: bigint | null = null;
    for (const line of lines) if (from === null || line.from! < from) from = line.from;
    this.#since.clear();
    return from === null ? null : { lines, from };
  }

  /**
   * Gives these lines what the log has for them, of which `isTaken` says whether it is on its way already: some changes in the order of their sequences.
   * `upto`: all up to this sequence; null: all that have arrived.
   */
  takeAgain(
    hungry: ReadonlySet<Line>,
    changes: readonly Change[],
    upto: bigint | null,
    isTaken: (change: Change) => boolean,
  ): void {
    const retaker = this.#retaker;
    const full = new Set<Line>();
    // A line that has meanwhile dropped a change stays hungry: the change may not be among those that were read, or may have been in hand.
    const lines = new Set([...hungry].filter((line) => !this.#since.has(line)));
    for (const line of lines) this.#hungry.delete(line);
    for (const change of changes) {
      const sequence = BigInt(change.sequence!);
      const line = retaker.droppedBy(change, sequence);
      if (!line || !lines.has(line) || full.has(line) || isTaken(change)) continue;
      if (retaker.retake(line, change)) continue;
      full.add(line);
      line.from = sequence;
    }
    for (const line of lines) {
      if (full.has(line)) continue;
      if (upto === null) {
        this.#count--;
        line.from = null;
      } else if (line.from! <= upto) line.from = upto + 1n;
    }
    // Only now: what leaves may let another of these lines go on, and drop changes.
    for (const line of lines) {
      if (line instanceof Lane) for (const place of line.leavePassed()) retaker.leave(place);
      if (full.has(line) && line instanceof Table && line.truncation === null && line.underWay > 0)
        this.#full.add(line);
      else retaker.settle(line);
    }
  }

  /** Lets full tables be read for again: all of them if there is room, else those of which nothing is under way. */
  goOn(hasRoom: boolean): void {
    for (const table of this.#full) {
      if (table.underWay > 0 && !hasRoom) continue;
      this.#full.delete(table);
      this.#retaker.settle(table);
    }
  }

  clear(): void {
    this.#hungry.clear();
    this.#full.clear();
    this.#since.clear();
    this.#count = 0;
  }
}
