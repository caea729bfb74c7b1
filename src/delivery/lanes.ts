/**
 * Lanes: which change may be handed out now, and which has to wait for another one.
 *
 *   admit() -> free --------------------> in hand --finish()--> over
 *           -> in line --> ready ----^        |
 *           -> dropped, read again --^        +--defer()--> waits for its time --> ready
 *
 * A lane has the changes of one key. While one of its changes is in hand or waits for its time, the others wait in line. Two
 * kinds of changes wait for more than their lane:
 * - A truncation waits until nothing of its table is under way. All that comes after it in that table waits in the table's line.
 * - An UPDATE of keys is logged as DELETEs of the old keys, followed by the statement's other changes. These wait for all
 *   DELETEs of the statement, since the log does not say which of them is of the same row.
 *
 * All lines together are bounded by their weight. A line that is full drops a change and all that comes after it, and
 * remembers the lowest sequence that it dropped. When nothing else is left in the line, it is hungry: the log is read again from that sequence.
 * Every change that has arrived in a lane is dropped, in hand, or being acknowledged, or gone from the log. So a lane that is
 * hungry takes what it is offered, except what is in hand or being acknowledged. A table's line takes what is above `from`, and all that
 * has arrived below `from` has passed: a late transaction's change that arrives there passes too.
 *
 * Without `exclusive`, the consumer takes any number of changes of a key at once. Then a key has a lane only while one of its changes
 * comes again.
 */
import type { Change } from '../capture/change.ts';

/** A change on its way through the lanes. */
export class Ticket {
  readonly change: Change;
  /** Null if it holds nobody up but its table. */
  readonly lane: Lane | null;
  readonly table: Table | null;
  /** The DELETEs of its statement, if this is one of them. */
  readonly deletes: Deletes | null;
  /** When it may come again, by the monotonic clock. */
  notBefore = 0;

  constructor(change: Change, lane: Lane | null, table: Table | null, deletes: Deletes | null) {
    this.change = change;
    this.lane = lane;
    this.table = table;
    this.deletes = deletes;
  }
}

interface Line {
  waiting: Ticket[];
  /** The lowest sequence that was dropped; null if none was. */
  from: bigint | null;
}

interface Lane extends Line {
  readonly key: string;
  /** Whether a change of the lane is ready, in hand, waits for its time, or for the DELETEs of its statement. */
  isBusy: boolean;
  /** Its change that waits for its time in memory. */
  timed: { readonly ticket: Ticket; readonly timer: NodeJS.Timeout } | null;
}

interface Table extends Line {
  /** How many changes have passed the table's line and are not over, also those that their lane has dropped. */
  underWay: number;
  /** The truncation that waits or is in hand. */
  truncation: Ticket | null;
  /** Whether all that was dropped has been offered up to `from`: what arrives below passes. */
  isReading: boolean;
  /** Whether there was no room for what it was offered. */
  isFull: boolean;
}

/** The DELETEs of one statement that are not over, and the statement's changes that wait for them. */
interface Deletes {
  readonly statement: string;
  left: number;
  readonly waiting: Ticket[];
}

export interface LanesOptions {
  /** Whether the changes of one key are handed out one after the other. */
  readonly exclusive: boolean;
  readonly keyOf: (change: Change) => string;
  /** The weight of what may wait. */
  readonly capacity: number;
  /** Called when something has become ready or hungry by itself. */
  readonly changed: () => void;
  /** Called for the sequence of a row that a backfill has read, and that has to be read anew. */
  readonly dropRead?: (sequence: string) => void;
}

/** By default, a lane has the changes of one row. */
export const rowOf = ({ location, key, id }: Change): string =>
  `${location}\0${typeof key === 'object' && key !== null ? JSON.stringify(key) : id}`;

/** The longest time that a timer can wait. */
const MAX_DELAY = 2 ** 31 - 1;

export class Lanes {
  readonly #options: LanesOptions;
  readonly #lanes = new Map<string, Lane>();
  /** Tables stay: there are only so many. */
  readonly #tables = new Map<string, Table>();
  readonly #deletes = new Map<string, Deletes>();
  readonly #hungry = new Set<Line>();
  readonly #timers = new Set<NodeJS.Timeout>();
  #ready: Ticket[] = [];
  #nextReady = 0;
  #weight = 0;
  #dropping = 0;
  #isStopped = false;

  constructor(options: LanesOptions) {
    this.#options = options;
  }

  /** The weight of what waits: in line, for its time, or ready. */
  get weight(): number {
    return this.#weight;
  }

  /** How many keys have changes under way. */
  get size(): number {
    return this.#lanes.size;
  }

  /** How many changes wait for their time. */
  get deferred(): number {
    return this.#timers.size;
  }

  /** Whether any line has dropped something. */
  get hasDropped(): boolean {
    return this.#dropping > 0;
  }

