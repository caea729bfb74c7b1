/**
 * Lanes: which change may be handed out now, and which has to wait for another one.
 *
 *   admit() -> free -------------------> in hand --finish()--> over
 *           -> in line ------> ready ------^ |
 *                 |              ^           +--defer()--+
 *                 +--> held up --+                       |
 *                                +-- waits for its time <+
 *
 *   in line, held up or waiting for its time --no room--> dropped --read again--> in line
 *
 * A lane has the changes of one key. While one of its changes is ready, in hand, held up, or waits for its time, the others wait in line. Two
 * kinds of changes wait for more than their lane:
 * - A truncation waits until nothing of its table is under way. All that comes after it in that table waits in the table's line (line.ts).
 * - An UPDATE of keys is logged as DELETEs of the old keys, followed by the statement's other changes. These are held up until all DELETEs of the
 *   statement are over (key-changes.ts). A change waits for earlier ones alone, so that no two wait for each other.
 *
 * What a lane has dropped is under way until the log has been read again beyond it: meanwhile it may have been acknowledged, or deleted by somebody.
 *
 * All lines together are bounded by their weight (room.ts). A line that is full drops a change and all that comes after it, and
 * remembers the lowest sequence that it dropped. When nothing else is left in the line, it is hungry: the log is read again from that sequence
 * (dropped-lines.ts). Every change that has arrived in a hungry lane is dropped, in hand, being acknowledged, or gone from the log. So the
 * lane takes what it is offered, except what is in hand or being acknowledged. A table's line takes what is above `from`, and all that
 * has arrived below `from` has passed: a late transaction's change that arrives there passes too.
 *
 * Without `exclusive`, the consumer takes any number of changes of a key at once, until one of them comes again: then the key has a lane, in which its
 * changes go one after the other until the lane is empty. A change that fails after the lane has dropped an earlier one is dropped as well. A DELETE in a
 * lane holds up the changes of its statement, so that these have lanes as well. A truncation waits for the lanes of its table, and holds up what comes after
 * it; it does not wait for what was in hand before.
 *
 * models/lanes.pml checks lanes, retries, parking, redriving and takeovers exhaustively, with `exclusive` and without rows of a backfill.
 */
import type { Change } from '../capture/change.ts';
import type { Clock, Timer } from './clock.ts';
import { DroppedLines } from './dropped-lines.ts';
import { KeyChanges } from './key-changes.ts';
import { Lane, type Line, type Place, Table, Ticket, isBefore } from './line.ts';
import { ReadyQueue } from './ready-queue.ts';
import { Room } from './room.ts';
import { isInOrder, isLower, isOutOfOrder, isRead, isTruncation } from './row-order.ts';

