/**
 * A term's side towards its consumer: it opens the delivery, and does what the consumer says of an event with the delivery and the store.
 *
 *   store (capture) <-> TermDelivery <-> consumer (event queue, processor)
 *
 * The consumer names events by their public sequences, of which the calls here get the number. `numberOf` finds the number under which the
 * store has the change, since a redriven one has another.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Sink } from '../capture/sink.ts';
import type { Store } from '../capture/store.ts';
import { RETRY_DELAYS } from '../config/settings.ts';
import type { Clock } from './clock.ts';
import type { Consumer } from './consumer.ts';
import type { Delivery } from './delivery.ts';
import { LaneDelivery } from './lane-delivery.ts';
import { delayAfter } from './processor.ts';
import type { Decoder } from './row-decoder.ts';

/** The weight of changes that may have been handled, and come again because that was not written when the process died. */
const UNWRITTEN = 1000;

export interface TermDeliveryOptions {
  readonly consumer: Consumer;
  /** The id of the input. */
  readonly trigger: string;
  readonly fencingToken: string;
  readonly clock: Clock;
  readonly decoder: Decoder;
  /** The store brings changes to the delivery, and the delivery acknowledges with the store. So one of them is made later. */
  readonly store: () => Store;
  /** Asked before every event that is handed out. */
  readonly mayHandOut: () => boolean;
  readonly notify: Notify;
  /** Called when something can't be written although the lease is held. */
  readonly fail: (error: unknown) => void;
}

export class TermDelivery {
  /** The fencing token of all events of this term. */
  readonly token: string;
  readonly #options: TermDeliveryOptions;
  readonly #delivery: Delivery | LaneDelivery;

  constructor(options: TermDeliveryOptions) {
    this.#options = options;
    const { consumer, store, fencingToken, ...served } = options;
    this.token = fencingToken;
    this.#delivery = consumer.open({
      ...served,
      fencingToken,
      acknowledge: (sequence) => store().acknowledgements.acknowledgeSoon(sequence),
      pending: () => store().acknowledgements.pending,
      written: () => store().acknowledgements.flush(),
      isGone: (sequence) => store().acknowledgements.isGone(sequence),
      isLeaseHeld: () => this.isLeaseHeld(),
      readAgain: () => store().readAgain(),
      dropRead: (sequence) => store().backfills.readAgain(sequence),
      failures: () => store().failures,
    });
  }

  /** Where the changes go. */
  get sink(): Sink {
    return this.#delivery;
  }

  /** Whether nothing is in hand, and nothing can be handed out. */
  get isQuiet(): boolean {
    return this.#delivery.isQuiet;
  }

  /**
   * Loads what is known of failures, which decides what may be handed out. `wasReleased`: whether the term before ended with grace; if not, what comes
   * first is suspected.
   */
  async begin(wasReleased: boolean): Promise<void> {
    if (!(this.#delivery instanceof LaneDelivery)) return;
    const { concurrency } = this.#options.consumer;
    const { failures } = this.#options.store();
    if (concurrency !== null) {
      this.#delivery.begin(await failures.load(), wasReleased ? 0 : UNWRITTEN + concurrency);
      return;
    }
    // Whoever acknowledges by hand need not have the tables of failures, until the first nack().
    const known = await failures.load().catch((error: unknown) => {
      if ((error as { code?: string }).code !== 'ERR_INSTALL') throw error;
      return [];
    });
    this.#delivery.begin(known, null);
  }

  /**
   * Acknowledges an event of this term, also one that is no longer in hand: a transaction that had acknowledged it may have been
   * rolled back.
   */
  async acknowledge(seq: string): Promise<void> {
    const store = this.#options.store();
    const number = store.numberOf(seq);
    this.#delivery.settle(number);
    await store.acknowledgements.acknowledge(number);
  }

  /** The consumer is done with an event of this term, which a transaction of its own has acknowledged. */
  settle(seq: string): void {
    const number = this.#options.store().numberOf(seq);
    if (this.#delivery instanceof LaneDelivery) this.#delivery.settle(number, 'transaction');
    else this.#delivery.settle(number);
  }

  /** The consumer wants an event of this term again, later. Resolves when that is written. */
  async nack(seq: string, error: unknown, delay?: number): Promise<void> {
    const { delivery, held } = this.#heldBy('nack', seq);
    if (!held || held.settledBy === 'parking') return;
    await delivery.retry(held, error, delay ?? delayAfter(held.event.attempt, RETRY_DELAYS));
  }

  /** The consumer wants an event of this term out of the way. Resolves when it is parked. */
  async park(seq: string, error: unknown): Promise<void> {
    const { delivery, held } = this.#heldBy('park', seq);
    if (held?.settledBy === 'parking') await held.parking;
    else if (held) await delivery.park(held, error, held.event.attempt);
  }

  #heldBy(call: 'nack' | 'park', seq: string) {
    const delivery = this.#delivery;
    const mayNack = this.#options.consumer.concurrency === null;
    if (delivery instanceof LaneDelivery && (call === 'park' || mayNack))
      return { delivery, held: delivery.find(this.#options.store().numberOf(seq)) };
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      `${call}() needs ${call === 'nack' ? '' : 'process(), or '}handle() with ack: 'manual': ` +
        'in a handler of process() throw instead, and in a loop with automatic acknowledgement use process()',
    );
  }

  /** Whether a row that a backfill has read is out in this term. To be called before a caller's transaction acknowledges it. */
  noteRead(seq: string): boolean {
    return this.#options.store().backfills.noteRead(seq);
  }

  /** Whether the term has the lease, as the database says now. */
  isLeaseHeld(): Promise<boolean> {
    return this.#options.store().backfills.isLeaseHeld();
  }

  /** Hands out nothing more. */
  stop(): void {
    this.#delivery.stop();
  }

  /** Hands out nothing more, and neither waits for what is in hand nor acknowledges it. */
  forget(): void {
    this.#delivery.forget();
  }

  /**
   * Waits for acknowledgements that are still to come, and for callers' transactions. It takes no longer than `drainTimeout`, or than `limit`
   * milliseconds where the consumer has none. Then the handlers' signal aborts.
   */
  async drain(limit: number, signal: AbortSignal): Promise<void> {
    const { clock, consumer, store } = this.#options;
    const patience = consumer.drainTimeout ?? limit;
    const deadline = clock.now() + patience;
    await this.#delivery.settled(patience, signal);
    if (this.#delivery instanceof LaneDelivery) this.#delivery.abort();
    await store().acknowledgements.callersEnded(deadline - clock.now(), signal);
  }

  /** Writes what is acknowledged. To be called last: what a caller's transaction has rolled back can be acknowledged now. */
  async flush(): Promise<void> {
    await this.#options.store().acknowledgements.flush();
    if (this.#delivery instanceof LaneDelivery) await this.#delivery.acquit();
  }
}
