/**
 * A delivery whose events can fail: with `process()`, and with `ack: 'manual'`.
 *
 *   waits (buffer, lanes) -> in hand -> acknowledged | parked
 *                               |
 *                               +-> failed: waits for its time, and comes again as the next attempt
 *
 * It belongs to one term, as any {@link Delivery}. What is known of failures is loaded when the term begins, and written when a change fails.
 *
 * Handlers that run at once often end at once. So that none of them waits for the bookkeeping of the others, their next events are made ready while they
 * run, and lanes come to know of what is over when all of them have begun with these.
 */
import { inspect } from 'node:util';
import type { ChangeEvent } from '../api/change-event.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Change } from '../capture/change.ts';
import type { Failure, Failures, LoggedChange } from '../capture/failures.ts';
import type { DroppedChanges, Sink } from '../capture/sink.ts';
import { signalForMany } from '../postgres/sleep.ts';
import { CAPACITY, type DeliveryOptions } from './delivery.ts';
import { eventOf } from './event.ts';
import { InHand } from './in-hand.ts';
import { type KnownFailure, KnownFailures } from './known-failures.ts';
import { LaneBuffer, type Taking } from './lane-buffer.ts';
import type { Ticket } from './line.ts';
import { ReadyQueue } from './ready-queue.ts';
import { isTruncation, rowOf } from './row-order.ts';
import { SlowWatch } from './slow-watch.ts';
import { TurnOrder } from './turn-order.ts';

export interface LaneDeliveryOptions extends DeliveryOptions {
  /** Whether events of one key are handed out one after the other. */
  readonly exclusive: boolean;
  /** The key of an event's lane; null for its row. */
  readonly key: ((event: ChangeEvent) => string) | null;
  /** After how long in hand an event is slow; milliseconds. */
  readonly slowAfter: number;
  readonly failures: () => Failures;
  /** Resolves when what was acknowledged is gone from the log. */
  readonly written: () => Promise<void>;
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

/** The weight from which on no more is made ready. */
const READY = CAPACITY / 8;

/** An event that the consumer has, or is to have next. */
export interface Held {
  readonly ticket: Ticket;
  readonly event: ChangeEvent;
  /** Since when it is in hand. */
  since: number;
  /** Whether its acknowledgement is under way: by `ack`, or in a transaction of the consumer's. */
  settledBy: null | 'acknowledgement' | 'transaction' | 'parking';
  /** Resolves when its parking is written, with whether it was there to be parked. */
  parking: Promise<boolean> | null;
  /** Whether its handler runs: until its end the next event of the key waits. */
  isRunning: boolean;
}

export class LaneDelivery implements Sink {
  readonly #options: LaneDeliveryOptions;
  readonly #waiting: LaneBuffer;
  readonly #inHand: InHand<string | Held, Held>;
  readonly #known: KnownFailures;
  readonly #slow: SlowWatch;
  /** What is in hand and was told to be slow. */
  readonly #outlasted = new Set<Held>();
  readonly #handling = new AbortController();
  readonly #order: TurnOrder;
  /** While the log is read again: what is over since that began. */
  #settledSince: Set<string> | null = null;
  /** What is to be handed out next, ready. */
  readonly #next = new ReadyQueue<Held>(({ ticket }) => ticket.change);
  /** What is acknowledged, and the lanes do not know yet. */
  #over: Held[] = [];
  #isStopped = false;

