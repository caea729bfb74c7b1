/**
 * The input: what an orchestrator gets. It owns the state, the lifecycle events and the counts.
 *
 *   idle --handle()--> standby <-> active --end of the loop, failure--> idle
 *   any of the three --with `reconnect`, the database goes away--> reconnecting --> standby
 *   any --close()--> closed
 *
 * An idle input holds nothing: no connection, no timer; but for the first second those with which it was made. Each handle() is an iteration (node/iteration.ts). Behind the input is an {@link Engine}: a
 * database, or the store in memory of the test input. All parts tell the input what happens through one function, `#hear`.
 */
import { EventEmitter, captureRejectionSymbol } from 'node:events';
import { inspect } from 'node:util';
import type pg from 'pg';
import type { Backfill, BackfillOptions } from './api/backfill.ts';
import type { AnyTables, ChangeEvent, ParkedEvent, RowsByLocation } from './api/change-event.ts';
import { PostgresInputError } from './api/errors.ts';
import type { Installation } from './api/installation.ts';
import type { LifecycleEvents, LifecycleNotice, Notice } from './api/lifecycle-events.ts';
import type {
  HandleOptions,
  NackOptions,
  PostgresInputConfig,
  PostgresInputOptions,
  ProcessOptions,
  Tags,
} from './api/options.ts';
import type { Input } from './api/orchestrator.ts';
import type { Health, InputState, InputStatus, Metrics } from './api/status.ts';
import { namedBy } from './capture/acknowledge-in.ts';
import { leaseLost } from './capture/acknowledgements.ts';
import { checkedChoice } from './capture/parked.ts';
import {
  type Settings,
  parseBackfillOptions,
  parseConfig,
  parseHandleOptions,
  parseNackOptions,
  parseParkedOptions,
  parseProcessOptions,
} from './config/settings.ts';
import { EventQueue } from './delivery/event-queue.ts';
import { type Handler, Processor } from './delivery/processor.ts';
import { connectFirst } from './node/connect.ts';
import type { Engine } from './node/engine.ts';
import { FirstConnections } from './node/first-connections.ts';
import { Iteration, type IterationOptions } from './node/iteration.ts';
import { PostgresEngine } from './node/postgres-engine.ts';
import { channels } from './observe/channels.ts';
import { ConditionErrors } from './observe/condition-errors.ts';
import { NodeHealth } from './observe/health.ts';
import { Log } from './observe/log.ts';
import { Traffic } from './observe/traffic.ts';
import { namesOf } from './schema/names.ts';

/**
 * Makes an input: checks the config, and that the database lets a node connect, listen and hear itself. It keeps these connections for a second, for the
 * first `handle()` or `process()`. Such connections do not keep the process alive.
 * Usable as an orchestrator's NewInputFunc. The type argument maps locations to the types of their rows, for the types of events alone.
 * @throws {PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECTION_STRING, ERR_CONNECT
 */
export const newPostgresInput = async <Tables extends RowsByLocation<Tables> = AnyTables>(
  config: PostgresInputConfig,
  options?: PostgresInputOptions,
): Promise<PostgresInput<Tables>> => {
  const settings = parseConfig(config, options);
  const connections = await connectFirst(settings, namesOf(settings.id, settings.internalSchema));
  return inputOf<Tables>(settings, new FirstConnections(connections));
};

/** An input on a database. `first`: connections for its first iteration. */
export const inputOf = <Tables extends RowsByLocation<Tables> = AnyTables>(
  settings: Settings,
  first?: FirstConnections,
): PostgresInput<Tables> => new PostgresInput(settings, new PostgresEngine(settings, first));

/**
 * An input that watches a PostgreSQL database. Made by {@link newPostgresInput}. It emits {@link LifecycleEvents}: `on`, `once` and `off`
 * listen, and so does `once` of node:events.
 */