export interface LanesOptions {
  readonly clock: Clock;
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

export class Lanes {
  readonly #options: LanesOptions;
  readonly #lanes = new Map<string, Lane>();
  /** Tables stay: there are only so many. */
  readonly #tables = new Map<string, Table>();
  readonly #keyChanges = new KeyChanges();
  readonly #dropped = new DroppedLines({
    droppedBy: (change, sequence) => this.#droppedBy(change, sequence),
    retake: (line, change) => this.#retake(line, change),
    leave: (place) => this.#leave(place),
    settle: (line) => this.#settle(line),
  });
  readonly #ready = new ReadyQueue<Ticket>(({ change }) => change);
  readonly #room: Room;
  readonly #timers = new Set<Timer>();
  #arrived = 0;
  #isStopped = false;

  constructor(options: LanesOptions) {
    this.#options = options;
    this.#room = new Room(options.capacity);
  }

  /** The weight of what waits, less what waits apart. */
  get weight(): number {
    return this.#room.weight;
  }

  /** The weight of what waits and can't be read again in the log. */
  get apart(): number {
    return this.#room.apart;
  }

  /** How many keys have changes under way. */
  get size(): number {
    return this.#lanes.size;
  }

  /** How many changes wait for their time. */
  get deferred(): number {
    return this.#timers.size;
  }

  /** How many changes are held up by the DELETEs of their statement. */
  get heldUp(): number {
    return this.#keyChanges.waiting;
  }

  /** Whether any line has dropped something. */
  get hasDropped(): boolean {
    return this.#dropped.any;
  }

  /** Whether a line waits for nothing but that the log is read again, and not too much is ready without it. */
  get isHungry(): boolean {
    return this.#dropped.isHungry && this.#ready.weight <= this.#room.capacity / 2;
  }

  /** Sends a change that has arrived on its way. Returns its ticket if it may be handed out now. */
  admit(change: Change): Ticket | null {
    const table = this.#tableOf(change);
    if (table?.isShutFor(change)) return this.#join(table, new Ticket(change, null, table, null));
    const waits = this.#options.exclusive || (table !== null && isTruncation(change));
    return waits ? this.#pass(change, table) : this.#admitAtOnce(change, table);
  }

  /** It waits for nothing but changes that come again, and what waits for these. */
  #admitAtOnce(change: Change, table: Table | null): Ticket | null {
    const known = this.#lanes.size > 0 ? this.#lanes.get(this.#options.keyOf(change)) : undefined;
    if (known && !(known.isIdle && isOutOfOrder(change)))
      return this.#join(known, this.#ticketIn(known, change, table));
    if (this.#keyChanges.holdingUp(change)) {
      const lane = this.#laneOf(change);
      return this.#begin(lane, this.#ticketIn(lane, change, table));
    }
    const ticket = new Ticket(change, null, null, null);
    ticket.arrival = this.#arrived++;
    return ticket;
  }

  /** The change is under way in its table, and among the DELETEs of its statement. */
  #ticketIn(lane: Lane, change: Change, table: Table | null): Ticket {
    if (table) table.underWay++;
    const ticket = new Ticket(change, lane, table, this.#keyChanges.begin(change));
    ticket.arrival = this.#arrived++;
    return ticket;
  }

  /** Past the table's line. */
  #pass(change: Change, table: Table | null): Ticket | null {
    if (table && isTruncation(change)) return table.truncate(change);
    const lane = this.#laneOf(change);
    const ticket = this.#ticketIn(lane, change, table);
    const mayBegin = lane.isIdle && (lane.from === null || isOutOfOrder(change));
    return mayBegin ? this.#begin(lane, ticket) : this.#join(lane, ticket);
  }

  /** Into the line, or dropped. */
  #join(line: Line, ticket: Ticket): null {
    const { change } = ticket;
    if (isRead(change) && line.from !== null) {
      this.#dropRead(line, ticket);
    } else if (!isInOrder(change) || (line.from === null && this.#room.has(change))) {
      line.waiting.push(ticket);
      this.#room.take(change);
    } else {
      const dropped = BigInt(change.sequence!);
      if (line.from === null || dropped < line.from) this.#dropped.drop(line, dropped);
      ticket.lane?.drop(ticket);
    }
    if (line instanceof Lane) this.#giveWay(line, change);
    return null;
  }

  /** The change is the next one of its lane. Returns its ticket if it may be handed out now. */
  #begin(lane: Lane, ticket: Ticket): Ticket | null {
    lane.isBusy = true;
    const deletes = this.#keyChanges.holdingUp(ticket.change);
    if (!deletes) return ticket;
    this.#keyChanges.holdUp(lane, BigInt(ticket.change.sequence!), this.#keep(ticket), deletes);
    return null;
  }

  /** It is the change's turn, but it has to wait. Returns its ticket; null if there is no room for it: then it is dropped, with all that waits behind it. */
  #keep(ticket: Ticket): Ticket | null {
    const { change, lane } = ticket;
    if (lane && isInOrder(change) && !this.#room.has(change)) {
      this.#dropAll(lane, BigInt(change.sequence!), ticket);
      return null;
    }
    this.#room.take(change);
    return ticket;
  }

  /** The lane's next change has waited for long enough. `kept`: null if it was dropped. */
  #resume(lane: Lane | null, kept: Ticket | null): void {
    if (kept) this.#ready.push(kept);
    else if (lane) this.#advance(lane);
  }

  /** The change has come to the lane. If a later one is held up there, all of the lane is dropped, so that the earlier one goes first. */
  #giveWay(lane: Lane, to: Change): void {
    const { heldUp } = lane;
    if (!heldUp || !isInOrder(to) || BigInt(to.sequence!) >= heldUp.sequence) return;
    this.#keyChanges.letGo(heldUp);
    if (heldUp.ticket) this.#room.free(heldUp.ticket.change);
    this.#dropAll(lane, heldUp.sequence, heldUp.ticket);
    this.#advance(lane);
  }

  /** Whether the next change of the lane would be held up although there is an earlier one, which waits behind it or was dropped. */
  #isOvertaking(lane: Lane, next: Change): boolean {
    if (!this.#keyChanges.holdingUp(next)) return false;
    if (lane.from !== null && lane.from < BigInt(next.sequence!)) return true;
    return lane.waiting.some(({ change }) => isInOrder(change) && isLower(change, next));
  }

  /** The next change that had to wait and may be handed out now. */
  takeReady(): Ticket | null {
    const ticket = this.#ready.take();
    if (!ticket) return null;
    this.#room.free(ticket.change);
    this.#goOn();
    return ticket;
  }

  #makeReady(ticket: Ticket | null): void {
    if (!ticket) return;
    this.#ready.push(ticket);
    this.#room.take(ticket.change);
  }

  /** The change is over: acknowledged, or parked. */
  finish(ticket: Ticket): void {
    const { lane, table, deletes } = ticket;
    if (deletes) this.#leave(deletes);
    if (lane) this.#advance(lane);
    if (!table) return;
    if (table.truncation === ticket) {
      table.truncation = null;
      this.#reopen(table);
    } else {
      this.#leave(table);
      this.#goOn();
    }
  }

  /** A change, or what a lane has dropped, is not under way there any more. */
  #leave(place: Place): void {
    if (place instanceof Table) this.#makeReady(place.leave());
    else for (const { lane, ticket } of this.#keyChanges.leave(place)) this.#resume(lane, ticket);
  }

  /** Lets tables that were full be read for again, if there is room. */
  #goOn(): void {
    this.#dropped.goOn(this.#ready.weight <= this.#room.capacity / 4);
  }

  /**
   * The change comes again after `delay` milliseconds, and its lane waits for that. If there is no room for it, it is dropped with all that
   * waits behind it, and read again at that time.
   */
  defer(failed: Ticket, delay: number): void {
    if (this.#isStopped) return;
    failed.notBefore = this.#options.clock.now() + delay;
    if (failed.lane || failed.table) this.#wait(failed);
    else this.#deferTakenAtOnce(failed);
  }

  /** The change gets a lane, where others of its key may be on their way: the consumer may have had several in hand. */
  #deferTakenAtOnce({ change, notBefore, arrival }: Ticket): void {
    const lane = this.#laneOf(change);
    const ticket = this.#ticketIn(lane, change, this.#tableOf(change));
    ticket.notBefore = notBefore;
    ticket.arrival = arrival;
    // The lane takes it from the log, behind the earlier changes that it has dropped.
    if (isInOrder(change) && lane.from !== null && BigInt(change.sequence!) >= lane.from) {
      lane.drop(ticket);
      return;
    }
    if (!lane.isBusy) {
      this.#wait(ticket);
      return;
    }
    // Another one has failed before. The earlier one comes first.
    if (lane.timed && isBefore(ticket, lane.timed.ticket)) {
      lane.timed.timer.cancel();
      this.#timers.delete(lane.timed.timer);
      lane.waiting.unshift(lane.timed.ticket);
      this.#wait(ticket);
      return;
    }
    const place = lane.waiting.findIndex((waiting) => isBefore(ticket, waiting));
    lane.waiting.splice(place < 0 ? lane.waiting.length : place, 0, ticket);
    this.#room.take(change);
    this.#giveWay(lane, change);
  }

  /** The change waits for its time, as the next one of its lane. */
  #wait(ticket: Ticket): void {
    const { lane, notBefore } = ticket;
    const { clock, changed } = this.#options;
    if (lane) lane.isBusy = true;
    // The timer must not hold what was dropped in memory.
    const kept = this.#keep(ticket);
    const timer = clock.after(Math.max(notBefore - clock.now(), 0), () => {
      this.#timers.delete(timer);
      if (lane) lane.timed = null;
      this.#resume(lane, kept);
      changed();
    });
    this.#timers.add(timer);
    if (lane) lane.timed = kept && { ticket: kept, timer };
  }

  /** The lane's change is over. */
  #advance(lane: Lane): void {
    lane.isBusy = false;
    while (!lane.isBusy && lane.waiting.length > 0) {
      const ticket = lane.waiting.shift()!;
      this.#room.free(ticket.change);
      if (ticket.notBefore > this.#options.clock.now()) this.#wait(ticket);
      else if (this.#isOvertaking(lane, ticket.change))
        this.#dropAll(lane, BigInt(ticket.change.sequence!), ticket);
      else this.#makeReady(this.#begin(lane, ticket));
    }
    this.#settle(lane);
  }

  /** The table's truncation is over. */
  #reopen(table: Table): void {
    // What was dropped is read again in the order of the sequences, and so is what waits: it may have passed what was dropped.
    if (table.from !== null) this.#dropAll(table, table.from, null);
    table.isReading = true;
    const { waiting } = table;
    table.waiting = [];
    for (const [n, { change }] of waiting.entries()) {
      if (table.truncation !== null) {
        table.waiting = waiting.slice(n);
        break;
      }
      this.#room.free(change);
      this.#makeReady(this.#pass(change, table));
    }
    this.#settle(table);
  }

  /** Lets an idle line be read again, or forgets it. */
  #settle(line: Line): void {
    if (!line.isIdle) return;
    if (line.from !== null) this.#dropped.starve(line);
    else if (line instanceof Lane) this.#lanes.delete(line.key);
  }

  /** A row that was read can't overtake what the line has dropped: it is read anew. */
  #dropRead(line: Line, { change, table }: Ticket): void {
    this.#options.dropRead?.(change.sequence!);
    // In the table's own line it was not under way yet.
    if (table && line !== table) this.#leave(table);
  }

  /** Drops what waits in the line. `next`: the change of this sequence, if it was the lane's next one and is in memory. */
  #dropAll(line: Line, sequence: bigint, next: Ticket | null): void {
    next?.lane?.drop(next);
    for (const ticket of this.#dropped.dropAll(line, sequence)) {
      this.#room.free(ticket.change);
      if (isRead(ticket.change)) this.#dropRead(line, ticket);
      else ticket.lane?.drop(ticket);
    }
  }

  /** Which lines are hungry now, and from which sequence on the log has to be read for them; null: none is. */
  beginReading(): { lines: ReadonlySet<Line>; from: bigint } | null {
    return this.#dropped.beginReading();
  }

  /** Takes what the log has for these lines: see {@link DroppedLines.takeAgain}. */
  takeAgain(
    lines: ReadonlySet<Line>,
    changes: readonly Change[],
    upto: bigint | null,
    isTaken: (change: Change) => boolean,
  ): void {
    this.#dropped.takeAgain(lines, changes, upto, isTaken);
  }

  /** The line that has dropped this change. */
  #droppedBy(change: Change, sequence: bigint): Line | null {
    const table = this.#tableOf(change);
    if (table) {
      if (table.from !== null && sequence >= table.from) return table;
      // What waits behind a truncation is in the table's line.
      if (table.truncation && sequence >= BigInt(table.truncation.change.sequence!)) return null;
      // The consumer's key of a truncation may be that of a lane, which never had the truncation.
      if (isTruncation(change)) return null;
    }
    const lane = this.#lanes.get(this.#options.keyOf(change));
    return lane && lane.from !== null && sequence >= lane.from ? lane : null;
  }

  /** Takes a dropped change again, unless there is no room. The first one of a lane needs none. */
  #retake(line: Line, change: Change): boolean {
    const hasRoom = this.#room.has(change);
    if (line instanceof Table) {
      // What passes and finds its lane busy takes no room: only what is ready does.
      const isWanted = this.#ready.weight <= this.#room.capacity / 2;
      const mayPass = line.truncation === null && (hasRoom || isWanted || line.underWay === 0);
      if (!mayPass) return false;
      line.isReading = true;
      this.#makeReady(this.#pass(change, line));
      return true;
    }
    if (!line.isIdle && !hasRoom) return false;
    const ticket = this.#ticketIn(line, change, this.#tableOf(change));
    if (line.isIdle) {
      this.#makeReady(this.#begin(line, ticket));
      return line.heldUp === null || line.heldUp.ticket !== null;
    }
    line.waiting.push(ticket);
    this.#room.take(change);
    return true;
  }

  /** Forgets everything, for good. */
  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#timers) timer.cancel();
    this.#timers.clear();
    this.#lanes.clear();
    this.#tables.clear();
    this.#keyChanges.clear();
    this.#dropped.clear();
    this.#ready.clear();
    this.#room.clear();
  }

  #laneOf(change: Change): Lane {
    const key = this.#options.keyOf(change);
    let lane = this.#lanes.get(key);
    if (!lane) this.#lanes.set(key, (lane = new Lane(key)));
    return lane;
  }

  /** Null for a change that has no place among those of its table. */
  #tableOf(change: Change): Table | null {
    if (isOutOfOrder(change)) return null;
    let table = this.#tables.get(change.location);
    if (!table) this.#tables.set(change.location, (table = new Table()));
    return table;
  }
}
