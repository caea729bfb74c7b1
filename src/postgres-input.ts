/**
 * The input: what an orchestrator gets. It wires the stages together and owns the lifecycle.
 *
 *   idle --handle()--> standby <-> active --end of the loop, failure--> idle
 *   any --close()--> closed
 *
 * An idle input holds nothing: no connection, no timer. Each handle() has a queue and one life of a node after the
 * other (one, unless it is to reconnect).
 */
import { EventEmitter } from 'node:events';
import type pg from 'pg';
import { ChangeLog, leaseLost } from './change-log.ts';
import type { ChangeEvent } from './change.ts';
import { type PostgresInputOptions, type Settings, parseConfig } from './config.ts';
import { PostgresInputError } from './errors.ts';
import { EventQueue } from './event-queue.ts';
import { type Installation, uninstall } from './install.ts';
import { type Names, namesOf } from './names.ts';
import type { Input, InputConfig } from './orchestrator.ts';
import { Replica, tryConnecting, withSession } from './replica.ts';
import { type InputState, type InputStatus, readStatus } from './status.ts';
import { Wakeup } from './wakeup.ts';

/** How `handle` hands events out. */
export interface HandleOptions {
  /** Ends the iteration: it rejects with the signal's reason, after the lease is released. */
  signal?: AbortSignal;
  /**
   * `'auto'`: asking for the next event acknowledges the one before. `'manual'`: each is acknowledged by `ack`, in any
   * order. Default: `'auto'`.
   */
  ack?: 'auto' | 'manual';
  /**
   * Whether to rejoin as a standby, for ever, after an error that is retryable, with growing, jittered delays of at
   * least `minDelay` and at most `maxDelay` milliseconds. Default: `false`; `true` stands for 100 and 10000.
   */
  reconnect?: boolean | { minDelay?: number; maxDelay?: number };
}

/** What an input tells of its life: listeners get these arguments. */
export interface LifecycleEvents {
  /** It waits for the lease. */
  standby: [];
  /** It holds the lease, under this token. */
  active: [lease: { fencingToken: string }];
  /** Its `handle()` has ended. */
  idle: [];
  /** It has been closed. */
  closed: [];
  /** The reader waits for notifications. */
  asleep: [];
  /** The reader reads the change log. */
  awake: [];
  /** The triggers have been looked after: which tables are watched, and which are not, and why. */
  installed: [installation: Installation];
  /** With `reconnect`: the connection was lost, and is tried again after `delay` milliseconds. */
  reconnecting: [attempt: { error: PostgresInputError; attempt: number; delay: number }];
  /** A notification that claims to be of our triggers and is not was skipped. */
  forged: [];
  /** A notification that is not of our triggers was skipped: `foreignNotifications: 'ignore'`. */
  ignored: [];
}

type Listener<Name extends keyof LifecycleEvents> = (...args: LifecycleEvents[Name]) => void;

/** One handle(). */
interface Handling {
  readonly queue: EventQueue;
  readonly stop: AbortController;
  replica: Replica | null;
  /** Resolves when everything is let go. */
  done: Promise<void>;
}

/**
 * Makes an input: checks the config, and that the database lets a node connect, listen and hear itself.
 * Usable as an orchestrator's NewInputFunc.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECTION_STRING, ERR_CONNECT
 */
export const newPostgresInput = async (
  config: InputConfig,
  options?: PostgresInputOptions,
): Promise<PostgresInput> => {
  const settings = parseConfig(config, options);
  const names = namesOf(settings.id, settings.internalSchema);
  await tryConnecting(settings, names);
  return new PostgresInput(settings, names);
};

/** An input that watches a PostgreSQL database. Made by {@link newPostgresInput}. */
export class PostgresInput implements Input, AsyncDisposable {
  /** The name, every `-` turned into `_`: what every event bears as its trigger. */
  readonly id: string;
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #emitter = new EventEmitter<LifecycleEvents>();
  readonly #counts = { forged: 0, ignored: 0 };
  #state: InputState = 'idle';
  #installation: Installation | null = null;
  #handling: Handling | null = null;

  /** @internal */
  constructor(settings: Settings, names: Names) {
    this.id = settings.id;
    this.#settings = settings;
    this.#names = names;
  }