  constructor(options: LaneDeliveryOptions) {
    this.#options = options;
    signalForMany(this.#handling.signal);
    const { clock, decoder, key, trigger, fencingToken } = options;
    this.#inHand = new InHand(clock);
    this.#known = new KnownFailures(options);
    this.#slow = new SlowWatch(clock, options.slowAfter, (held, duration) => this.#onSlow(held, duration));
    this.#waiting = new LaneBuffer({
      ...options,
      // A truncation is of no row, of which a key could be told.
      keyOf: (change) =>
        key && !isTruncation(change) ? key(eventOf(change, trigger, fencingToken, decoder)) : rowOf(change),
      beginTaking: () => this.#beginTaking(),
    });
    this.#order = new TurnOrder({
      clock,
      waiting: this.#waiting,
      known: this.#known,
      isInHand: () => this.#inHand.size + this.#next.size > this.#outlasted.size,
      condemn: options.exclusive ? (ticket, known) => void this.#condemn(ticket, known) : null,
    });
  }

  /**
   * What is known when the term begins. `suspected`: the weight of the changes that come first and are suspected, because the term before ended
   * without grace; null if nobody ever is.
   */
  begin(failures: readonly Failure[], suspected: number | null): void {
    this.#known.load(failures);
    if (suspected === null) return;
    const { maxInFlight, failures: table, written, ready } = this.#options;
    const known = this.#known;
    this.#order.suspect({
      concurrency: maxInFlight,
      first: suspected,
      failures: table(),
      async written() {
        await Promise.all([known.writeNotes(), written()]);
      },
      ready,
      fail: (error) => known.failed(error),
    });
  }

  /** The log is about to be read again. What it has of events that were in hand then is not wanted, unless they have been dropped since. */
  #beginTaking(): Taking {
    const acknowledged = this.#options.pending();
    const settled = new Set<string>();
    this.#settledSince = settled;
    return {
      isHeld: (sequence) =>
        acknowledged.has(sequence) ||
        settled.has(sequence) ||
        this.#inHand.has(sequence) ||
        this.#next.has(sequence),
      end: () => (this.#settledSince = null),
    };
  }

  get room(): number {
    return this.#waiting.room;
  }

  get roomApart(): number {
    return this.#waiting.roomApart;
  }

  /** How many events the consumer has in hand. */
  get inHand(): number {
    return this.#inHand.size;
  }

  /** How many keys are held up by an event that waits for its next attempt. */
  get blockedKeys(): number {
    return this.#waiting.deferred;
  }

  /** Aborts when handlers are to end: the term no longer waits for them. */
  get signal(): AbortSignal {
    return this.#handling.signal;
  }

  get dropped(): DroppedChanges {
    return this.#waiting.dropped;
  }

  push(changes: readonly Change[]): void {
    this.#waiting.push(changes);
  }

  waitForRoom(weight: number, signal: AbortSignal): Promise<void> {
    return this.#waiting.waitForRoom(weight, signal);
  }

  /** Whether an event can be handed out at this moment. */
  get canHandOut(): boolean {
    if (this.#isStopped || this.#inHand.size >= this.#options.maxInFlight || !this.#options.mayHandOut())
      return false;
    return this.#next.size > 0 || this.#makeReady();
  }

  /** Whether nothing is in hand, and nothing can be handed out. */
  get isQuiet(): boolean {
    return this.#inHand.size === 0 && this.#over.length === 0 && !this.canHandOut;
  }

  /** Makes the next event ready. Returns whether there is one. */
  #makeReady(): boolean {
    this.#finishOver();
    // To ask for the next one counts deaths of suspects, and to tell its key may end the term.
    const ticket = this.#isStopped ? null : this.#order.next();
    if (!ticket || this.#isStopped) return false;
    this.#next.push(this.#hold(ticket, (this.#known.of(ticket.change)?.attempts ?? 0) + 1));
    return true;
  }

  /** Hands the next event out. To be called when `canHandOut`. */
  handOut(): ChangeEvent {
    return this.handOutHeld().event;
  }

  handOutHeld(): Held {
    const held = this.#next.take()!;
    const { ticket } = held;
    const { change } = ticket;
    held.since = this.#options.clock.now();
    if (change.sequence !== null) this.#inHand.add(change.sequence, held);
    else if (this.#options.exclusive) this.#inHand.add(held, held);
    // In manual mode nobody can say that an event made by hand is over: its lane goes on at once.
    else this.#waiting.finish(ticket);
    this.#slow.watch(this.#inHand);
    this.#options.traffic.onHandOut(held.event);
    return held;
  }

  #hold(ticket: Ticket, attempt: number): Held {
    const { trigger, fencingToken, decoder } = this.#options;
    const event = eventOf(ticket.change, trigger, fencingToken, decoder, attempt);
    return { ticket, event, since: 0, settledBy: null, parking: null, isRunning: false };
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
    if (event.sequence !== null) {
      this.#options.traffic.onAcknowledge(event.sequence);
      this.#settledSince?.add(ticket.change.sequence!);
    }
    this.#over.push(held);
    if (this.#over.length === 1) setImmediate(() => this.#getReady());
    this.#options.ready();
  }

  /** What is over does not hold up anything any more. */
  #finishOver(): void {
    const over = this.#over;
    this.#over = [];
    for (const { ticket } of over) {
      const wasSuspected = this.#order.acquit(ticket);
      const logged = loggedOf(ticket.change);
      if (logged) this.#known.forget(logged, wasSuspected);
      this.#waiting.finish(ticket);
    }
  }

  /** Hands out what has become free, and makes ready what may come after it. */
  #getReady(): void {
    this.#finishOver();
    const { ready, exclusive, maxInFlight } = this.#options;
    ready();
    if (!exclusive) return;
    while (this.#next.size < maxInFlight && this.#next.weight < READY) if (!this.#makeReady()) return;
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
    if (this.#order.acquit(ticket)) this.#known.clear(logged);
    this.#options.ready();
    await written;
  }

  /** The event comes again after `delay` milliseconds, and has not failed. */
  again(held: Held, delay: number): void {
    if (held.event.sequence !== null) this.#options.traffic.onReturn(held.event.sequence);
    const logged = this.#putBack(held, delay, held.event.attempt - 1);
    if (logged && this.#order.acquit(held.ticket)) this.#known.clear(logged);
    this.#options.ready();
  }

  #putBack(held: Held, delay: number, attempts: number): LoggedChange | null {
    this.#release(held);
    const { change } = held.ticket;
    this.#known.comesAgain(change, attempts, delay);
    this.#waiting.defer(held.ticket, delay);
    return loggedOf(change);
  }

  /**
   * Moves the event out of the log. Resolves when it is parked, or a transaction of the consumer's turns out to have acknowledged it. An event that
   * was announced by hand is in no log, and is dropped.
   */
  async park(held: Held, error: unknown, attempts: number): Promise<void> {
    held.settledBy = 'parking';
    const logged = loggedOf(held.ticket.change);
    const failures = this.#options.failures();
    held.parking = logged ? failures.park(logged, { error: textOf(error), attempts }) : Promise.resolve(true);
    let wasThere: boolean;
    try {
      wasThere = await held.parking;
    } catch (cause) {
      held.settledBy = null;
      throw cause;
    }
    if (!wasThere) {
      held.settledBy = 'acknowledgement';
      if (!held.isRunning && this.has(held)) this.finish(held);
      return;
    }
    const { sequence, location, id } = held.event;
    this.#options.notify('parked', { sequence, location, id, attempts, error });
    if (!held.isRunning) this.finishParked(held);
  }

  /** The event is out of the log, and its handler has ended. */
  finishParked(held: Held): void {
    if (!this.has(held)) return;
    const logged = loggedOf(held.ticket.change);
    this.#release(held);
    if (logged) {
      this.#known.drop(logged);
      this.#settledSince?.add(logged.sequence);
    }
    this.#order.acquit(held.ticket);
    this.#waiting.finish(held.ticket);
    this.#options.ready();
  }

  /** Resolves when the parking that is under way has ended: null, or why it was refused. */
  async parkingOf({ parking }: Held): Promise<{ readonly error: unknown } | null> {
    try {
      await parking;
      return null;
    } catch (error) {
      return { error };
    }
  }

  /** The handler of this one has killed its process each time. */
  async #condemn(ticket: Ticket, { attempts, deaths }: KnownFailure): Promise<void> {
    const held = this.#hold(ticket, attempts + 1);
    held.since = this.#options.clock.now();
    this.#inHand.add(ticket.change.sequence!, held);
    const error = new Error(
      `it was in hand each time when a process died or lost the lease, ${deaths} times in a row`,
    );
    await this.park(held, error, attempts).catch((cause: unknown) => this.#known.failed(cause));
  }

  /** A handler that takes long has killed nobody so far: it is suspected no more, and what waits until nothing suspicious is in hand goes on. */
  #onSlow(held: Held, duration: number): void {
    const { ticket, event } = held;
    const { sequence, location, id } = event;
    this.#options.notify('slow', { sequence, location, id, duration });
    this.#outlasted.add(held);
    const logged = loggedOf(ticket.change);
    if (this.#order.acquit(ticket) && logged) this.#known.clear(logged);
    this.#options.ready();
  }

  #release(held: Held): void {
    this.#outlasted.delete(held);
    this.#inHand.remove(held.ticket.change.sequence ?? held);
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  settled(limit: number, signal: AbortSignal): Promise<void> {
    return this.#inHand.empty(limit, signal);
  }

  /** Tells handlers to end. */
  abort(): void {
    this.#handling.abort();
  }

  /** Takes back the deaths that are counted: this process lives. */
  async acquit(): Promise<void> {
    this.#finishOver();
    await this.#known.writeNotes();
    const { counted } = this.#order;
    if (counted.length > 0) await this.#options.failures().clear(counted);
  }

  /** Hands out nothing more. */
  stop(): void {
    this.#isStopped = true;
    this.#waiting.stop();
    this.#next.clear();
    this.#order.stop();
  }

  /** Hands out nothing more, and neither waits for what is in hand nor acknowledges it. */
  forget(): void {
    this.stop();
    this.#slow.stop();
    const sequences = [...this.#inHand.values()].flatMap(({ event }) => event.sequence ?? []);
    if (sequences.length > 0) this.#options.traffic.onForget(sequences);
    this.#inHand.forget();
    this.abort();
  }
}

/** A change as the tables of failures name it; null for one that was announced by hand. */
const loggedOf = ({ sequence, stamp }: Change): LoggedChange | null =>
  sequence === null ? null : { sequence, stamp };

/** Whatever a handler may throw: also errors whose stack is no text, and objects that throw when they are looked at. */
function textOf(error: unknown): string {
  if (error === undefined) return 'no reason was given';
  if (typeof error === 'string') return error;
  try {
    const text: unknown = error instanceof Error ? (error.stack ?? error.message) : error;
    return typeof text === 'string' ? text : inspect(text);
  } catch {
    return 'the error can not be printed';
  }
}
