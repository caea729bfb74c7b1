/**
 * A term: a node's time as the holder of the lease, from the claim to the end. A term owns the capture (reader and
 * acknowledgements), the delivery to the consumer, the renewals of the lease, the watching of discovery, and its ending.
 *
 *   serving --> graceful --> dropped --> lost
 *
 * A term ends in one of three ways. While an ending is under way it can turn into one further to the right, never to the left. Each
 * ending goes on with less of what a term does:
 *
 * |                                                         | serving | graceful | dropped | lost |
 * | ------------------------------------------------------- | ------- | -------- | ------- | ---- |
 * | hands out, reads, watches discovery                     | yes     |          |         |      |
 * | waits for what is in hand and for callers' transactions |         | yes      |         |      |
 * | renews the lease, writes acknowledgements               | yes     | yes      | yes     |      |
 *
 * - Graceful: close() was called, the signal of process() aborted, or the node failed and its session is alive, as with garbage on the
 *   channel. The waiting takes no longer than the lease's duration, or than `drainTimeout`; then the handlers' signal aborts.
 * - Dropped: the consumer left the loop, the signal of handle() aborted, or the input was disposed. What was acknowledged so far is written.
 * - Lost: another node may hold the lease (a renewal found so, or the trust ran out), or the session is gone.
 *
 * The last steps are the same for all: the renewals stop, the lease is released if it is still held, and the term is as if it
 * were lost. Events that are in hand then come again, here or elsewhere.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import { leaseLost } from '../capture/acknowledgements.ts';
import { type Capture, beginTerm } from '../capture/capture.ts';
import { RETRY_DELAYS, type Settings } from '../config/settings.ts';
import type { Consumer } from '../delivery/consumer.ts';
import type { Delivery } from '../delivery/delivery.ts';
import { LaneDelivery } from '../delivery/lane-delivery.ts';
import { delayAfter } from '../delivery/processor.ts';
import type { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import { wantsRows } from '../schema/table-options.ts';
import type { Signature } from '../schema/wire-format.ts';
import { connectBeside } from './connect.ts';
import type { Discovery } from './discovery.ts';
import type { Lease } from './lease.ts';

/** How a term ends, the mildest first. */
const ENDINGS = ['graceful', 'dropped', 'lost'] as const;
export type Ending = (typeof ENDINGS)[number];

/** The one of two endings that is further to the right. */
export const harsher = (one: Ending | null, other: Ending): Ending =>
  one !== null && ENDINGS.indexOf(one) > ENDINGS.indexOf(other) ? one : other;

/** The weight of changes that may have been handled, and come again because that was not written when the process died. */
const UNWRITTEN = 1000;

export interface TermOptions {
  readonly settings: Settings;
  readonly names: Names;
  readonly session: Session;
  /** Held since a moment ago. */
  readonly lease: Lease;
  readonly discovery: Discovery;
  readonly consumer: Consumer;
  /** How our triggers sign their notifications. */
  readonly signature: Signature;
  readonly notify: Notify;
  /** Called for what fails while the term lasts; the term is then told how to end. */
  readonly fail: (error: unknown) => void;
}

export class Term {
  /** The fencing token of all events of this term. */
  readonly token: string;
  readonly #options: TermOptions;
  readonly #delivery: Delivery | LaneDelivery;
  readonly #capture: Capture;
  #ending: Ending | null = null;
  // One signal for each row of the table: it aborts when the row's part of the term stops.
  readonly #serving = new AbortController();
  readonly #waiting = new AbortController();
  readonly #holding = new AbortController();

