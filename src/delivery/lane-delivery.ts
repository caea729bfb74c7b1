/**
 * A delivery whose events can fail: with `process()`, and with `ack: 'manual'`.
 *
 *   waits (buffer, lanes) -> in hand -> acknowledged | parked
 *                               |
 *                               +-> failed: waits for its time, and comes again as the next attempt
 *
 * It belongs to one term, as any {@link Delivery}. What is known of failures is loaded when the term begins, and written when a change fails.
 */
import { inspect } from 'node:util';
import type { ChangeEvent } from '../api/change-event.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Change } from '../capture/change.ts';
import type { Failure, Failures, LoggedChange } from '../capture/failures.ts';
import type { DroppedChanges, Sink } from '../capture/sink.ts';
import { Wakeup } from '../postgres/wakeup.ts';
import { ChangeBuffer } from './change-buffer.ts';
import { CAPACITY, type DeliveryOptions } from './delivery.ts';
import { eventOf } from './event.ts';
import { Lanes } from './lanes.ts';
import { type Ticket, rowOf } from './line.ts';
import { RowDecoder } from './row-decoder.ts';
import { SlowWatch } from './slow-watch.ts';
import { MAX_DEATHS, Suspects } from './suspects.ts';

export interface LaneDeliveryOptions extends DeliveryOptions {
  /** Whether events of one key are handed out one after the other. */
  readonly exclusive: boolean;
  /** The key of an event's lane; null for its row. */
  readonly key: ((event: ChangeEvent) => string) | null;
  /** How long a failed event waits at most, in milliseconds. The database's clock may have been set back since its next attempt was fixed. */
  readonly maxDelay: number;
  /** After how long in hand an event is slow; milliseconds. */
  readonly slowAfter: number;
  readonly failures: () => Failures;
  /** What is acknowledged and may still be in the log. */
  readonly pending: () => ReadonlySet<string>;
  /** Called when changes were dropped, or are wanted again. */
  readonly readAgain: () => void;
  /** Called for a row that a backfill has read, and that has to be read anew. */
  readonly dropRead: (sequence: string) => void;
  readonly notify: Notify;
  /** Called when a failure can't be written although the lease is held. */
  readonly fail: (error: unknown) => void;
}

/** An event that the consumer has. */
export interface Held {
  readonly ticket: Ticket;
  readonly event: ChangeEvent;
  readonly since: number;
  /** Whether its acknowledgement is under way: by `ack`, or in a transaction of the consumer's. */
  settledBy: null | 'acknowledgement' | 'transaction' | 'parking';
}

interface Known {
  readonly attempts: number;
  readonly deaths: number;
  /** When it may come again, by the monotonic clock. */
  readonly due: number;
}

/** The weight of what may wait in lanes. The rest of the capacity is a page of the reader's. */
const LANES = CAPACITY / 2;
/** How many changes may wait for their next attempt: when more fail, nothing new is begun. */
const MAX_DEFERRED = 10_000;

export class LaneDelivery implements Sink {
  readonly #options: LaneDeliveryOptions;
  readonly #lanes: Lanes;
  readonly #decoder: RowDecoder;
  readonly #buffer = new ChangeBuffer();
  readonly #inHand = new Map<string | Held, Held>();
  readonly #emptied = new Wakeup();
  readonly #known = new Map<string, Known>();
  readonly #slow: SlowWatch;
  readonly #handling = new AbortController();
  #suspects: Suspects | null = null;
  /** What is to be handed out next. */
  #next: Ticket | null = null;
  /** What comes after the suspects. */
  #kept: Ticket | null = null;
  #isStopped = false;
  #hadDropped = false;
  readonly #cleared: LoggedChange[] = [];
  readonly #forgotten: LoggedChange[] = [];
  #isWriting = false;
  readonly dropped: DroppedChanges;

  constructor(options: LaneDeliveryOptions) {
    this.#options = options;
    this.#decoder = new RowDecoder(options.types);
    const { key, exclusive, ready, trigger, fencingToken } = options;
    this.#lanes = new Lanes({
      exclusive,
      keyOf: key ? (change) => key(eventOf(change, trigger, fencingToken, this.#decoder)) : rowOf,
      capacity: LANES,
      dropRead: options.dropRead,
      changed: () => {
        this.#tellOfDropped();
        ready();
      },
    });
    this.#slow = new SlowWatch(options.slowAfter, options.notify);
    this.dropped = this.#droppedChanges();
  }

