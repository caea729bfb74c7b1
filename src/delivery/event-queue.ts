/**
 * The consumer's side: an async iterator over the deliveries of one term after the other.
 *
 * The queue outlives the terms. Before the first term and between two of them, a pull waits. A term opens a {@link Delivery} of
 * its own, which takes the place of the one before.
 *
 * With `ack: 'auto'` asking for the next event acknowledges those in hand. Each event is the answer to a call of `next`, so the
 * number of calls under way is the only bound of what is in hand: any other would leave the calls above it without an answer.
 * With 'manual' the events are acknowledged one by one, and no more than `maxInFlight` are in hand.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import type { Traffic } from '../observe/traffic.ts';
import type { Consumer, ServedTerm } from './consumer.ts';
import { Delivery } from './delivery.ts';
import { LaneDelivery } from './lane-delivery.ts';
import { Turn } from './turn.ts';

export interface EventQueueOptions {
  readonly ack: 'auto' | 'manual';
  /** With `ack: 'manual'`. */
  readonly maxInFlight: number;
  /** After how long in hand an event is slow, with `ack: 'manual'`; milliseconds. */
  readonly slowAfter: number;
  readonly traffic: Traffic;
  /** Called when the consumer has left the loop. Resolves when everything is let go. */
  readonly leave: () => Promise<void>;
}

type Result = IteratorResult<ChangeEvent, undefined>;
interface Pull {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

export class EventQueue implements AsyncIterableIterator<ChangeEvent, undefined>, Consumer {
  readonly #options: EventQueueOptions;
  /** A term that ends waits for the lease's duration. */
  readonly drainTimeout = null;
  /** Nobody is suspected: whether an event can be parked is for the loop to decide. */
  readonly concurrency = null;

  #delivery: Delivery | LaneDelivery | null = null;
  readonly #pulls: Pull[] = [];
  readonly #turn = new Turn(() => this.serve());
  #end: { readonly error?: unknown } | null = null;

  constructor(options: EventQueueOptions) {
    this.#options = options;
  }

  /** How many events the consumer has in hand that are waited for. */
  get inHand(): number {
    return this.#delivery?.inHand ?? 0;
  }

  get blockedKeys(): number {
    return this.#delivery?.blockedKeys ?? 0;
  }

  get mustPull(): boolean {
    return this.inHand > 0;
  }

  /** Begins to hand out what a new term brings. */
  open(term: ServedTerm): Delivery | LaneDelivery {
    const { ack, maxInFlight, slowAfter, traffic } = this.#options;
    const ready = () => this.serve();
    this.#delivery =
      ack === 'auto'
        ? new Delivery({ ...term, traffic, maxInFlight: Infinity, ready })
        : new LaneDelivery({
            ...term,
            traffic,
            maxInFlight,
            ready,
            exclusive: false,
            key: null,
            slowAfter,
          });
    return this.#delivery;
  }

  /** Ends the iteration: with an error, thrown once, or without. */
  end(failure?: { readonly error: unknown }): void {
    if (this.#end) return;
    this.#end = failure ?? {};
    this.serve();
  }

  next(): Promise<Result> {
    if (this.#delivery instanceof Delivery) this.#delivery.acknowledgeInHand();
    // As a rule there is an event, and nobody waits for one.
    if (this.#pulls.length === 0 && !this.#end && this.#delivery?.canHandOut && !this.#turn.isOver)
      return Promise.resolve({ done: false, value: this.#delivery.handOut() });
    return new Promise((resolve, reject) => {
      this.#pulls.push({ resolve, reject });
      this.serve();
    });
  }

  async return(): Promise<Result> {
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

  /** Lets the waiting pulls have what there is. To be called when `mayHandOut` may have changed its mind. */
  serve(): void {
    while (this.#pulls.length > 0) {
      if (this.#end) this.#finish(this.#pulls.shift()!, this.#end);
      else if (!this.#delivery?.canHandOut || this.#turn.isOver) return;
      else this.#pulls.shift()!.resolve({ done: false, value: this.#delivery.handOut() });
    }
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