  /** `idle`: not handling. `standby`: another node is active. `active`: this one is. `closed`: for good. */
  get state(): InputState {
    return this.#state;
  }

  /**
   * Joins the nodes that watch the database, and hands out events whenever this is the active one. The work begins with
   * the call. One iteration at a time; after its end another may begin.
   *
   * The iteration ends after `close()`. It throws `ERR_PAYLOAD_INVALID` when garbage arrives on the channel,
   * `ERR_CONNECT` or `ERR_CONNECTION_LOST` when the database can't be reached, and `ERR_INSTALL`; the lease is given up
   * first, so that another node carries on.
   * @throws {PostgresInputError} ERR_ALREADY_HANDLING, ERR_CLOSED
   */
  handle(options: HandleOptions = {}): AsyncIterableIterator<ChangeEvent, undefined> {
    if (this.#state === 'closed') throw closed();
    if (this.#handling) {
      throw new PostgresInputError(
        'ERR_ALREADY_HANDLING',
        'handle() is running already, and an input has one consumer: end that first, or make another input',
      );
    }
    const { ack = 'auto', signal } = options;
    const stop = new AbortController();
    const queue = new EventQueue({
      ack,
      maxInFlight: this.#settings.maxInFlight,
      mayHandOut: () => handling.replica?.isTrusted ?? false,
      acknowledge: (sequence) => handling.replica?.log?.acknowledgeSoon(sequence),
      leave: () => {
        stop.abort();
        return handling.done;
      },
    });
    const handling: Handling = { queue, stop, replica: null, done: Promise.resolve() };
    this.#handling = handling;
    handling.done = this.#run(handling, signal, reconnectDelays(options.reconnect));
    return queue;
  }

  async #run(handling: Handling, signal: AbortSignal | undefined, delays: Delays | undefined): Promise<void> {
    const { queue, stop } = handling;
    const abort = () => {
      queue.drop();
      stop.abort();
    };
    signal?.addEventListener('abort', abort, { once: true });
    if (signal?.aborted) abort();
    let failure: { readonly error: unknown } | null = null;
    try {
      await this.#live(handling, delays);
    } catch (error) {
      failure = { error };
    }
    signal?.removeEventListener('abort', abort);
    this.#handling = null;
    if (this.#state !== 'closed') this.#become('idle');
    if (signal?.aborted) failure = { error: signal.reason };
    if (failure) queue.end(failure.error);
    else queue.end();
  }

  /** One life of a node after the other, until one ends well, or badly and for good. */
  async #live(handling: Handling, delays: Delays | undefined): Promise<void> {
    const { queue, stop } = handling;
    const pause = new Wakeup();
    for (let attempt = 1; !stop.signal.aborted; attempt++) {
      try {
        handling.replica = await Replica.connect(this.#settings, this.#names, queue, {
          standby: () => this.#become('standby'),
          active: (fencingToken) => {
            attempt = 1;
            this.#become('active', { fencingToken });
          },
          installed: (installation) => this.#noteInstallation(installation),
          reader: (what) => {
            if (what === 'forged' || what === 'ignored') this.#counts[what]++;
            this.#emitter.emit(what);
          },
        });
        return await handling.replica.run(stop.signal);
      } catch (cause) {
        queue.clear();
        const error = asInputError(cause, this.#settings);
        if (!delays || !error.retryable || stop.signal.aborted) throw error;
        const delay = Math.min(delays.max, delays.min * 2 ** (attempt - 1)) * (0.5 + Math.random() / 2);
        this.#become('standby');
        this.#emitter.emit('reconnecting', { error, attempt, delay });
        await pause.wait(delay, stop.signal);
      } finally {
        handling.replica = null;
      }
    }
  }