  /**
   * What is known when the term begins. `suspected`: the weight of the changes that come first and are suspected, because the term before ended
   * without grace; null if nobody ever is.
   */
  begin(failures: readonly Failure[], suspected: number | null): void {
    const now = performance.now();
    for (const { sequence, attempts, deaths, delay } of failures)
      this.#known.set(sequence, { attempts, deaths, due: now + Math.min(delay, this.#options.maxDelay) });
    if (suspected === null) return;
    const { maxInFlight, ready } = this.#options;
    this.#suspects = new Suspects({
      concurrency: maxInFlight,
      first: suspected,
      failures: this.#options.failures(),
      ready,
      fail: (error) => this.#failed(error),
    });
  }

  get room(): number {
    return CAPACITY - this.#buffer.weight - this.#lanes.weight;
  }

  /** How many events the consumer has in hand. */
  get inHand(): number {
    return this.#inHand.size;
  }

  /** How many keys are held up by an event that waits for its next attempt. */
  get blockedKeys(): number {
    return this.#lanes.deferred;
  }

  /** Aborts when handlers are to end: the term no longer waits for them. */
  get signal(): AbortSignal {
    return this.#handling.signal;
  }

  push(changes: readonly Change[]): void {
    if (this.#isStopped) return;
    this.#buffer.push(changes);
    this.#options.ready();
  }

  async waitForRoom(weight: number, signal: AbortSignal): Promise<void> {
    while (this.room < weight && !signal.aborted) await this.#buffer.roomMade.wait(Infinity, signal);
  }

  /** Whether an event can be handed out at this moment. */
  get canHandOut(): boolean {
    if (this.#isStopped || this.#inHand.size >= this.#options.maxInFlight || !this.#options.mayHandOut())
      return false;
    this.#next ??= this.#find();
    return this.#next !== null && !this.#isStopped;
  }

  /** Hands the next event out. To be called when `canHandOut`. */
  handOut(): ChangeEvent {
    return this.handOutHeld().event;
  }

  handOutHeld(): Held {
    const ticket = this.#next!;
    this.#next = null;
    const { change } = ticket;
    const { trigger, fencingToken } = this.#options;
    const attempt = this.#attemptsOf(change) + 1;
    const event = eventOf(change, trigger, fencingToken, this.#decoder, attempt);
    const held: Held = { ticket, event, since: performance.now(), settledBy: null };
    // In manual mode nobody can say that an event made by hand is over.
    if (change.sequence !== null) this.#inHand.set(change.sequence, held);
    else if (this.#options.exclusive) this.#inHand.set(held, held);
    this.#slow.watch(this.#inHand);
    this.#options.traffic.onHandOut(event);
    return held;
  }

  #attemptsOf({ sequence }: Change): number {
    return sequence === null ? 0 : (this.#known.get(sequence)?.attempts ?? 0);
  }

  #find(): Ticket | null {
    if (this.#suspects?.isUnderWay) return this.#suspects.take();
    for (let ticket = this.#arrive(); ticket; ticket = this.#arrive()) {
      const known = ticket.change.sequence === null ? undefined : this.#known.get(ticket.change.sequence);
      const delay = known ? known.due - performance.now() : 0;
      if (delay > 0) this.#lanes.defer(ticket, delay);
      else if (this.#options.exclusive && known && known.deaths >= MAX_DEATHS)
        void this.#condemn(ticket, known);
      else if (this.#suspects?.keep(ticket, known?.deaths ?? 0)) continue;
      else if (this.#suspects?.any) {
        this.#kept = ticket;
        break;
      } else return ticket;
    }
    if (this.#suspects?.any && this.#inHand.size === 0) this.#suspects.begin();
    return null;
  }

  /** The next change whose lane is free. */
  #arrive(): Ticket | null {
    const kept = this.#kept;
    if (kept) {
      this.#kept = null;
      return kept;
    }
    let ticket = this.#lanes.takeReady();
    while (!ticket && !this.#buffer.isEmpty && this.#lanes.deferred < MAX_DEFERRED)
      ticket = this.#lanes.admit(this.#buffer.take());
    this.#tellOfDropped();
    if (this.#lanes.weight > 0 && this.room >= CAPACITY / 2) this.#buffer.roomMade.wake();
    return ticket;
  }

  #tellOfDropped(): void {
    const has = this.#lanes.hasDropped;
    if (this.#lanes.isHungry || (has && !this.#hadDropped)) {
      this.#options.readAgain();
      this.#buffer.roomMade.wake();
    }
    this.#hadDropped = has;
  }

  #droppedChanges(): DroppedChanges {
    const lanes = this.#lanes;
    const buffer = this.#buffer;
    return {
      get any() {
        return lanes.hasDropped;
      },
      get areWanted() {
        return lanes.isHungry;
      },
      waitForRoomOrWanted: async (weight, signal) => {
        while (this.room < weight && !lanes.isHungry && !signal.aborted)
          await buffer.roomMade.wait(Infinity, signal);
      },
      begin: () => {
        const reading = lanes.beginReading();
        if (!reading) return null;
        const acknowledged = this.#options.pending();
        return {
          from: reading.from,
          take: (changes, upto) => {
            if (this.#isStopped) return;
            const buffered = buffer.sequences();
            const isTaken = ({ sequence }: Change) =>
              buffered.has(sequence) || acknowledged.has(sequence!) || this.#inHand.has(sequence!);
            lanes.takeAgain(reading.lines, changes, upto, isTaken);
            this.#tellOfDropped();
            this.#options.ready();
          },
        };
      },
    };
  }

  /** The consumer acknowledges this event. Returns whether it was in hand. With `process()` it stays there until its handler ends. */
  settle(sequence: string, by: 'acknowledgement' | 'transaction' = 'acknowledgement'): boolean {
    const held = this.#inHand.get(sequence);
    if (!held) return false;
    if (this.#options.exclusive) held.settledBy = by;
    else this.finish(held);
    return true;
  }

  /** The event in hand that has this number. */
  find(sequence: string): Held | undefined {
    return this.#inHand.get(sequence);
  }

  /** Whether the event is still in hand in this term. */
  has(held: Held): boolean {
    return this.#inHand.get(held.ticket.change.sequence ?? held) === held;
  }

  acknowledge(held: Held): void {
    const { sequence } = held.ticket.change;
    if (sequence !== null) this.#options.acknowledge(sequence);
    this.finish(held);
  }

  /** The event is gone from the log, or will be. */
  finish(held: Held): void {
    const { ticket, event } = held;
    this.#release(held);
    if (event.sequence !== null) this.#options.traffic.onAcknowledge(event.sequence);
    const wasSuspected = this.#suspects?.end(ticket) ?? false;
    const logged = loggedOf(ticket.change);
    if (logged && (this.#known.delete(logged.sequence) || wasSuspected)) this.#note(this.#forgotten, logged);
    this.#lanes.finish(ticket);
    this.#options.ready();
  }

  /** The event has failed, and comes again after `delay` milliseconds. Resolves when that is written. */
  async retry(held: Held, error: unknown, delay: number): Promise<void> {
    const { ticket, event } = held;
    const { notify } = this.#options;
    const failures = this.#options.failures();
    const logged = this.#putBack(held, delay, event.attempt);
    const { sequence, location, id, attempt } = event;
    notify('retrying', { sequence, location, id, attempt, delay, error });
    if (!logged) return;
    const written = failures.fail(logged, { error: textOf(error), delay, attempts: attempt });
    if (this.#suspects?.end(ticket)) this.#note(this.#cleared, logged);
    this.#options.ready();
    await written;
  }

  /** The event comes again after `delay` milliseconds, and has not failed. */
  again(held: Held, delay: number): void {
    if (held.event.sequence !== null) this.#options.traffic.onReturn(held.event.sequence);
    const logged = this.#putBack(held, delay, held.event.attempt - 1);
    if (logged && this.#suspects?.end(held.ticket)) this.#note(this.#cleared, logged);
    this.#options.ready();
  }

  #putBack(held: Held, delay: number, attempts: number): LoggedChange | null {
    this.#release(held);
    const logged = loggedOf(held.ticket.change);
    if (logged) this.#known.set(logged.sequence, { attempts, deaths: 0, due: performance.now() + delay });
    this.#lanes.defer(held.ticket, delay);
    return logged;
  }

  /** Moves the event out of the log. Resolves when it is parked. An event that was announced by hand is in no log, and is dropped. */
  async park(held: Held, error: unknown, attempts: number): Promise<void> {
    held.settledBy = 'parking';
    const logged = loggedOf(held.ticket.change);
    try {
      if (logged) await this.#options.failures().park(logged, { error: textOf(error), attempts });
    } catch (cause) {
      held.settledBy = null;
      throw cause;
    }
    const { sequence, location, id } = held.event;
    this.#options.notify('parked', { sequence, location, id, attempts, error });
    if (!this.has(held)) return;
    this.#release(held);
    if (logged) this.#known.delete(logged.sequence);
    this.#suspects?.end(held.ticket);
    this.#lanes.finish(held.ticket);
    this.#options.ready();
  }

  /** The handler of this one has killed its process each time. */
  async #condemn(ticket: Ticket, { attempts, deaths }: Known): Promise<void> {
    const { trigger, fencingToken } = this.#options;
    const event = eventOf(ticket.change, trigger, fencingToken, this.#decoder, attempts + 1);
    const held: Held = { ticket, event, since: performance.now(), settledBy: null };
    this.#inHand.set(ticket.change.sequence!, held);
    const error = new Error(
      `it was in hand each time when a process died or lost the lease, ${deaths} times in a row`,
    );
    await this.park(held, error, attempts).catch((cause: unknown) => this.#failed(cause));
  }

  #release(held: Held): void {
    this.#inHand.delete(held.ticket.change.sequence ?? held);
    if (this.#inHand.size === 0) this.#emptied.wake();
  }

  /** What ends in one turn of the event loop is written together. */
  #note(list: LoggedChange[], change: LoggedChange): void {
    list.push(change);
    if (this.#isWriting) return;
    this.#isWriting = true;
    setImmediate(() => void this.#writeNotes());
  }

  async #writeNotes(): Promise<void> {
    this.#isWriting = false;
    const failures = this.#options.failures();
    try {
      await Promise.all([
        failures.clear(this.#cleared.splice(0)),
        failures.forget(this.#forgotten.splice(0)),
      ]);
    } catch (error) {
      this.#failed(error);
    }
  }

  /** Without the lease nothing can be written, and the term is ending. */
  #failed(error: unknown): void {
    if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') this.#options.fail(error);
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  async settled(limit: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + limit;
    while (this.#inHand.size > 0 && !signal.aborted) {
      const left = deadline - performance.now();
      if (left <= 0) return;
      await this.#emptied.wait(left, signal);
    }
  }

  /** Tells handlers to end. */
  abort(): void {
    this.#handling.abort();
  }

  /** Takes back the deaths that are counted: this process lives. */
  async acquit(): Promise<void> {
    await this.#writeNotes();
    const counted = this.#suspects?.counted ?? [];
    if (counted.length > 0) await this.#options.failures().clear(counted);
  }

  /** Hands out nothing more. */
  stop(): void {
    this.#isStopped = true;
    this.#buffer.clear();
    this.#lanes.stop();
    this.#next = null;
    this.#kept = null;
  }

  /** Hands out nothing more, and neither waits for what is in hand nor acknowledges it. */
  forget(): void {
    this.stop();
    this.#slow.stop();
    const sequences = [...this.#inHand.values()].flatMap(({ event }) => event.sequence ?? []);
    if (sequences.length > 0) this.#options.traffic.onForget(sequences);
    this.#inHand.clear();
    this.#emptied.wake();
    this.abort();
  }
}

/** A change as the tables of failures name it; null for one that was announced by hand. */
const loggedOf = ({ sequence, stamp }: Change): LoggedChange | null =>
  sequence === null ? null : { sequence, stamp };

const textOf = (error: unknown): string => {
  if (error === undefined) return 'no reason was given';
  if (typeof error === 'string') return error;
  return error instanceof Error ? (error.stack ?? error.message) : inspect(error);
};
