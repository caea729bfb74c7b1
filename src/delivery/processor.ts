/**
 * The consumer of `process()`: runs the handler for many events at once, and decides what becomes of each.
 *
 * | the handler            | the event                                                                       |
 * | ---------------------- | ------------------------------------------------------------------------------- |
 * | resolves               | is acknowledged                                                                 |
 * | rejects                | comes again later as the next attempt; after the last attempt it is parked, or processing stops |
 * | called `ack(event)`    | is acknowledged, however the handler ends                                       |
 * | called `ack(event, client)` | is over if that transaction has committed; rolled back, it comes again as after a failure    |
 * | called `park(event)`   | is parked, however the handler ends                                             |
 *
 * That a connection is lost or not to be had is no failure of the event, which comes again with the same attempt. Nor is it that the term has lost
 * its lease. An error that says so may also be another input's, so the term is asked.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Traffic } from '../observe/traffic.ts';
import type { Consumer, ServedTerm } from './consumer.ts';
import { type Held, LaneDelivery } from './lane-delivery.ts';
import { Turn } from './turn.ts';

export type Handler = (event: ChangeEvent, context: { readonly signal: AbortSignal }) => unknown;

export interface RetryDelays {
  readonly minDelay: number;
  readonly maxDelay: number;
}

export interface ProcessorOptions {
  readonly handler: Handler;
  readonly concurrency: number;
  readonly key: ((event: ChangeEvent) => string) | null;
  readonly retry: RetryDelays & { readonly attempts: number };
  readonly exhausted: 'park' | 'stop';
  readonly drainTimeout: number | null;
  readonly slowAfter: number;
  readonly traffic: Traffic;
  /** Called when processing is to stop with this error. */
  readonly stop: (error: unknown) => void;
}

export class Processor implements Consumer {
  readonly #options: ProcessorOptions;
  readonly #turn = new Turn(() => this.serve());
  #delivery: LaneDelivery | null = null;
  #term: ServedTerm | null = null;
  /** How many handlers run, also for terms that are over. */
  #running = 0;
  #isEnded = false;
  /** Resolves when the processing has ended; rejects with the error that ended it. */
  get ended(): Promise<void> {
    return this.#ending.promise;
  }
  readonly #ending = deferred();
  /** A handler that calls close() and waits for it is told by its signal to end. */
  readonly mustPull = false;

  constructor(options: ProcessorOptions) {
    this.#options = options;
  }

  get inHand(): number {
    return this.#delivery?.inHand ?? 0;
  }

  get blockedKeys(): number {
    return this.#delivery?.blockedKeys ?? 0;
  }

  get drainTimeout(): number | null {
    return this.#options.drainTimeout;
  }

  get concurrency(): number {
    return this.#options.concurrency;
  }