  /**
   * Acknowledges an event: it will not come again. With `client`, in that client's transaction: the event is gone if
   * and only if the transaction commits, and what the transaction does for it happens exactly once.
   *
   * Does nothing for an event that was acknowledged already, or that was announced by hand and so is in no log.
   * @throws {PostgresInputError} ERR_LEASE_LOST if another node holds the lease or has acknowledged the event: roll back
   * what was done for it. ERR_CONNECTION_LOST: it may come again.
   */
  async ack(event: ChangeEvent, client?: pg.ClientBase): Promise<void> {
    if (event.sequence === null) return;
    const { queue, replica } = this.#handling ?? {};
    if (client) {
      await ChangeLog.acknowledgeIn(client, this.#names, event);
      queue?.settle(event.sequence);
      return;
    }
    if (!replica?.log || replica.token !== event.fencingToken) throw leaseLost();
    if (!queue?.isInHand(event.sequence)) return;
    const acknowledged = replica.log.acknowledge(event.sequence);
    queue.settle(event.sequence);
    await acknowledged;
  }

  /**
   * How things stand, here and in the database.
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL
   */
  async status(): Promise<InputStatus> {
    return {
      id: this.id,
      state: this.#state,
      inFlight: this.#handling?.queue.inHand ?? 0,
      forgedNotifications: this.#counts.forged,
      ignoredNotifications: this.#counts.ignored,
      watched: this.#installation?.watched ?? [],
      unwatchable: this.#installation?.unwatchable ?? [],
      pending: this.#installation?.pending ?? [],
      ...(await withSession(this.#settings, (session) => readStatus(session, this.#names))),
    };
  }

  /** Calls `listener` for every lifecycle event of that name. */
  on<Name extends keyof LifecycleEvents>(name: Name, listener: Listener<Name>): this {
    this.#emitter.on(name, listener as never);
    return this;
  }

  /** Takes a listener back. */
  off<Name extends keyof LifecycleEvents>(name: Name, listener: Listener<Name>): this {
    this.#emitter.off(name, listener as never);
    return this;
  }

  /** Calls `listener` for the next lifecycle event of that name. */
  once<Name extends keyof LifecycleEvents>(name: Name, listener: Listener<Name>): this {
    this.#emitter.once(name, listener as never);
    return this;
  }

  /**
   * Removes everything that was installed for this id: triggers, functions, tables, and changes that nobody has
   * acknowledged. Every node should have ended before.
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL, ERR_ALREADY_HANDLING
   */
  async uninstall(): Promise<void> {
    if (this.#handling) {
      throw new PostgresInputError('ERR_ALREADY_HANDLING', 'handle() is running: end it before uninstall()');
    }
    await withSession(this.#settings, (session) => uninstall(session, this.#settings, this.#names));
    this.#installation = null;
  }

  /**
   * Hands out nothing more, lets everything go, and ends the iteration. Can be called more than once, and inside the
   * loop: while an event is in hand it resolves at once, the next pull acknowledges that event, and then the lease is
   * released; at the latest after the lease's duration, and then the event comes again elsewhere.
   */
  async close(): Promise<void> {
    const handling = this.#handling;
    if (this.#state !== 'closed') this.#become('closed');
    if (!handling) return;
    handling.stop.abort();
    if (handling.queue.inHand === 0) await handling.done;
    else handling.replica?.unref();
  }

  /** Closes at once: what is in hand comes again. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#handling?.queue.drop();
    await this.close();
  }

  #noteInstallation(installation: Installation): void {
    if (JSON.stringify(installation) === JSON.stringify(this.#installation)) return;
    this.#installation = installation;
    this.#emitter.emit('installed', installation);
  }

  #become<State extends InputState>(state: State, ...args: LifecycleEvents[State]): void {
    if (this.#state === 'closed' || (this.#state === state && state !== 'active')) return;
    this.#state = state;
    this.#emitter.emit(state, ...(args as never));
  }
}

interface Delays {
  readonly min: number;
  readonly max: number;
}

function reconnectDelays(option: HandleOptions['reconnect'] = false): Delays | undefined {
  if (option === false) return undefined;
  const { minDelay = 100, maxDelay = 10_000 } = option === true ? {} : option;
  if (minDelay > 0 && maxDelay >= minDelay) return { min: minDelay, max: maxDelay };
  throw new PostgresInputError(
    'ERR_CONFIG_INVALID',
    `reconnect: minDelay ${minDelay} and maxDelay ${maxDelay} must be milliseconds, above 0 and in this order`,
  );
}

const closed = (): PostgresInputError =>
  new PostgresInputError('ERR_CLOSED', 'the input has been closed: make a new one');

/**
 * SQLSTATE classes that say nothing against what is installed: the same statement may succeed another time
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html): transaction rollback, insufficient resources,
 * object not in prerequisite state, operator intervention, system error.
 */
const TRANSIENT = /^(40|53|55|57|58)/;

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
