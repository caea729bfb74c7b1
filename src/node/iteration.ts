/**
 * One handle() or process(): a consumer of events, and behind it one life of a node after the other (one, unless it is to
 * reconnect), until the iteration is ended or a life fails for good.
 *
 *   iteration.end(how) -> life.end(how) -> term.end(how)
 *
 * An ending goes down this way at once, and comes back up as `done`: when the term has released the lease and the life has closed its
 * connections, the consumer is told. What each ending does is told in term.ts. An iteration ends gracefully after close(), and when the signal of
 * process() aborts. It is dropped when the consumer leaves the loop, when the signal of handle() aborts, or when the input is disposed.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { NamedEvent, TermReads } from '../capture/acknowledge-in.ts';
import { leaseLost } from '../capture/acknowledgements.ts';
import type { Delays, Settings } from '../config/settings.ts';
import type { Consumer } from '../delivery/consumer.ts';
import type { TermDelivery } from '../delivery/term-delivery.ts';
import { sleep } from '../postgres/sleep.ts';
import { isMissing, isTransient } from '../postgres/sqlstates.ts';
import { RemovedError } from '../schema/migrations.ts';
import { namesOf } from '../schema/names.ts';
import type { Engine, NodeLife } from './engine.ts';
import { type Ending, harsher } from './term.ts';

export interface IterationOptions {
  readonly consumer: Consumer;
  readonly signal: AbortSignal | undefined;
  /** How an abortion ends it: dropped, it rejects with the signal's reason. */
  readonly aborted: 'graceful' | 'dropped';
  readonly reconnect: Delays | null;
}

export class Iteration {
  readonly consumer: Consumer;
  /** Resolves when everything is let go. Never rejects. */
  readonly done: Promise<void>;
  readonly #settings: Settings;
  readonly #engine: Engine;
  readonly #notify: Notify;
  /** Aborts with the first ending: no further life begins. */
  readonly #running = new AbortController();
  #ending: Ending | null = null;
  #failure: { readonly error: unknown } | null = null;
  #life: NodeLife | null = null;
  #attempt = 0;
  /** Whether a life has seen the installation go, and none has joined another one since. */
  #isRemoved = false;
  /** When the present life became a standby for the first time. */
  #joined = Infinity;

  constructor(settings: Settings, engine: Engine, options: IterationOptions, notify: Notify) {
    this.#settings = settings;
    this.#engine = engine;
    this.#notify = notify;
    this.consumer = options.consumer;
    this.done = this.#run(options);
  }

  /** How it has ended, or is about to end: with this error; null: without one. */
  get failure(): { readonly error: unknown } | null {
    return this.#failure;
  }

  /** Begins an ending, or turns the one that has begun into a harsher one. Resolves when everything is let go. */
  end(how: 'graceful' | 'dropped'): Promise<void> {
    this.#ending = harsher(this.#ending, how);
    this.#running.abort();
    this.#life?.end(how);
    return this.done;
  }

  /** Ends gracefully, and then with this error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    void this.end('graceful');
  }

  /** @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL */
  acknowledge(event: NamedEvent): Promise<void> {
    return this.#inTerm(event, (delivery) => delivery.acknowledge(event.seq));
  }

  /** @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL, ERR_CONFIG_INVALID */
  nack(event: NamedEvent, error: unknown, delay?: number): Promise<void> {
    return this.#inTerm(event, (delivery) => delivery.nack(event.seq, error, delay));
  }

  /** @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL, ERR_CONFIG_INVALID */
  park(event: NamedEvent, error: unknown): Promise<void> {
    return this.#inTerm(event, (delivery) => delivery.park(event.seq, error));
  }

  async #inTerm({ token }: NamedEvent, task: (delivery: TermDelivery) => Promise<void>): Promise<void> {
    const delivery = this.#life?.delivery;
    if (!delivery || delivery.token !== token) throw leaseLost();
    try {
      await task(delivery);
    } catch (error) {
      throw asInputError(error, this.#settings);
    }
  }

  /** What the present term knows of the event, if that is a row which a backfill has read. */
  readsOf({ seq, token }: NamedEvent): TermReads {
    const delivery = () => {
      const present = this.#life?.delivery;
      return present?.token === token ? present : null;
    };
    return {
      noteRead: () => delivery()?.noteRead(seq) ?? false,
      isLeaseHeld: async () => (await delivery()?.isLeaseHeld()) ?? false,
    };
  }

  /** The consumer is done with this event, whether or not it is still in hand. */
  settle({ seq }: NamedEvent): void {
    this.#life?.delivery?.settle(seq);
  }

  async #run({ signal, aborted, reconnect }: IterationOptions): Promise<void> {
    const abort = () => void this.end(aborted);
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    try {
      await this.#live(reconnect);
    } catch (error) {
      this.#failure = { error };
    }
    signal?.removeEventListener('abort', abort);
    if (signal?.aborted && aborted === 'dropped') this.#failure = { error: signal.reason };
    // First the listeners hear of it, then the consumer.
    this.#notify('idle');
    this.consumer.end(this.#failure ?? undefined);
  }

  /** One life after the other, until one ends well, or fails for good. */
  async #live(delays: Delays | null): Promise<void> {
    while (!this.#ending) {
      try {
        return await this.#liveOnce();
      } catch (cause) {
        // The end was asked for: it comes without an error, also if the database is gone.
        if (this.#ending) return;
        const error = isMissing(cause)
          ? new RemovedError(namesOf(this.#settings.id, this.#settings.internalSchema), cause)
          : asInputError(cause, this.#settings);
        // A table that is missing may be the first sign of a removal. If it is not, the node makes the table when it rejoins.
        if (error instanceof RemovedError || isMissing(error.cause)) this.#isRemoved = true;
        if (!delays || !isOutlasted(error)) throw error;
        // A life that fails as soon as it has joined was no better than one that could not connect.
        if (performance.now() - this.#joined > delays.maxDelay) this.#attempt = 0;
        const attempt = ++this.#attempt;
        const delay =
          Math.min(delays.maxDelay, delays.minDelay * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
        this.#notify('reconnecting', { error, attempt, delay });
        await sleep(delay, this.#running.signal);
      }
    }
  }

  async #liveOnce(): Promise<void> {
    this.#joined = Infinity;
    const notify: Notify = (...notice) => {
      if (notice[0] === 'standby') {
        this.#joined = Math.min(this.#joined, performance.now());
        this.#isRemoved = false;
      }
      this.#notify(...notice);
    };
    const life = await this.#engine.connect(this.consumer, notify);
    this.#life = life;
    // The end may have come while it was connecting.
    if (this.#ending) life.end(this.#ending);
    try {
      await life.run(this.#isRemoved ? 'rejoining' : 'joining');
    } finally {
      this.#life = null;
    }
  }
}

/**
 * Whether a node that is to reconnect goes on after this error. It also goes on after garbage on the channel, although the same call may
 * meet the garbage's sender again: anybody may send a notification, and none may stop a consumer.
 */
const isOutlasted = ({ code, retryable }: PostgresInputError): boolean =>
  retryable || code === 'ERR_PAYLOAD_INVALID';

/** Makes one of our errors of what a life or an acknowledgement failed with. */
function asInputError(cause: unknown, { target: { secrets } }: Settings): PostgresInputError {
  if (cause instanceof PostgresInputError) return cause;
  const { message } = cause as Error;
  return isTransient(cause)
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