  /** Whether a line waits for nothing but that the log is read again. */
  get isHungry(): boolean {
    return this.#hungry.size > 0;
  }

  /** Sends a change that has arrived on its way. Returns its ticket if it may be handed out now. */
  admit(change: Change): Ticket | null {
    if (!this.#options.exclusive) {
      const lane = this.#lanes.size > 0 ? this.#lanes.get(this.#options.keyOf(change)) : undefined;
      const ticket = new Ticket(change, null, null, null);
      return lane ? this.#join(lane, ticket) : ticket;
    }
    const table = isInOrder(change) || isRead(change) ? this.#tableOf(change.location) : null;
    if (table && this.#isShut(table, change)) return this.#join(table, new Ticket(change, null, table, null));
    return this.#pass(change, table);
  }

  #isShut(table: Table, { sequence }: Change): boolean {
    if (table.truncation !== null || table.waiting.length > 0) return true;
    return table.from !== null && !(table.isReading && BigInt(sequence!) < table.from);
  }

  /** Past the table's line. */
  #pass(change: Change, table: Table | null): Ticket | null {
    if (table && isTruncation(change)) {
      table.truncation = new Ticket(change, null, table, null);
      return table.underWay === 0 ? table.truncation : null;
    }
    if (table) table.underWay++;
    const deletes = table && change.operation === 'delete' ? this.#deletesOf(change) : null;
    if (deletes) deletes.left++;
    const lane = this.#laneOf(change);
    const ticket = new Ticket(change, lane, table, deletes);
    return isIdle(lane) && lane.from === null ? this.#begin(lane, ticket) : this.#join(lane, ticket);
  }

  /** Into the line, or dropped. */
  #join(line: Line, ticket: Ticket): null {
    const { change } = ticket;
    const { weight } = change;
    if (isRead(change) && line.from !== null) {
      this.#dropRead(line, ticket);
    } else if (
      !isInOrder(change) ||
      (line.from === null && this.#weight + weight <= this.#options.capacity)
    ) {
      line.waiting.push(ticket);
      this.#weight += weight;
    } else {
      const dropped = BigInt(change.sequence!);
      if (line.from === null || dropped < line.from) this.#dropFrom(line, dropped);
    }
    return null;
  }

  /** The change is the next one of its lane. Returns its ticket if it may be handed out now. */
  #begin(lane: Lane, ticket: Ticket): Ticket | null {
    lane.isBusy = true;
    if (this.#deletes.size === 0 || ticket.deletes) return ticket;
    const deletes = this.#deletes.get(statementOf(ticket.change));
    if (!deletes) return ticket;
    deletes.waiting.push(ticket);
    this.#weight += ticket.change.weight;
    return null;
  }

  /** The next change that had to wait and may be handed out now. */
  takeReady(): Ticket | null {
    if (this.#nextReady === this.#ready.length) return null;
    const ticket = this.#ready[this.#nextReady++]!;
    if (this.#nextReady === this.#ready.length || this.#nextReady > 1000) {
      this.#ready = this.#ready.slice(this.#nextReady);
      this.#nextReady = 0;
    }
    this.#weight -= ticket.change.weight;
    return ticket;
  }

  #makeReady(ticket: Ticket): void {
    this.#ready.push(ticket);
    this.#weight += ticket.change.weight;
  }

  /** The change is over: acknowledged, or parked. */
  finish(ticket: Ticket): void {
    const { lane, table, deletes } = ticket;
    if (deletes && --deletes.left === 0) {
      this.#deletes.delete(deletes.statement);
      for (const waiting of deletes.waiting) this.#ready.push(waiting);
    }
    if (lane) this.#advance(lane);
    if (!table) return;
    if (table.truncation === ticket) {
      table.truncation = null;
      this.#reopen(table);
      return;
    }
    if (--table.underWay === 0 && table.truncation) this.#makeReady(table.truncation);
    if (!table.isFull || (table.underWay > 0 && this.#weight > this.#options.capacity / 2)) return;
    table.isFull = false;
    this.#settle(table);
  }

  /**
   * The change comes again after `delay` milliseconds, and its lane waits for that. If there is no room for it, it is dropped with all that
   * waits behind it, and read again at that time.
   */
  defer(failed: Ticket, delay: number): void {
    if (this.#isStopped) return;
    const notBefore = performance.now() + delay;
    if (this.#options.exclusive) return this.#wait(failed, failed.lane, notBefore);
    const lane = this.#laneOf(failed.change);
    const ticket = new Ticket(failed.change, lane, null, null);
    ticket.notBefore = notBefore;
    if (!lane.isBusy || failed.lane === lane) return this.#wait(ticket, lane, notBefore);
    // The consumer had several changes of the key in hand, and another one has failed before. The earlier change comes first.
    if (lane.timed && isBefore(ticket.change, lane.timed.ticket.change)) {
      clearTimeout(lane.timed.timer);
      this.#timers.delete(lane.timed.timer);
      lane.waiting.unshift(lane.timed.ticket);
      return this.#wait(ticket, lane, notBefore);
    }
    const place = lane.waiting.findIndex(({ change }) => isBefore(ticket.change, change));
    lane.waiting.splice(place < 0 ? lane.waiting.length : place, 0, ticket);
    this.#weight += ticket.change.weight;
  }

  #wait(ticket: Ticket, lane: Lane | null, notBefore: number): void {
    const { change } = ticket;
    const { weight } = change;
    const isKept = lane === null || !isInOrder(change) || this.#weight + weight <= this.#options.capacity;
    if (lane) lane.isBusy = true;
    if (isKept) this.#weight += weight;
    else this.#dropAll(lane, BigInt(change.sequence!));
    const delay = Math.min(Math.max(notBefore - performance.now(), 0), MAX_DELAY);
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (lane) lane.timed = null;
      if (isKept) this.#ready.push(ticket);
      else this.#advance(lane);
      this.#options.changed();
    }, delay);
    this.#timers.add(timer);
    if (lane) lane.timed = isKept ? { ticket, timer } : null;
  }

  /** The lane's change is over. */
  #advance(lane: Lane): void {
    lane.isBusy = false;
    while (!lane.isBusy && lane.waiting.length > 0) {
      const ticket = lane.waiting.shift()!;
      this.#weight -= ticket.change.weight;
      if (ticket.notBefore > performance.now()) this.#wait(ticket, lane, ticket.notBefore);
      else if (ticket.lane === null) this.#makeReady(ticket);
      else {
        const free = this.#begin(lane, ticket);
        if (free) this.#makeReady(free);
      }
    }
    this.#settle(lane);
  }

  /** The table's truncation is over. */
  #reopen(table: Table): void {
    // What was dropped is read again in the order of the sequences, and so is what waits: it may have passed what was dropped.
    if (table.from !== null) this.#dropAll(table, table.from);
    table.isReading = true;
    const { waiting } = table;
    table.waiting = [];
    for (const [n, { change }] of waiting.entries()) {
      if (table.truncation !== null) {
        table.waiting = waiting.slice(n);
        break;
      }
      this.#weight -= change.weight;
      const free = this.#pass(change, table);
      if (free) this.#makeReady(free);
    }
    this.#settle(table);
  }

  /** Lets an idle line be read again, or forgets it. */
  #settle(line: Line): void {
    if (!isIdle(line)) return;
    if (line.from !== null) this.#hungry.add(line);
    else if ('key' in line) this.#lanes.delete((line as Lane).key);
  }

  #dropFrom(line: Line, sequence: bigint): void {
    if (line.from === null) this.#dropping++;
    line.from = sequence;
    if ('truncation' in line) (line as Table).isReading = false;
  }

  /** A row that was read can't overtake what the line has dropped: it is read anew. */
  #dropRead(line: Line, { change, table }: Ticket): void {
    this.#options.dropRead?.(change.sequence!);
    // In the table's own line it was not under way yet.
    if (!table || line === table) return;
    if (--table.underWay === 0 && table.truncation) this.#makeReady(table.truncation);
  }

  /** Drops what waits in the line, and remembers this sequence, or a lower one that waited. */
  #dropAll(line: Line, sequence: bigint): void {
    let lowest = line.from !== null && line.from < sequence ? line.from : sequence;
    const kept: Ticket[] = [];
    for (const ticket of line.waiting) {
      if (isRead(ticket.change)) {
        this.#weight -= ticket.change.weight;
        this.#dropRead(line, ticket);
        continue;
      }
      if (!isInOrder(ticket.change)) {
        kept.push(ticket);
        continue;
      }
      this.#weight -= ticket.change.weight;
      const dropped = BigInt(ticket.change.sequence!);
      if (dropped < lowest) lowest = dropped;
    }
    line.waiting = kept;
    this.#dropFrom(line, lowest);
  }

  /** Which lines are hungry now, and from which sequence on the log has to be read for them; null: none is. */
  beginReading(): { lines: ReadonlySet<Line>; from: bigint } | null {
    // Lanes and tables have to be read for separately: what passes a table's line may be dropped by its lane.
    const lanes = [...this.#hungry].filter((line) => 'key' in line);
    const lines = new Set(lanes.length > 0 ? lanes : this.#hungry);
    let from: bigint | null = null;
    for (const line of lines) if (from === null || line.from! < from) from = line.from;
    return from === null ? null : { lines, from };
  }

  /**
   * Takes what the log has for these lines, of which `isTaken` says whether it is on its way already: some changes in the order of their sequences.
   * `upto`: all up to this sequence; null: all that have arrived.
   */
  takeAgain(
    lines: ReadonlySet<Line>,
    changes: readonly Change[],
    upto: bigint | null,
    isTaken: (change: Change) => boolean,
  ): void {
    const full = new Set<Line>();
    for (const line of lines) this.#hungry.delete(line);
    for (const change of changes) {
      const sequence = BigInt(change.sequence!);
      const line = this.#droppedBy(change, sequence);
      if (!line || !lines.has(line) || full.has(line) || isTaken(change)) continue;
      if (this.#retake(line, change)) continue;
      full.add(line);
      line.from = sequence;
    }
    for (const line of lines) {
      if (full.has(line)) {
        if ('truncation' in line && (line as Table).truncation === null && (line as Table).underWay > 0) {
          (line as Table).isFull = true;
          continue;
        }
      } else {
        if (upto === null) {
          this.#dropping--;
          line.from = null;
        } else if (line.from! <= upto) line.from = upto + 1n;
      }
      this.#settle(line);
    }
  }

  /** The line that has dropped this change. */
  #droppedBy(change: Change, sequence: bigint): Line | null {
    const table = this.#tables.get(change.location);
    if (table) {
      if (table.from !== null && sequence >= table.from) return table;
      // What waits behind a truncation is in the table's line.
      if (table.truncation && sequence >= BigInt(table.truncation.change.sequence!)) return null;
    }
    const lane = this.#lanes.get(this.#options.keyOf(change));
    return lane && lane.from !== null && sequence >= lane.from ? lane : null;
  }

  /** Takes a dropped change again, unless there is no room. The first one of a lane needs none. */
  #retake(line: Line, change: Change): boolean {
    const hasRoom = this.#weight + change.weight <= this.#options.capacity;
    if ('truncation' in line) {
      const table = line as Table;
      const mayPass = table.truncation === null && (hasRoom || table.underWay === 0);
      if (!mayPass) return false;
      table.isReading = true;
      const free = this.#pass(change, table);
      if (free) this.#makeReady(free);
      return true;
    }
    const lane = line as Lane;
    const table = this.#tables.get(change.location) ?? null;
    const deletes = change.operation === 'delete' ? (this.#deletes.get(statementOf(change)) ?? null) : null;
    const ticket = new Ticket(change, lane, table, deletes);
    if (isIdle(lane)) {
      const free = this.#begin(lane, ticket);
      if (free) this.#makeReady(free);
    } else if (hasRoom) {
      lane.waiting.push(ticket);
      this.#weight += change.weight;
    } else return false;
    return true;
  }

  /** Forgets everything, for good. */
  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#lanes.clear();
    this.#tables.clear();
    this.#deletes.clear();
    this.#hungry.clear();
    this.#ready = [];
    this.#nextReady = 0;
    this.#weight = 0;
    this.#dropping = 0;
  }

  #laneOf(change: Change): Lane {
    const key = this.#options.keyOf(change);
    let lane = this.#lanes.get(key);
    if (!lane) this.#lanes.set(key, (lane = { key, waiting: [], from: null, isBusy: false, timed: null }));
    return lane;
  }

  #tableOf(location: string): Table {
    let table = this.#tables.get(location);
    if (!table) {
      table = { waiting: [], from: null, underWay: 0, truncation: null, isReading: false, isFull: false };
      this.#tables.set(location, table);
    }
    return table;
  }

  #deletesOf(change: Change): Deletes {
    const statement = statementOf(change);
    let deletes = this.#deletes.get(statement);
    if (!deletes) this.#deletes.set(statement, (deletes = { statement, left: 0, waiting: [] }));
    return deletes;
  }
}

const isIdle = (line: {
  isBusy?: boolean;
  truncation?: Ticket | null;
  waiting: readonly Ticket[];
}): boolean => !line.isBusy && !line.truncation && line.waiting.length === 0;

/** Whether a pass of the log brings the change, in the order of its row: not if it was announced by hand, redriven, or read by a backfill. */
const isInOrder = (change: Change): boolean =>
  change.sequence !== null && !change.sequence.startsWith('-') && !isRead(change);

/** Whether it is a row that a backfill has read. Its place is behind the changes that came before it. No log has it. */
const isRead = (change: Change): boolean => change.isRead;

const isTruncation = ({ operation, id, key }: Change): boolean =>
  id === '*' && operation === 'delete' && key === null;

/** All changes that a trigger function logs for one statement have one transaction and one time. */
const statementOf = ({ location, transaction, occurredAt }: Change): string =>
  `${transaction} ${occurredAt} ${location}`;

const isBefore = (one: Change, other: Change): boolean =>
  one.sequence !== null && other.sequence !== null && BigInt(one.sequence) < BigInt(other.sequence);