export class PostgresInput<Tables extends RowsByLocation<Tables> = AnyTables>
  extends EventEmitter<LifecycleEvents>
  implements Input, AsyncDisposable
{
  /** The name, with every `-` turned into `_`. It is the `trigger` of every event. */
  readonly id: string;
  readonly #settings: Settings;
  readonly #engine: Engine;
  readonly #counts = { forged: 0, ignored: 0 };
  readonly #conditionErrors = new ConditionErrors();
  readonly #traffic: Traffic;
  readonly #health: NodeHealth;
  readonly #log: Log | null;
  #state: InputState = 'idle';
  #installation: Installation | null = null;
  #iteration: Iteration | null = null;

  /** @internal */
  constructor(settings: Settings, engine: Engine) {
    super({ captureRejections: true });
    Object.assign(this, { [captureRejectionSymbol]: warn });
    this.id = settings.id;
    this.#settings = settings;
    this.#engine = engine;
    const { secrets } = settings.target;
    this.#traffic = new Traffic(this.id);
    this.#health = new NodeHealth({
      patience: settings.lease.duration,
      installs: settings.install,
      wakeup: settings.wakeup,
      secrets,
      look: (signal) => engine.metrics(signal),
    });
    this.#log = settings.logger ? new Log(settings.logger, this.id, secrets) : null;
  }

  /**
   * `idle`: not handling, or not joined yet. `standby`: another node is active. `active`: this one is. `reconnecting`: the database is away.
   * `closed`: for good.
   */
  get state(): InputState {
    return this.#state;
  }

  /**
   * Joins the nodes that watch the database, and hands out events whenever this is the active one. The work begins with
   * the call. One iteration at a time; after its end another may begin.
   *
   * The iteration ends after `close()`. It throws `ERR_PAYLOAD_INVALID` when garbage arrives on the channel,
   * `ERR_CONNECT` or `ERR_CONNECTION_LOST` when the database can't be reached, and `ERR_INSTALL`; the lease is given up
   * first, so that another node carries on. With `reconnect` it throws `ERR_INSTALL` alone.
   * @throws {PostgresInputError} ERR_ALREADY_HANDLING, ERR_CLOSED, ERR_CONFIG_INVALID
   */
  handle(options: HandleOptions = {}): AsyncIterableIterator<ChangeEvent<Tables>, undefined> {
    this.#refuseSecond();
    const { ack, slowAfter, signal, reconnect } = parseHandleOptions(options);
    const queue = new EventQueue({
      ack,
      maxInFlight: this.#settings.maxInFlight,
      slowAfter,
      traffic: this.#traffic,
      leave: () => iteration.end('dropped'),
    });
    const iteration = this.#begin({ consumer: queue, signal, aborted: 'dropped', reconnect });
    return queue as AsyncIterableIterator<ChangeEvent<Tables>, undefined>;
  }

  /**
   * Joins the nodes that watch the database, and calls `handler` for each event whenever this is the active one: for up to `concurrency`
   * events at once, for those of one key one after the other. The event is acknowledged when the handler's promise is fulfilled. When it is
   * rejected, the event comes again later, and its key waits for it.
   *
   * In a transaction of its own the handler may call `ack(event, client)`: then its effects and the acknowledgement commit together, and
   * after a rollback the event comes again. The transaction has to end before the handler does. The handler may also call `park(event, error)`.
   * `context.signal` aborts when the handler is to end, since the event will come again elsewhere.
   *
   * Resolves after `close()`, or when `signal` aborts: handlers that run have `drainTimeout` to finish. A handler that waits for `close()` waits for itself.
   * @throws {PostgresInputError} ERR_ALREADY_HANDLING, ERR_CLOSED, ERR_CONFIG_INVALID, ERR_INSTALL. With `reconnect: false` also ERR_CONNECT,
   * ERR_CONNECTION_LOST and ERR_PAYLOAD_INVALID. With `exhausted: 'stop'`, the error of the handler.
   */
  async process(
    handler: (event: ChangeEvent<Tables>, context: { readonly signal: AbortSignal }) => unknown,
    options: ProcessOptions<Tables> = {},
  ): Promise<void> {
    this.#refuseSecond();
    const { signal, reconnect, key, drainTimeout, ...settings } = parseProcessOptions(handler, options);
    const processor = new Processor({
      ...settings,
      traffic: this.#traffic,
      handler: handler as Handler,
      key: key ?? null,
      drainTimeout: drainTimeout ?? null,
      stop: (error) => iteration.fail(error),
    });
    const iteration = this.#begin({ consumer: processor, signal, aborted: 'graceful', reconnect });
    await processor.ended;
  }

  #refuseSecond(): void {
    if (this.#state === 'closed') throw closed();
    if (!this.#iteration) return;
    throw new PostgresInputError(
      'ERR_ALREADY_HANDLING',
      'handle() or process() is running already, and an input has one consumer: end that first, or make another input',
    );
  }

  #begin(options: IterationOptions): Iteration {
    const iteration = new Iteration(this.#settings, this.#engine, options, (...notice) =>
      this.#hear(...notice),
    );
    this.#iteration = iteration;
    return iteration;
  }

  /**
   * Acknowledges an event: it will not come again. Only a `read` event may, after a crash or a lost lease, until the progress of its backfill has moved
   * over it; with `client` not even that. With `client`, in that client's transaction: the event is gone if
   * and only if the transaction commits, and what the transaction does for it happens exactly once.
   *
   * Does nothing for an event that was announced by hand, since no log has it. Without `client`, does nothing for an event that
   * was acknowledged already; if a transaction that is still open has acknowledged the event, `ack` resolves when that has ended.
   * @throws {PostgresInputError} ERR_LEASE_LOST if another node holds the lease or has acknowledged the event, and with
   * `client` also if this node has: roll back what was done for the event. ERR_CONNECTION_LOST: the event may come again.
   * ERR_INSTALL if a right is missing. ERR_CONFIG_INVALID for the event of another input, for a value that no input handed out, and
   * for a pool or a client without an open transaction. With `client`, also the client's own
   * errors, and ERR_CONNECT: changes of one statement may share a row of the log, and a session of ours takes one out of it.
   */
  async ack(event: ChangeEvent, client?: pg.ClientBase): Promise<void> {
    if (event?.trigger !== this.id) throw foreign(event, this.id);
    if (event.sequence === null) return;
    const named = namedBy(event);
    if (client) {
      await this.#engine.acknowledgeIn(client, named, this.#iteration?.readsOf(named));
      this.#iteration?.settle(named);
    } else if (this.#iteration) {
      await this.#iteration.acknowledge(named);
    } else {
      throw leaseLost();
    }
  }

  /**
   * With `ack: 'manual'`: the event has failed, and comes again after `delay` as the next attempt. Other events of its key wait for it, unless they were
   * handed out, or next to be. Resolves when that is written, so that another node would go on with it. Does nothing for an event that is not in hand.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL; ERR_CONFIG_INVALID also without `ack: 'manual'`
   */
  async nack(event: ChangeEvent, options: NackOptions = {}): Promise<void> {
    if (event?.trigger !== this.id) throw foreign(event, this.id);
    const { delay, error } = parseNackOptions(options);
    if (event.sequence === null) return;
    if (!this.#iteration) throw leaseLost();
    await this.#iteration.nack(namedBy(event), error, delay);
  }

  /**
   * With `ack: 'manual'`, and in a handler of `process()`: puts the event out of the way, with the error. It is kept until it is redriven or discarded, and its
   * key goes on. Does nothing for an event that is not in hand, or that was announced by hand.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_CONNECTION_LOST, ERR_INSTALL; ERR_CONFIG_INVALID also with `ack: 'auto'`
   */
  async park(event: ChangeEvent, error?: unknown): Promise<void> {
    if (event?.trigger !== this.id) throw foreign(event, this.id);
    if (event.sequence === null) return;
    if (!this.#iteration) throw leaseLost();
    await this.#iteration.park(namedBy(event), error);
  }

  /**
   * Says who writes, and why, for the rest of the client's transaction: events of its changes have it as `origin` and `context`. A
   * handler that writes to watched tables tags its transactions, and knows its own changes by an `origin` that is this input's `id`.
   * Plain SQL does the same: `SELECT set_config('postgres_input.origin', 'importer', true)`, and `postgres_input.context` with JSON.
   * @throws {PostgresInputError} ERR_CONFIG_INVALID for tags that can't be kept, and for a pool or a client without an open transaction.
   * Otherwise the client's own errors.
   */
  async tag(client: pg.ClientBase, { origin = this.id, ...tags }: Tags = {}): Promise<void> {
    await this.#engine.tag(client, { ...tags, origin });
  }

  /**
   * How things stand, here and in the database.
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL
   */
  async status(): Promise<InputStatus> {
    return {
      id: this.id,
      state: this.#state,
      inFlight: this.#iteration?.consumer.inHand ?? 0,
      forgedNotifications: this.#counts.forged,
      ignoredNotifications: this.#counts.ignored,
      watched: this.#installation?.watched ?? [],
      unwatchable: this.#installation?.unwatchable ?? [],
      pending: this.#installation?.pending ?? [],
      ...(this.#installation?.publishedBy && { publishedBy: this.#installation.publishedBy }),
      ...(await this.#engine.status()),
    };
  }

  /**
   * How this node does, at once and without a query: for a readiness check, with `error` for not ready. On the active node, a call also looks into the
   * database in the background, every ten seconds at most, and the next call tells what was found.
   */
  health(): Health {
    return this.#health.report(this.#state);
  }

  /**
   * Numbers for monitoring: what this node counted, and what it reads from the database, on a connection of its own.
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL
   */
  async metrics(): Promise<Metrics> {
    const shared = await this.#engine.metrics();
    const { handedOut, acknowledged, redelivered } = this.#traffic;
    const { inHand = 0, blockedKeys = 0 } = this.#iteration?.consumer ?? {};
    const conditionErrors = this.#conditionErrors.total;
    return {
      ...shared,
      inFlight: inHand,
      handedOut,
      acknowledged,
      redelivered,
      conditionErrors,
      blockedKeys,
    };
  }

  /**
   * The events that were parked, in the order of their sequences.
   * @param options `limit`: how many at most. Default: 100. `after`: only those after this sequence. Default: from the first
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL, ERR_CONFIG_INVALID
   */
  async parked(options: { limit?: number; after?: string } = {}): Promise<ParkedEvent<Tables>[]> {
    const { limit, after } = parseParkedOptions(options);
    const events = await this.#engine.parked({ limit, after: after ?? null });
    return events as ParkedEvent<Tables>[];
  }

  /**
   * Puts parked events back: they come again with the sequence that they had, and as attempt 1. Returns how many that were.
   * @param which their sequences, or `'all'`
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL, ERR_CONFIG_INVALID
   */
  async redrive(which: string[] | 'all'): Promise<number> {
    return this.#engine.redrive(checkedChoice(which, 'redrive()'));
  }

  /**
   * Drops parked events for good. Returns how many that were.
   * @param which their sequences, or `'all'`
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL, ERR_CONFIG_INVALID
   */
  async discard(which: string[] | 'all'): Promise<number> {
    return this.#engine.discard(checkedChoice(which, 'discard()'));
  }

  /**
   * Asks for the rows that watched tables hold already, as `read` events. The active node reads them, in the order of their keys; each comes
   * between the changes of its row that were committed before and those after. Resolves when the request is written; nodes need not run.
   * @throws {PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECT, ERR_INSTALL
   */
  async backfill(options: BackfillOptions = {}): Promise<Backfill> {
    const { tables = null, where = null, chunk = null } = parseBackfillOptions(options);
    return this.#engine.backfill({ tables, where, chunk });
  }

  /**
   * Removes everything that was installed for this id: triggers, functions, tables, and changes that nobody has
   * acknowledged. Every node should have ended before.
   * @throws {PostgresInputError} ERR_CONNECT, ERR_INSTALL, ERR_ALREADY_HANDLING
   */
  async uninstall(): Promise<void> {
    if (this.#iteration) {
      throw new PostgresInputError('ERR_ALREADY_HANDLING', 'handle() is running: end it before uninstall()');
    }
    await this.#engine.uninstall();
    this.#installation = null;
  }

  /**
   * Hands out nothing more, lets everything go, and ends the iteration. Can be called more than once, and inside the
   * loop: while an event is in hand, `close` resolves at once, and the next pull acknowledges that event and releases the lease.
   * If that takes longer than the lease's duration, the lease is released all the same, and the event comes again elsewhere.
   */
  async close(): Promise<void> {
    const iteration = this.#iteration;
    this.#hear('closed');
    const ended = iteration?.end('graceful');
    if (!iteration?.consumer.mustPull) await ended;
    await Promise.all([this.#health.close(), this.#engine.close()]);
  }

  /** Closes at once: what is in hand comes again. */
  async [Symbol.asyncDispose](): Promise<void> {
    const dropped = this.#iteration?.end('dropped');
    await this.close();
    await dropped;
  }

  /** Takes note of what happens, and tells the listeners. */
  #hear(...notice: Notice): void {
    this.#health.hear(notice);
    switch (notice[0]) {
      case 'idle':
        this.#health.onEnd(this.#iteration?.failure?.error ?? null);
        this.#iteration = null;
        if (this.#state !== 'idle') this.#become(notice);
        return;
      case 'standby':
      case 'active':
      case 'reconnecting':
      case 'closed':
        this.#become(notice);
        return;
      case 'installed':
        if (JSON.stringify(notice[1]) === JSON.stringify(this.#installation)) return;
        this.#installation = notice[1];
        break;
      case 'forged':
      case 'ignored':
        this.#counts[notice[0]]++;
        break;
      case 'conditionFailed': {
        const due = this.#conditionErrors.add(notice[1]);
        if (due) this.#emit(['conditionFailed', due]);
        return;
      }
      case 'asleep':
      case 'awake':
        if (channels.reader.hasSubscribers) channels.reader.publish({ input: this.id, state: notice[0] });
        break;
      case 'backfillDone':
        return;
      case 'polling':
      case 'notificationQueue':
      case 'sequenceReset':
      case 'optionsDiffer':
      case 'retrying':
      case 'parked':
      case 'backfillFailed':
      case 'slow':
      case 'discoveryFailed':
        break;
    }
    this.#emit(notice);
  }

  /** A closed input stays closed. */
  #become(notice: Extract<Notice, [InputState, ...unknown[]]>): void {
    if (this.#state === 'closed') return;
    this.#state = notice[0];
    this.#emit(notice);
  }

  /** A logger or a listener that throws, or whose promise is rejected, does not harm the node. */
  #emit(notice: LifecycleNotice): void {
    const [name, ...args] = notice;
    const told = async () => this.#log?.tell(notice);
    void told().catch(warn);
    try {
      this.emit(name, ...(args as never));
    } catch (error) {
      warn(error);
    }
  }
}

/** Whatever a listener may throw: also objects that throw when they are printed. */
function warn(error: unknown): void {
  try {
    process.emitWarning(error instanceof Error || typeof error === 'string' ? error : inspect(error));
  } catch {
    process.emitWarning('a listener or the logger of an input failed, with an error that can not be printed');
  }
}

/** Every input numbers its changes from 1, so that another input's numbers name other changes here. */
const foreign = (event: ChangeEvent | undefined, id: string): PostgresInputError =>
  new PostgresInputError(
    'ERR_CONFIG_INVALID',
    `the event is of input ${event?.trigger}, and this is input ${id}: acknowledge it with the one that it came from`,
  );

const closed = (): PostgresInputError =>
  new PostgresInputError('ERR_CLOSED', 'the input has been closed: make a new one');
