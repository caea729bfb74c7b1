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
import type { Notify } from '../api/lifecycle-events.ts';
import { type Capture, beginTerm } from '../capture/capture.ts';
import type { RenewalAnswer } from '../capture/reader.ts';
import type { Settings } from '../config/settings.ts';
import { systemClock } from '../delivery/clock.ts';
import type { Consumer } from '../delivery/consumer.ts';
import { RowDecoder } from '../delivery/row-decoder.ts';
import { TermDelivery } from '../delivery/term-delivery.ts';
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
  readonly delivery: TermDelivery;
  readonly #options: TermOptions;
  readonly #capture: Capture;
  #ending: Ending | null = null;
  // One signal for each row of the table: it aborts when the row's part of the term stops.
  readonly #serving = new AbortController();
  readonly #waiting = new AbortController();
  readonly #holding = new AbortController();

  constructor(options: TermOptions) {
    this.#options = options;
    const { settings, names, session, lease, signature, notify, fail } = options;
    this.delivery = new TermDelivery({
      consumer: options.consumer,
      trigger: settings.id,
      fencingToken: lease.token!,
      clock: systemClock,
      decoder: new RowDecoder(settings.types),
      store: () => this.#capture,
      mayHandOut: () => lease.trusted,
      notify,
      fail,
    });
    this.#capture = beginTerm({
      session,
      names,
      signature,
      sink: this.delivery.sink,
      rows: wantsRows(settings) ? 'both' : 'none',
      rowSettings: settings,
      openSession: (statementTimeout) => connectBeside(settings, session, statementTimeout),
      hold: lease.holding,
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
    const renewed = (answer: RenewalAnswer) => {
      consumer.serve();
      this.#capture.onRenewal(answer);
    };
    const holding = guarded(lease.hold(this.#holding.signal, renewed, this.#capture.askedAtRenewal)).then(
      () => this.end('lost'),
    );
    const watching = guarded(discovery.watch(session, this.#serving.signal));
    await guarded(this.delivery.begin(lease.wasReleased));
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
    this.delivery.stop();
    this.#serving.abort();
    if (this.#ending === 'graceful') return;
    this.delivery.forget();
    this.#waiting.abort();
    if (this.#ending === 'dropped') return;
    this.#holding.abort();
  }

  /** To be called for every notification on the input's channel. */
  onNotification(payload: string): void {
    if (!this.#ending) this.#capture.onNotification(payload);
  }

  /** To be called when somebody may have asked for a backfill, or paused, resumed or cancelled one. */
  onBackfill(): void {
    if (!this.#ending) this.#capture.backfills.onChanged();
  }

  /** To be called when somebody may have redriven parked changes. */
  onRedriven(): void {
    if (!this.#ending) this.#capture.onRedriven();
  }

  /** To be called for every marker on the nodes' channel. */
  onMarker(marker: string): void {
    this.#capture.onMarker(marker);
  }

  /** Waits for acknowledgements that are still to come, and until those that came are written. */
  async #awaitAcknowledgements(): Promise<void> {
    await this.delivery.drain(this.#options.settings.lease.duration, this.#waiting.signal);
    if (this.#ending !== 'lost') await this.delivery.flush();
  }
}
