/**
 * From the reader to the consumer: a bounded buffer behind an async iterator, and the account of what the consumer has
 * in hand, that is what was handed out and not yet acknowledged.
 *
 * With `ack: 'auto'` asking for the next event acknowledges those in hand. With 'manual' they are acknowledged one by
 * one, and no more than `maxInFlight` are handed out.
 *
 * Nothing is handed out unless `mayHandOut` says so at that moment. What is in hand when the lease is lost is
 * forgotten: it comes again, here or elsewhere.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import type { Change } from '../capture/change.ts';
import { Wakeup } from '../postgres/wakeup.ts';

export interface EventQueueOptions {
  readonly ack: 'auto' | 'manual';
  readonly maxInFlight: number;
  /** Asked before every event that is handed out. */
  readonly mayHandOut: () => boolean;
  /** Makes the event that is handed out. */
  readonly eventOf: (change: Change) => ChangeEvent;
  /** The consumer has asked for the next event, and so is done with this one; 'auto' only. */
  readonly acknowledge: (sequence: string) => void;
  /** The consumer has left the loop. Resolves when everything is let go. */
  readonly leave: () => Promise<void>;
}

type Result = IteratorResult<ChangeEvent, undefined>;
interface Pull {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** How many events may wait for the consumer. */
const CAPACITY = 4000;
/** How many that were handed out may still take up space. */
const SLACK = 1000;
/** For how many milliseconds events may be handed out before the event loop has to turn. */
const TURN = 20;

export class EventQueue implements AsyncIterableIterator<ChangeEvent, undefined> {
  readonly #options: EventQueueOptions;
  /** From `#next` on, what waits for the consumer. */
  #buffer: Change[] = [];
  #next = 0;
  readonly #pulls: Pull[] = [];
  readonly #inHand = new Set<string>();
  readonly #changed = new Wakeup();
  #paused = false;
  #dropped = false;
  /** When the first event was handed out since the event loop last turned. */
  #turnBegan: number | null = null;
  #end: { readonly error?: unknown } | null = null;

  constructor(options: EventQueueOptions) {
    this.#options = options;
  }

  /** How many events there is room for. */
  get room(): number {
    return CAPACITY - (this.#buffer.length - this.#next);
  }

  /** How many events the consumer has in hand, that are waited for. */
  get inHand(): number {
    return this.#dropped ? 0 : this.#inHand.size;
  }

  /** Whether what is in hand is given up. */
  get isDropped(): boolean {
    return this.#dropped;
  }

  push(changes: readonly Change[]): void {
    if (this.#paused || this.#end) return;
    for (const change of changes) this.#buffer.push(change);
    this.serve();
  }

  /** Resolves when there is room for `count` events, or when `signal` aborts. */
  async waitForRoom(count: number, signal: AbortSignal): Promise<void> {
    while (this.room < count && !signal.aborted) await this.#changed.wait(Infinity, signal);
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  async settled(limit: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + limit;
    while (this.inHand > 0 && !signal.aborted) {
      const left = deadline - performance.now();
      if (left <= 0) return;
      await this.#changed.wait(left, signal);
    }
  }

  /** The consumer is done with this event. False when it is not in hand. */
  settle(sequence: string): boolean {
    const wasInHand = this.#inHand.delete(sequence);
    if (wasInHand) this.#changed.wake();
    this.serve();
    return wasInHand;
  }

  /** Hands out nothing more; what is in hand can still be acknowledged. */
  pause(): void {
    this.#paused = true;
    this.#empty();
  }

  /** Hands out nothing more, and no longer waits for what is in hand: it comes again, unless `settle` is in time. */
  drop(): void {
    this.#dropped = true;
    this.pause();
  }

  /** Forgets everything, for a new term to begin. */
  clear(): void {
    this.#paused = false;
    this.#inHand.clear();
    this.#empty();
  }

  /** Ends the iteration: with an error, thrown once, or without. */
  end(error?: unknown): void {
    if (this.#end) return;
    this.clear();
    this.#end = error === undefined ? {} : { error };
    this.serve();
  }

  next(): Promise<Result> {
    if (this.#options.ack === 'auto' && this.inHand > 0) {
      for (const sequence of this.#inHand) this.#options.acknowledge(sequence);
      this.#inHand.clear();
      this.#changed.wake();
    }
    return new Promise((resolve, reject) => {
      this.#pulls.push({ resolve, reject });
      this.serve();
    });
  }

  async return(): Promise<Result> {
    this.drop();
    await this.#options.leave();
    this.#end = {};
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<Result> {
    await this.return();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #empty(): void {
    this.#buffer = [];
    this.#next = 0;
    this.#changed.wake();
  }

  /** Lets the waiting pulls have what there is. To be called when `mayHandOut` may have changed its mind. */
  serve(): void {
    while (this.#pulls.length > 0) {
      if (this.#end) this.#finish(this.#pulls.shift()!, this.#end);
      else if (this.#next === this.#buffer.length) return;
      else if (this.#inHand.size >= this.#options.maxInFlight || !this.#options.mayHandOut()) return;
      else if (this.#mustTurn()) return;
      else this.#handOut(this.#pulls.shift()!);
    }
  }

  /** A consumer that never waits would keep timers and sockets waiting, and so lose the lease. */
  #mustTurn(): boolean {
    const now = performance.now();
    if (this.#turnBegan === null) {
      this.#turnBegan = now;
      setImmediate(() => {
        this.#turnBegan = null;
        this.serve();
      });
    }
    return now - this.#turnBegan > TURN;
  }

  #handOut(pull: Pull): void {
    const change = this.#buffer[this.#next++]!;
    if (this.#next === this.#buffer.length || this.#next === SLACK) {
      this.#buffer = this.#buffer.slice(this.#next);
      this.#next = 0;
      this.#changed.wake();
    }
    if (change.sequence !== null) this.#inHand.add(change.sequence);
    pull.resolve({ done: false, value: this.#options.eventOf(change) });
  }

  #finish(pull: Pull, end: { readonly error?: unknown }): void {
    if ('error' in end) {
      this.#end = {};
      pull.reject(end.error);
    } else {
      pull.resolve({ done: true, value: undefined });
    }
  }
}
