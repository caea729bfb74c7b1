/** The engine of the test input: it has a {@link MemoryStore} in place of a database, and lives that nothing but their end and a takeover disturbs. */
import { setImmediate } from 'node:timers/promises';
import type pg from 'pg';
import type { Backfill } from '../api/backfill.ts';
import type { ParkedEvent } from '../api/change-event.ts';
import type { Notify } from '../api/lifecycle-events.ts';
import type { Tags } from '../api/options.ts';
import type { SharedMetrics, SharedStatus } from '../api/status.ts';
import type { NamedEvent, TermReads } from '../capture/acknowledge-in.ts';
import { leaseLost } from '../capture/acknowledgements.ts';
import { type BackfillRequest, refuseWithoutReads } from '../capture/backfill-request.ts';
import { tagTransaction } from '../capture/tag.ts';
import type { Settings } from '../config/settings.ts';
import type { Consumer } from '../delivery/consumer.ts';
import { isRead } from '../delivery/row-order.ts';
import type { TermDelivery } from '../delivery/term-delivery.ts';
import type { Engine, NodeLife } from '../node/engine.ts';
import { type Ending, harsher } from '../node/term.ts';
import { redriven } from '../schema/log-layout.ts';
import { type ExistingRows, MemoryBackfills } from './memory-backfill.ts';
import type { MemoryStore } from './memory-store.ts';
import { MemoryTerm } from './memory-term.ts';

/** A client that is in a transaction, of no database. */
const CLIENT = { getTransactionStatus: () => 'T', query: async () => {} } as unknown as pg.ClientBase;

export class MemoryEngine implements Engine {
  readonly #settings: Settings;
  readonly #store: MemoryStore;
  readonly #backfills: MemoryBackfills;
  #life: MemoryLife | null = null;

  constructor(settings: Settings, store: MemoryStore, rows: ExistingRows) {
    this.#settings = settings;
    this.#store = store;
    this.#backfills = new MemoryBackfills(store, rows);
  }

  /** The life that goes on; null if nobody handles events. */
  get life(): MemoryLife | null {
    return this.#life;
  }

  async connect(consumer: Consumer, notify: Notify): Promise<MemoryLife> {
    const life: MemoryLife = new MemoryLife(this.#settings, this.#store, consumer, notify, () => {
      if (this.#life === life) this.#life = null;
      this.#store.sign();
    });
    this.#life = life;
    return life;
  }

  /** Commits at once: there is no transaction. */
  async acknowledgeIn(_client: pg.ClientBase, { seq, token }: NamedEvent, reads?: TermReads): Promise<void> {
    const number = this.#store.numberOf(seq);
    const change = this.#store.get(number);
    if (!change || String(this.#store.token) !== token) throw leaseLost();
    if (isRead(change) && !reads?.noteRead()) throw leaseLost();
    this.#store.acknowledge(number);
  }

  /** Checks the tags: nothing is written that could have them. */
  tag(_client: pg.ClientBase, tags: Tags & { origin: string }): Promise<void> {
    return tagTransaction(CLIENT, tags);
  }

  async status(): Promise<SharedStatus> {
    const { logged, oldestChangeAt } = this.#store;
    const { delivery = null, since = '' } = this.#life ?? {};
    return {
      lease: delivery && { holder: 'test', fencingToken: delivery.token, acquiredAt: since },
      backlog: logged.length,
      oldestChangeAt,
    };
  }

  async metrics(): Promise<SharedMetrics> {
    const { logged, oldestChangeAt, retrying, parkedCount, clock } = this.#store;
    return {
      backlog: logged.length,
      oldestAgeSeconds: oldestChangeAt ? (Date.parse(clock.time) - Date.parse(oldestChangeAt)) / 1000 : null,
      retrying,
      parked: parkedCount,
    };
  }

  async parked({ limit, after }: { limit: number; after: string | null }): Promise<ParkedEvent[]> {
    const later = this.#store.parked.filter(
      ({ sequence }) => after === null || BigInt(sequence!) > BigInt(after),
    );
    return later.slice(0, limit);
  }

  async redrive(which: readonly string[] | 'all'): Promise<number> {
    const changes = this.#store.unpark(which);
    for (const change of changes) this.#store.add(change.under(redriven(change.sequence!)));
    return changes.length;
  }

  async discard(which: readonly string[] | 'all'): Promise<number> {
    return this.#store.unpark(which).length;
  }

  async backfill(request: BackfillRequest): Promise<Backfill> {
    refuseWithoutReads(this.#settings);
    return this.#backfills.begin(request);
  }

  async uninstall(): Promise<void> {
    this.#store.clear();
  }

  async close(): Promise<void> {}
}

/** One term after the other: the next one begins as soon as a term is lost. */
export class MemoryLife implements NodeLife {
  readonly #settings: Settings;
  readonly #store: MemoryStore;
  readonly #consumer: Consumer;
  readonly #notify: Notify;
  readonly #ended: () => void;
  #ending: Ending | null = null;
  #failure: { readonly error: unknown } | null = null;
  #term: MemoryTerm | null = null;
  /** When the present term began. */
  since = '';

  constructor(settings: Settings, store: MemoryStore, consumer: Consumer, notify: Notify, ended: () => void) {
    this.#settings = settings;
    this.#store = store;
    this.#consumer = consumer;
    this.#notify = (...notice) => {
      notify(...notice);
      store.sign();
    };
    this.#ended = ended;
  }

  get delivery(): TermDelivery | null {
    return this.#term?.delivery ?? null;
  }

  /** Whether nothing happens any more unless the clock is advanced, or something arrives. */
  get isQuiet(): boolean {
    return this.#term?.isQuiet ?? false;
  }

  async run(): Promise<void> {
    while (!this.#ending) {
      this.#notify('standby');
      await setImmediate();
      if (this.#ending) break;
      const term = new MemoryTerm(this.#store, this.#consumer, this.#notify, (error) => this.#fail(error));
      this.#term = term;
      this.since = this.#store.clock.time;
      this.#notify('active', { fencingToken: term.delivery.token });
      await term.serve(this.#settings.lease.duration);
      this.#term = null;
    }
    this.#ended();
    if (this.#failure) throw this.#failure.error;
  }

  end(how: Ending): void {
    this.#ending = harsher(this.#ending, how);
    this.#term?.end(this.#ending);
  }

  /** Another node has claimed the lease, and is gone again. */
  loseLease(): void {
    this.#store.token++;
    this.#term?.end('lost');
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.end('graceful');
  }
}
