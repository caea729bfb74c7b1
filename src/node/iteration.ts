/**
 * One handle(): a queue for the consumer, and behind it one life of a node after the other (one, unless it is to
 * reconnect), until the consumer leaves, the input is closed, the signal aborts, or a life ends badly.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import { leaseLost } from '../capture/acknowledgements.ts';
import { eventOf } from '../capture/change.ts';
import type { Delays, HandleSettings, Settings } from '../config/settings.ts';
import { EventQueue } from '../delivery/event-queue.ts';
import { sleep } from '../postgres/sleep.ts';
import { TRANSIENT } from '../postgres/sqlstates.ts';
import type { Names } from '../schema/names.ts';
import { Replica } from './life.ts';

export class Handling {
  readonly queue: EventQueue;
  /** Resolves when everything is let go. Never rejects. */
  readonly done: Promise<void>;
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #notify: Notify;
  readonly #stop = new AbortController();
  #replica: Replica | null = null;
  #attempt = 0;
  /** When the present life became a standby for the first time. */
  #joined = Infinity;

  constructor(settings: Settings, names: Names, options: HandleSettings, notify: Notify) {
    this.#settings = settings;
    this.#names = names;
    this.#notify = notify;
    this.queue = new EventQueue({
      ack: options.ack,
      maxInFlight: settings.maxInFlight,
      mayHandOut: () => this.#replica?.isTrusted ?? false,
      eventOf: (change) => eventOf(change, settings.id, this.#replica?.token ?? null),
      acknowledge: (sequence) => this.#replica?.acknowledgements?.acknowledgeSoon(sequence),
      leave: () => this.drop(),
    });
    this.done = this.#run(options.signal, options.reconnect);
  }

  /** Hands out nothing more; what is in hand has the time of a lease to be acknowledged. */
  stop(): Promise<void> {
    this.queue.pause();
    this.#stop.abort();
    return this.done;
  }

  /** Ends at once: what is in hand comes again. */
  drop(): Promise<void> {
    this.queue.drop();
    return this.stop();
  }

  /** @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL */
  async ack(event: ChangeEvent, sequence: string): Promise<void> {
    const { acknowledgements = null, token = null } = this.#replica ?? {};
    if (acknowledgements === null || token !== event.fencingToken) throw leaseLost();
    // Also if it is in hand no longer: a transaction that acknowledged it may have been rolled back.
    this.queue.settle(sequence);
    try {
      await acknowledgements.acknowledge(sequence);
    } catch (error) {
      throw asInputError(error, this.#settings);
    }
  }

  async #run(signal: AbortSignal | undefined, delays: Delays | null): Promise<void> {
    const abort = () => void this.drop();
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    let failure: { readonly error: unknown } | null = null;
    try {
      await this.#live(delays);
    } catch (error) {
      failure = { error };
    }
    signal?.removeEventListener('abort', abort);
    if (signal?.aborted) failure = { error: signal.reason };
    this.#notify('idle');
    if (failure) this.queue.end(failure.error);
    else this.queue.end();
  }

  /** One life of a node after the other, until one ends well, or badly and for good. */
  async #live(delays: Delays | null): Promise<void> {
    const stop = this.#stop.signal;
    while (!stop.aborted) {
      try {
        return await this.#liveOnce();
      } catch (cause) {
        this.queue.clear();
        // Who wants the end gets it, also from a database that is gone.
        if (stop.aborted) return;
        const error = asInputError(cause, this.#settings);
        if (!delays || !error.retryable) throw error;
        // A life that ends as soon as it has joined was no better than an attempt that fails.
        if (performance.now() - this.#joined > delays.maxDelay) this.#attempt = 0;
        const attempt = ++this.#attempt;
        const delay =
          Math.min(delays.maxDelay, delays.minDelay * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
        this.#notify('reconnecting', { error, attempt, delay });
        await sleep(delay, stop);
      }
    }
  }

  async #liveOnce(): Promise<void> {
    this.#joined = Infinity;
    const notify: Notify = (...notice) => {
      if (notice[0] === 'standby') this.#joined = Math.min(this.#joined, performance.now());
      this.#notify(...notice);
    };
    this.#replica = await Replica.connect(this.#settings, this.#names, this.queue, notify);
    try {
      await this.#replica.run(this.#stop.signal);
    } finally {
      this.#replica = null;
    }
  }
}

/** Whatever a life ended with, as one of our errors. */
function asInputError(cause: unknown, { target: { secrets } }: Settings): PostgresInputError {
  if (cause instanceof PostgresInputError) return cause;
  const { message, code = '' } = cause as Error & { code?: string };
  return TRANSIENT.test(code)
    ? new PostgresInputError(
        'ERR_CONNECTION_LOST',
        `the database could not go on (${message}): call handle() again, or use its option reconnect`,
        { cause, secrets },
      )
    : new PostgresInputError(
        'ERR_INSTALL',
        `the database refused a statement (${message}): the internal objects or the rights on them are incomplete; ` +
          'compare with what `plan` prints',
        { cause, secrets },
      );
}
