/** A database behind an input: each question has a session of its own. */
import type pg from 'pg';
import type { Backfill } from '../api/backfill.ts';
import type { ParkedEvent } from '../api/change-event.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Tags } from '../api/options.ts';
import type { SharedMetrics, SharedStatus } from '../api/status.ts';
import { type NamedEvent, type TermReads, acknowledgeIn } from '../capture/acknowledge-in.ts';
import { type BackfillRequest, RequestedBackfill, requestBackfill } from '../capture/backfill-request.ts';
import { proveTransaction } from '../capture/callers-transaction.ts';
import { discardParked, listParked, redriveParked } from '../capture/parked.ts';
import { shapesFor } from '../capture/row-shapes.ts';
import { tagTransaction } from '../capture/tag.ts';
import { Unpacking } from '../capture/unpacking.ts';
import type { Settings } from '../config/settings.ts';
import type { Consumer } from '../delivery/consumer.ts';
import { eventOf } from '../delivery/event.ts';
import { RowDecoder } from '../delivery/row-decoder.ts';
import type { Session } from '../postgres/session.ts';
import { uninstall } from '../schema/install.ts';
import { type Names, namesOf } from '../schema/names.ts';
import { withSession } from './connect.ts';
import type { Engine } from './engine.ts';
import type { FirstConnections } from './first-connections.ts';
import { Life } from './life.ts';
import { readMetrics } from './metrics.ts';
import { readStatus } from './status.ts';

export class PostgresEngine implements Engine {
  readonly #settings: Settings;
  readonly #names: Names;
  readonly #unpacking: Unpacking;
  readonly #first: FirstConnections | null;

  /** `first`: connections for the first life. */
  constructor(settings: Settings, first: FirstConnections | null = null) {
    this.#first = first;
    this.#settings = settings;
    this.#names = namesOf(settings.id, settings.internalSchema);
    this.#unpacking = new Unpacking(this.#names, (task) => this.#inSession(task));
  }

  connect(consumer: Consumer, notify: Notify): Promise<Life> {
    return Life.connect(this.#settings, this.#names, consumer, notify, this.#first);
  }

  async acknowledgeIn(client: pg.ClientBase, event: NamedEvent, reads?: TermReads): Promise<void> {
    await proveTransaction(client, 'ack(event, client)');
    await acknowledgeIn(client, this.#names, event, (row) => this.#unpacking.unpack(row), reads);
  }

  tag(client: pg.ClientBase, tags: Tags & { origin: string }): Promise<void> {
    return tagTransaction(client, tags);
  }

  status(): Promise<SharedStatus> {
    return this.#inSession((session) => readStatus(session, this.#names));
  }

  metrics(signal?: AbortSignal): Promise<SharedMetrics> {
    return this.#inSession(async (session) => {
      const letGo = () => session.destroy();
      signal?.throwIfAborted();
      signal?.addEventListener('abort', letGo);
      try {
        return await readMetrics(session, this.#names);
      } finally {
        signal?.removeEventListener('abort', letGo);
      }
    });
  }

  async parked(page: { readonly limit: number; readonly after: string | null }): Promise<ParkedEvent[]> {
    const parked = await this.#inSession((session) =>
      listParked(session, this.#names, shapesFor(this.#settings, session, this.#names), page),
    );
    const decoder = new RowDecoder(this.#settings.types);
    return parked.map(({ change, ...details }) => ({
      ...eventOf(change, this.#settings.id, null, decoder),
      ...details,
    }));
  }

  redrive(which: readonly string[] | 'all'): Promise<number> {
    return this.#inSession((session) => redriveParked(session, this.#names, which));
  }

  discard(which: readonly string[] | 'all'): Promise<number> {
    return this.#inSession((session) => discardParked(session, this.#names, which));
  }

  async backfill(request: BackfillRequest): Promise<Backfill> {
    const id = await this.#inSession((session) =>
      requestBackfill(session, this.#settings, this.#names, request),
    );
    return new RequestedBackfill(id, this.#names, (task) => this.#inSession(task));
  }

  uninstall(): Promise<void> {
    return this.#inSession((session) => uninstall(session, this.#settings, this.#names));
  }

  async close(): Promise<void> {
    await this.#first?.close();
  }

  #inSession<Result>(task: (session: Session) => Promise<Result>): Promise<Result> {
    return withSession(this.#settings, task);
  }
}
