/**
 * An input for tests of handlers, without a database. It is a {@link PostgresInput}, and runs the same lanes, retries, event queue and processor. Only
 * what is behind them is another: a store in memory, and a clock that stands still until it is advanced.
 */
import { setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import type { AnyTables, ChangeEvent, Row, RowsByLocation } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { LifecycleEvents } from '../api/lifecycle-events.ts';
import type { PostgresInputOptions, Tags } from '../api/options.ts';
import type { InputConfig } from '../api/orchestrator.ts';
import { type Settings, parseConfig } from '../config/settings.ts';
import { PostgresInput } from '../postgres-input.ts';
import type { EmittedEvent } from './emitted-change.ts';
import type { ExistingRows } from './memory-backfill.ts';
import { MemoryEngine } from './memory-engine.ts';
import { MemoryStore } from './memory-store.ts';

/** The options of `newTestInput`: those of {@link PostgresInputOptions}, so that the same options can be given, and what a database would hold. */
export interface TestInputOptions<
  Tables extends RowsByLocation<Tables> = AnyTables,
> extends PostgresInputOptions {
  /**
   * The rows that tables hold already, by location. `backfill()` brings them as `read` events, and so does `initial: 'read'`. They are not changed by
   * what is emitted. Default: none.
   */
  existingRows?: { readonly [Location in keyof Tables]?: readonly Tables[Location][] };
}

/**
 * Makes an input without a database, for tests. Config and options are checked as those of `newPostgresInput`; what concerns a database, such as
 * the connection string, the tables to watch and their filters, has no effect. Every event has the data that it is emitted with, whatever `rows` says.
 * @param config Default: `{ name: 'test', type: 'postgres' }` with some connection string; what is given takes the place of each
 * @throws {PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECTION_STRING
 */
export async function newTestInput<Tables extends RowsByLocation<Tables> = AnyTables>(
  config: Partial<InputConfig> = {},
  { existingRows = {}, ...options }: TestInputOptions<Tables> = {},
): Promise<TestInput<Tables>> {
  const database =
    'connection_string' in config ? {} : { connectionString: 'postgres://user@localhost/test' };
  const settings = parseConfig({ name: 'test', type: 'postgres', ...database, ...config }, options);
  const input = new TestInput<Tables>(settings, existingRows as Record<string, readonly Row[]>);
  if (settings.initial === 'read') await input.backfill();
  return input;
}

/**
 * A {@link PostgresInput} whose events a test emits. It has one node, which becomes active as soon as `handle()` or `process()` is called. Made by
 * {@link newTestInput}.
 *
 * Time stands still: the delays of retries and `nack`, `slowAfter` and `drainTimeout` pass by `advance` alone. All else happens in the next turns of
 * the event loop; `settled` waits for it.
 */
export class TestInput<Tables extends RowsByLocation<Tables> = AnyTables> extends PostgresInput<Tables> {
  readonly #store: MemoryStore;
  readonly #engine: MemoryEngine;

  /** @internal */
  constructor(settings: Settings, rows: ExistingRows) {
    const store = new MemoryStore(settings.id);
    const engine = new MemoryEngine(settings, store, rows);
    super(settings, engine);
    this.#store = store;
    this.#engine = engine;
  }

  /**
   * Commits a change. Returns its event as it will be handed out, but for the `fencingToken` and `attempt`. With a name in place of a change,
   * this is the `emit` of every EventEmitter.
   *
   * @throws {PostgresInputError} ERR_CONFIG_INVALID for an `occurredAt` that is not ISO 8601 in UTC
   */
  override emit(change: EmittedEvent<Tables>): ChangeEvent<Tables>;
  override emit<Name extends keyof LifecycleEvents>(name: Name, ...args: LifecycleEvents[Name]): boolean;
  override emit(
    what: EmittedEvent | keyof LifecycleEvents,
    ...args: unknown[]
  ): ChangeEvent<Tables> | boolean {
    if (typeof what !== 'object') return super.emit(what, ...(args as never));
    const change = this.#store.make(what);
    const event = this.#store.eventOf(change) as ChangeEvent<Tables>;
    this.#store.add(change);
    return event;
  }

  /** The events that are acknowledged, in the order of their acknowledgements; one that was redelivered is there again. */
  get acked(): readonly ChangeEvent<Tables>[] {
    return [...this.#store.acked] as ChangeEvent<Tables>[];
  }

  /**
   * Resolves when there is nothing to do any more: every event is acknowledged or parked, waits for the time of its next attempt, or waits behind
   * such an event. With `handle()`, a loop that has an event in hand is waited for.
   * @throws {Error} if events wait and nobody handles them, since `process()` or `handle()` was not called or has ended
   */
  async settled(): Promise<void> {
    for (;;) {
      await setImmediate();
      const { life } = this.#engine;
      if (life?.isQuiet || (!life && this.#store.isEmpty)) return;
      if (!life)
        throw new Error('settled(): events wait, and nobody handles them: call process() or handle() before');
      await this.#store.nextSign();
    }
  }

  /**
   * Lets time pass: attempts that are due meanwhile are made, one after the other. Resolves when all of them have begun; `settled` waits for their end.
   * @param milliseconds not less than 0
   */
  async advance(milliseconds: number): Promise<void> {
    if (!(milliseconds >= 0 && Number.isFinite(milliseconds)))
      throw new PostgresInputError(
        'ERR_CONFIG_INVALID',
        `time goes on by a number of milliseconds, not less than 0: advance(${milliseconds})`,
      );
    await this.#store.clock.advance(milliseconds);
  }

  /**
   * Brings an acknowledged event once more, under the same `sequence`: as after the death of a node that had handled the event, and had not written that.
   * @throws {PostgresInputError} ERR_CONFIG_INVALID for an event that is not acknowledged, or of another input
   */
  redeliver(event: ChangeEvent): void {
    this.#store.addAgain(event);
  }

  /**
   * Ends the term as if another node had taken over and died: the signals of handlers abort, `ack`, `nack` and `park` of events that were in hand throw
   * `ERR_LEASE_LOST`, and these events come again under a higher `fencingToken`. Attempts and delays go on. After five takeovers with the same event in hand
   * it is parked, as one that kills its process. Resolves when the next term has begun, or at once if nobody handles events.
   */
  async takeover(): Promise<void> {
    const { life } = this.#engine;
    if (!life) {
      this.#store.token++;
      return;
    }
    const lost = life.delivery;
    life.loseLease();
    while (this.#engine.life === life && (life.delivery === null || life.delivery === lost))
      await this.#store.nextSign();
  }

  /**
   * As {@link PostgresInput.ack}. `client` may be any object: there is no transaction, and the acknowledgement is committed at once. So what happens after a
   * rollback has to be tested with a database.
   */
  override ack(event: ChangeEvent, client?: object): Promise<void> {
    return super.ack(event, client as pg.ClientBase | undefined);
  }

  /** Checks the tags as {@link PostgresInput.tag}, and does nothing: `emit` says the `origin` and the `context` of an event. `client` may be any object. */
  override tag(client: object, tags?: Tags): Promise<void> {
    return super.tag(client as pg.ClientBase, tags);
  }
}
