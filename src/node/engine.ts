/**
 * An engine is behind each input: it makes the lives of the input's node, and answers all that the input asks beside them. A {@link PostgresEngine} works
 * over a database. The test input has an engine over a store in memory, under the same input, iterations, consumers and deliveries.
 */
import type pg from 'pg';
import type { Backfill } from '../api/backfill.ts';
import type { ParkedEvent } from '../api/change-event.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Tags } from '../api/options.ts';
import type { SharedMetrics, SharedStatus } from '../api/status.ts';
import type { NamedEvent, TermReads } from '../capture/acknowledge-in.ts';
import type { BackfillRequest } from '../capture/backfill-request.ts';
import type { Consumer } from '../delivery/consumer.ts';
import type { TermDelivery } from '../delivery/term-delivery.ts';
import type { Ending } from './term.ts';

/** A node from its connecting to the loss of its connections or a failure, as an iteration sees it. */
export interface NodeLife {
  /** The present term's delivery; null for a standby. */
  readonly delivery: TermDelivery | null;
  /** Ends the life, and the term, if there is one, in this way. */
  end(how: Ending): void;
  /** `planner`: whether it may install the input where nothing of it is there. Rejects with what ended the life, unless that was a call of `end`. */
  run(planner: 'joining' | 'rejoining'): Promise<void>;
}

/** Every method throws ERR_CONNECT and ERR_INSTALL. */
export interface Engine {
  connect(consumer: Consumer, notify: Notify): Promise<NodeLife>;
  /**
   * Acknowledges an event in the open transaction of a caller's client. `reads`: what is known of the event if it is a row that a backfill has
   * read.
   * @throws {PostgresInputError} ERR_LEASE_LOST, and ERR_CONFIG_INVALID without an open transaction; otherwise the client's own errors
   */
  acknowledgeIn(client: pg.ClientBase, event: NamedEvent, reads?: TermReads): Promise<void>;
  /** Tags the client's transaction. @throws {PostgresInputError} ERR_CONFIG_INVALID; otherwise the client's own errors */
  tag(client: pg.ClientBase, tags: Tags & { origin: string }): Promise<void>;
  status(): Promise<SharedStatus>;
  /** Lets go when `signal` aborts. */
  metrics(signal?: AbortSignal): Promise<SharedMetrics>;
  /** `after`: the sequence of an event; null for the first. */
  parked(page: { readonly limit: number; readonly after: string | null }): Promise<ParkedEvent[]>;
  redrive(which: readonly string[] | 'all'): Promise<number>;
  discard(which: readonly string[] | 'all'): Promise<number>;
  backfill(request: BackfillRequest): Promise<Backfill>;
  uninstall(): Promise<void>;
  /** Lets go of what it keeps beside its lives. Never rejects. */
  close(): Promise<void>;
}