  constructor(options: TermOptions) {
    this.#options = options;
    const { settings, names, session, lease, signature, notify, fail } = options;
    const token = lease.token!;
    this.token = token;
    // The capture brings changes to the delivery, and the delivery acknowledges with the capture.
    const capture = (): Capture => this.#capture;
    this.#delivery = options.consumer.open({
      trigger: settings.id,
      fencingToken: token,
      types: settings.types,
      mayHandOut: () => lease.trusted,
      acknowledge: (sequence) => capture().acknowledgements.acknowledgeSoon(sequence),
      pending: () => capture().acknowledgements.pending,
      isGone: (sequence) => capture().acknowledgements.isGone(sequence),
      readAgain: () => capture().readAgain(),
      dropRead: (sequence) => capture().backfills.readAgain(sequence),
      failures: () => capture().failures,
      notify,
      fail,
    });
    this.#capture = beginTerm({
      session,
      names,
      signature,
      sink: this.#delivery,
      rows: wantsRows(settings) ? 'both' : 'none',
      rowSettings: settings,
      openSession: () => connectBeside(settings, session),
      hold: lease,
      foreignNotifications: settings.foreignNotifications,
      notifications: settings.notifications,
      markerTimeout: 2 * settings.lease.renewInterval,
      notify,
      fail,
    });
  }

  /** From the claim of the lease to its release. What fails goes to `fail`. */
  async serve(): Promise<void> {
    const { session, lease, discovery, consumer, fail } = this.#options;
    const guarded = (task: Promise<void>) => task.catch(fail);
    const renewed = (queueUsage: number) => {
      consumer.serve();
      this.#capture.onRenewal(queueUsage);
    };
    const holding = guarded(lease.hold(this.#holding.signal, renewed)).then(() => this.end('lost'));
    const watching = guarded(discovery.watch(session, this.#serving.signal));
    await guarded(this.#loadFailures());
    await guarded(this.#capture.run(this.#serving.signal));
    await guarded(this.#awaitAcknowledgements());
    this.#holding.abort();
    await holding;
    await guarded(lease.release());
    // Last: a table may be being installed, and the release need not wait for that.
    await watching;
  }

  /** Begins an ending, or turns the one that has begun into a harsher one. Whatever stops, stops at once. */
  end(how: Ending): void {
    this.#ending = harsher(this.#ending, how);
    this.#delivery.stop();
    this.#serving.abort();
    if (this.#ending === 'graceful') return;
    this.#delivery.forget();
    this.#waiting.abort();
    if (this.#ending === 'dropped') return;
    this.#holding.abort();
  }

  /**
   * Acknowledges an event of this term, also one that is no longer in hand: a transaction that had acknowledged it may have been
   * rolled back.
   */
  async acknowledge(seq: string): Promise<void> {
    const number = this.#capture.numberOf(seq);
    this.#delivery.settle(number);
    await this.#capture.acknowledgements.acknowledge(number);
  }

  /** The consumer is done with an event of this term, which a transaction of its own has acknowledged. */
  settle(seq: string): void {
    const number = this.#capture.numberOf(seq);
    if (this.#delivery instanceof LaneDelivery) this.#delivery.settle(number, 'transaction');
    else this.#delivery.settle(number);
  }

  /** The consumer wants an event of this term again, later. Resolves when that is written. */
  async nack(seq: string, error: unknown, delay?: number): Promise<void> {
    const { delivery, held } = this.#heldBy('nack', seq);
    if (held) await delivery.retry(held, error, delay ?? delayAfter(held.event.attempt, RETRY_DELAYS));
  }

  /** The consumer wants an event of this term out of the way. Resolves when it is parked. */
  async park(seq: string, error: unknown): Promise<void> {
    const { delivery, held } = this.#heldBy('park', seq);
    if (held) await delivery.park(held, error, held.event.attempt);
  }

  #heldBy(call: 'nack' | 'park', seq: string) {
    const delivery = this.#delivery;
    const mayNack = this.#options.consumer.concurrency === null;
    if (delivery instanceof LaneDelivery && (call === 'park' || mayNack))
      return { delivery, held: delivery.find(this.#capture.numberOf(seq)) };
    throw new PostgresInputError(
      'ERR_CONFIG_INVALID',
      `${call}() needs ${call === 'nack' ? '' : 'process(), or '}handle() with ack: 'manual': ` +
        'in a handler of process() throw instead, and in a loop with automatic acknowledgement use process()',
    );
  }

  /** To be called for every notification on the input's channel. */
  onNotification(payload: string): void {
    if (!this.#ending) this.#capture.onNotification(payload);
  }

  /** To be called when somebody may have asked for a backfill, or paused, resumed or cancelled one. */
  onBackfill(): void {
    if (!this.#ending) this.#capture.backfills.onChanged();
  }

  /**
   * To be called before a caller's transaction acknowledges a row that a backfill has read.
   * @throws {PostgresInputError} ERR_LEASE_LOST if it is acknowledged
   */
  noteCaller(seq: string): void {
    if (!this.#capture.backfills.noteCaller(seq)) throw leaseLost();
  }

  /** To be called when somebody may have redriven parked changes. */
  onRedriven(): void {
    if (!this.#ending) this.#capture.onRedriven();
  }

  /** To be called for every marker on the nodes' channel. */
  onMarker(marker: string): void {
    this.#capture.onMarker(marker);
  }

  /** What is known of failures decides what may be handed out. */
  async #loadFailures(): Promise<void> {
    const { lease, consumer } = this.#options;
    const { concurrency } = consumer;
    if (!(this.#delivery instanceof LaneDelivery)) return;
    const { failures } = this.#capture;
    if (concurrency !== null) {
      this.#delivery.begin(await failures.load(), lease.wasReleased ? 0 : UNWRITTEN + concurrency);
      return;
    }
    // Whoever acknowledges by hand need not have the tables of failures, until the first nack().
    const known = await failures.load().catch((error: unknown) => {
      if ((error as { code?: string }).code !== 'ERR_INSTALL') throw error;
      return [];
    });
    this.#delivery.begin(known, null);
  }

  /** Waits for acknowledgements that are still to come, and until those that came are written. */
  async #awaitAcknowledgements(): Promise<void> {
    const { consumer, settings } = this.#options;
    const limit = consumer.drainTimeout ?? settings.lease.duration;
    const deadline = performance.now() + limit;
    const { acknowledgements } = this.#capture;
    await this.#delivery.settled(limit, this.#waiting.signal);
    if (this.#delivery instanceof LaneDelivery) this.#delivery.abort();
    await acknowledgements.callersEnded(deadline - performance.now(), this.#waiting.signal);
    // Last: what a caller's transaction has rolled back can be acknowledged now.
    if (this.#ending === 'lost') return;
    await acknowledgements.flush();
    if (this.#delivery instanceof LaneDelivery) await this.#delivery.acquit();
  }
}