  open(term: ServedTerm): LaneDelivery {
    const { concurrency, key, slowAfter, traffic } = this.#options;
    this.#term = term;
    this.#delivery = new LaneDelivery({
      ...term,
      traffic,
      maxInFlight: concurrency,
      exclusive: true,
      key: key && ((event) => this.#keyOf(key, event)),
      slowAfter,
      ready: () => this.serve(),
    });
    return this.#delivery;
  }

  /** A key that can't be told ends the processing: without it there is no order. Anybody can announce anything by hand, and that has no order anyway. */
  #keyOf(key: (event: ChangeEvent) => string, event: ChangeEvent): string {
    try {
      const told: unknown = key(event);
      if (typeof told === 'string') return told;
      throw new PostgresInputError(
        'ERR_CONFIG_INVALID',
        `key() must return a string, and not ${typeof told}`,
      );
    } catch (error) {
      if (event.sequence === null) return `${event.location}\0${event.id}`;
      this.#options.stop(error);
      return '';
    }
  }

  serve(): void {
    const { concurrency } = this.#options;
    while (!this.#isEnded && this.#running < concurrency && this.#delivery?.canHandOut) {
      if (this.#turn.isOver) return;
      void this.#run(this.#delivery, this.#term!);
    }
  }

  end(failure?: { readonly error: unknown }): void {
    this.#isEnded = true;
    if (failure) this.#ending.reject(failure.error);
    else this.#ending.resolve();
  }

  async #run(delivery: LaneDelivery, term: ServedTerm): Promise<void> {
    const held = delivery.handOutHeld();
    const { handler, traffic } = this.#options;
    let failure: { readonly error: unknown } | null = null;
    this.#running++;
    held.isRunning = true;
    try {
      await traffic.process(held.event, () => handler(held.event, { signal: delivery.signal }));
    } catch (error) {
      failure = { error };
    }
    this.#running--;
    held.isRunning = false;
    // What the handler had in hand comes again if its term is over.
    if (delivery.has(held)) {
      try {
        if (failure || held.settledBy !== null) await this.#settle(delivery, term, held, failure);
        else delivery.acknowledge(held);
      } catch (error) {
        if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') term.fail(error);
      }
    }
    this.serve();
  }

  async #settle(
    delivery: LaneDelivery,
    term: ServedTerm,
    held: Held,
    failure: { readonly error: unknown } | null,
  ): Promise<void> {
    switch (held.settledBy) {
      case null:
        if (failure) await this.#fail(delivery, term, held, failure.error);
        else delivery.acknowledge(held);
        return;
      case 'acknowledgement':
        delivery.finish(held);
        return;
      case 'transaction': {
        const isGone = await term.isGone(held.ticket.change.sequence!);
        if (!delivery.has(held)) return;
        if (isGone) delivery.finish(held);
        else await this.#fail(delivery, term, held, failure ? failure.error : rolledBack());
        return;
      }
      case 'parking': {
        const refusal = await delivery.parkingOf(held);
        if (!refusal) delivery.finishParked(held);
        else if (delivery.has(held)) await this.#fail(delivery, term, held, (failure ?? refusal).error);
      }
    }
  }

  async #fail(delivery: LaneDelivery, term: ServedTerm, held: Held, error: unknown): Promise<void> {
    const { retry, exhausted, stop } = this.#options;
    const { attempt } = held.event;
    held.settledBy = null;
    if (isOfConnection(error)) return delivery.again(held, retry.minDelay);
    if (error instanceof PostgresInputError) {
      const isGone = error.code === 'ERR_LEASE_LOST' && (await isGoneIn(term, held));
      const isLeaseHeld = await term.isLeaseHeld().catch(() => false);
      if (!delivery.has(held)) return;
      if (isGone) return delivery.finish(held);
      // The handler may go on after its promise is rejected, and have acknowledged or parked the event meanwhile.
      if (held.settledBy !== null) return this.#settle(delivery, term, held, { error });
      if (!isLeaseHeld) return delivery.again(held, retry.minDelay);
    }
    if (attempt < retry.attempts) await delivery.retry(held, error, delayAfter(attempt, retry));
    else if (exhausted === 'park') await delivery.park(held, error, attempt);
    else {
      const noted = delivery.retry(held, error, 0);
      stop(error);
      await noted;
    }
  }
}

const isOfConnection = (error: unknown): boolean =>
  error instanceof PostgresInputError &&
  (error.code === 'ERR_CONNECT' || error.code === 'ERR_CONNECTION_LOST');

/** The transaction of an earlier attempt may have committed when it was no longer waited for: then no attempt can acknowledge the event. */
async function isGoneIn(term: ServedTerm, { ticket }: Held): Promise<boolean> {
  const { sequence } = ticket.change;
  return sequence !== null && term.isGone(sequence).catch(() => false);
}

function deferred() {
  let resolve!: () => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<void>((fulfill, refuse) => {
    resolve = fulfill;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

/** Milliseconds until the next attempt: twice as long after each failure, and jittered, so that what failed together does not come again together. */
export const delayAfter = (attempts: number, { minDelay, maxDelay }: RetryDelays): number =>
  Math.min(maxDelay, minDelay * 2 ** (attempts - 1)) * (0.5 + Math.random() / 2);

const rolledBack = (): Error => new Error('the transaction that acknowledged the event was rolled back');
