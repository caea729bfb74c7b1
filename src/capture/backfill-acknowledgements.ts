/**
 * The chunks whose events are out, and the progress of their tables.
 *
 * The progress of a table moves over a chunk when every event of the chunk, and of all chunks before it, is acknowledged. An event of a chunk that
 * is not over is acknowledged by a row of its own if a caller's transaction acknowledges it, if it is parked, or if the term ends. A chunk that is
 * read again leaves such events out, and the row is deleted when the progress has moved over its chunk, or when the backfill is over and none of
 * its events is out.
 *
 * Rows that the consumer had no room for are read again, with all after them: the chunk of the first of them, and all later ones, are rewound. They
 * move no progress beyond its beginning, and what was acknowledged of them gets rows, too.
 */
import { numberOf } from '../schema/log-layout.ts';
import { type Hold, leaseLost } from './acknowledgements.ts';
import type { Acknowledger } from './acknowledger.ts';
import type { Read } from './backfill-chunk.ts';
import type { BackfillStore, Job } from './backfill-store.ts';
import { unlocked } from './failures.ts';
import { ReadsOut } from './reads-out.ts';

/** A table that is being read in this term. */
export interface Reading {
  readonly job: Job;
  /** Rows at once. */
  limit: number;
  /** Whether one row may take long: it has had too little time already. */
  isPatient: boolean;
  /** Whether the last row was read. */
  isRead: boolean;
  /** Whether no more is read, although the last row was not. */
  isCancelled: boolean;
  /** What is left out when it is read again: what was acknowledged, or is out. */
  readonly skipped: Set<string>;
  /** Those that are not over, the oldest first. */
  readonly chunks: Chunk[];
}

interface Chunk {
  readonly reading: Reading;
  /** The key before its first row; empty: none. */
  from: readonly string[];
  /** The key up to which the table is done when this chunk and those before are over; null: the progress stays where it is. */
  cursor: readonly string[] | null;
  /** Whether the table ends with it. */
  last: boolean;
  rows: number;
  /** How many of its events nobody has acknowledged. */
  open: number;
  readonly acknowledged: string[];
  /** The events that were acknowledged by rows of their own: those that were parked, and those of callers' transactions that are committed. */
  readonly acknowledgedByRow: string[];
  /** Whether the chunk is read again. These rows stay, and the other events that were acknowledged get such rows when the chunk is over. */
  isRewound: boolean;
}

export interface BackfillAcknowledgementsOptions {
  readonly store: BackfillStore;
  readonly hold: Hold;
  /** Called when all events of a table that has been read are acknowledged. `isDone`: its last row was read, and nobody has cancelled it. */
  readonly finished: (reading: Reading, isDone: boolean) => void;
  /** Called when progress has moved. */
  readonly rouse: () => void;
  /** Called when progress could not be kept although the lease is held. */
  readonly fail: (error: unknown) => void;
}

/** Between two looks whether callers' transactions have been committed, in milliseconds. */
const LOOK = 100;

export class BackfillAcknowledgements implements Acknowledger {
  readonly #options: BackfillAcknowledgementsOptions;
  /** The tables that have chunks which are not over. */
  readonly #readings = new Set<Reading>();
  readonly #out = new ReadsOut<Chunk>();
  #outstanding = 0;
  #isFinishing: Promise<void> | null = null;
  #callersLook: NodeJS.Timeout | null = null;
  #isOver = false;

  constructor(options: BackfillAcknowledgementsOptions) {
    this.#options = options;
  }

  /** How many events are in chunks that are not over. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** The events of this chunk are about to be handed out. */
  add(reading: Reading, { changes, cursor, last }: Read): void {
    const { job, chunks } = reading;
    const from = job.after;
    job.after = cursor;
    reading.isRead ||= last;
    const chunk: Chunk = {
      reading,
      from,
      cursor,
      last,
      rows: changes.length,
      open: changes.length,
      acknowledged: [],
      acknowledgedByRow: [],
      isRewound: false,
    };
    this.#out.add(chunk, changes);
    this.#outstanding += chunk.rows;
    chunks.push(chunk);
    this.#readings.add(reading);
    if (changes.length === 0) this.#finishSoon();
  }

  /** Whether an event is out in this term and not acknowledged. To be called before a caller's transaction acknowledges it. */
  noteRead(sequence: string): boolean {
    if (!this.#out.find(sequence)) return false;
    this.#callersLook ??= setTimeout(() => void this.#lookForCallers(), LOOK).unref();
    return true;
  }

  /** The consumer is done with an event. An event that is not out was acknowledged before. @throws {PostgresInputError} ERR_LEASE_LOST */
  async acknowledge(sequence: string): Promise<void> {
    if (this.#options.hold.token === null) throw leaseLost();
    const chunk = this.#take(sequence);
    chunk?.acknowledged.push(sequence);
    // The last flush may be over.
    if (chunk && this.#isOver) await this.#options.store.keep([[chunk.reading.job.backfill, sequence]]);
  }

  /** The same, where nobody waits. After the lease is lost, the event comes again. */
  acknowledgeSoon(sequence: string): void {
    if (this.#options.hold.token !== null) this.#take(sequence)?.acknowledged.push(sequence);
  }

  /** Whether a caller's transaction has acknowledged an event and is committed. */
  async isGone(sequence: string): Promise<boolean> {
    await this.#noteCommitted();
    return this.#out.find(sequence) === null;
  }

  /**
   * The consumer had no room for an event of this term: it is read again, with all rows after it. Those that are out already are left out, and the
   * progress stays before it until then.
   */
  readAgain(sequence: string): void {
    const chunk = this.#out.take(sequence);
    if (!chunk) return;
    const { reading, from } = chunk;
    chunk.open--;
    chunk.rows--;
    this.#outstanding--;
    const { chunks, job } = reading;
    this.#rewind(chunks.slice(chunks.indexOf(chunk)), from, from);
    reading.skipped.delete(sequence);
    reading.isRead = reading.isCancelled;
    job.after = [...from];
    if (chunk.open === 0) this.#finishSoon();
  }

  /** The table is read from its beginning, in another order. What is out has no place in that order, and moves no progress. */
  restart({ chunks }: Reading): void {
    this.#rewind(chunks, [], null);
  }

  /**
   * Takes an event out of the way. Resolves when that is kept, with whether no caller's transaction has acknowledged the event before.
   * @throws {PostgresInputError} ERR_LEASE_LOST, ERR_INSTALL
   */
  async park(sequence: string, { error, attempts }: { error: string; attempts: number }): Promise<boolean> {
    const out = this.#out.find(sequence);
    if (!out) return false;
    const { occurredAt, location, id, key, details } = out.change;
    const isParked = await unlocked(() =>
      this.#options.store.park(
        [
          sequence,
          out.chunk.reading.job.backfill,
          numberOf(sequence),
          occurredAt,
          location,
          id,
          JSON.stringify(key),
          details?.after ?? null,
          details?.shape ?? null,
          attempts,
        ],
        error,
      ),
    );
    // The parking has acknowledged it by a row of its own.
    this.#take(sequence)?.acknowledgedByRow.push(sequence);
    return isParked;
  }

  /** Keeps what is acknowledged: chunks that are over, and at the end of a term the events of others one by one. */
  async flush(): Promise<void> {
    if (this.#outstanding === 0 && !this.#isFinishing) return;
    await this.#noteCommitted();
    await this.finishAll();
    const kept = [...this.#readings].flatMap(({ chunks, job }) =>
      chunks.flatMap(({ acknowledged }) => acknowledged.map((sequence) => [job.backfill, sequence] as const)),
    );
    if (kept.length > 0) await this.#options.store.keep(kept);
  }

  /** Moves the progress of every table over the chunks that are over. */
  async finishAll(): Promise<void> {
    while (this.#isFinishing) await this.#isFinishing;
    this.#isFinishing = this.#finish().finally(() => (this.#isFinishing = null));
    await this.#isFinishing;
  }

  /** The term is ending. */
  end(): void {
    this.#isOver = true;
    if (this.#callersLook) clearTimeout(this.#callersLook);
  }

  #take(sequence: string): Chunk | null {
    const chunk = this.#out.take(sequence);
    if (chunk && --chunk.open === 0) this.#finishSoon();
    return chunk;
  }

  #finishSoon(): void {
    setImmediate(() => {
      this.finishAll().catch((error: unknown) => {
        if ((error as { code?: string }).code !== 'ERR_LEASE_LOST') this.#options.fail(error);
      });
    });
  }

  async #finish(): Promise<void> {
    for (const reading of this.#readings) {
      const { chunks, job } = reading;
      let over = chunks.findIndex(({ open }) => open > 0);
      if (over === -1) over = chunks.length;
      if (over === 0) continue;
      const finished = chunks.slice(0, over);
      // The progress does not tell of these.
      const kept = finished.flatMap(({ isRewound, acknowledged }) => (isRewound ? acknowledged : []));
      if (kept.length > 0)
        await this.#options.store.keep(kept.map((sequence) => [job.backfill, sequence] as const));
      const rows = finished.reduce((sum, chunk) => sum + chunk.rows, 0);
      const { cursor, last } = finished.at(-1)!;
      const rowsOver = finished.flatMap((chunk) => (chunk.isRewound ? [] : chunk.acknowledgedByRow));
      const isDone = await this.#options.store.finish(job, cursor, rows, last, rowsOver);
      chunks.splice(0, over);
      this.#outstanding -= rows;
      if (chunks.length > 0) continue;
      this.#readings.delete(reading);
      if (reading.isRead) this.#options.finished(reading, isDone);
    }
    this.#options.rouse();
  }

  async #lookForCallers(): Promise<void> {
    this.#callersLook = null;
    if (this.#isOver || this.#out.isEmpty) return;
    try {
      await this.#noteCommitted();
    } catch {
      // The session is lost, and the term with it.
      return;
    }
    if (!this.#isOver && !this.#out.isEmpty)
      this.#callersLook ??= setTimeout(() => void this.#lookForCallers(), LOOK).unref();
  }

  /** Takes note of the events that callers' transactions have acknowledged and that are committed. */
  async #noteCommitted(): Promise<void> {
    for (const backfill of new Set([...this.#readings].map(({ job }) => job.backfill))) {
      for (const sequence of await this.#options.store.acknowledged(backfill))
        this.#take(sequence)?.acknowledgedByRow.push(sequence);
    }
  }

  /**
   * All rows after `from` are read again, without those of these chunks, which are out or acknowledged. A chunk that was read later goes back to the
   * place of an earlier one: the rows that are read again of the earlier one come before its own.
   */
  #rewind(chunks: readonly Chunk[], from: readonly string[], cursor: readonly string[] | null): void {
    const fresh = new Set(chunks.filter(({ isRewound }) => !isRewound));
    for (const { reading, acknowledged, acknowledgedByRow } of fresh)
      for (const sequence of [...acknowledged, ...acknowledgedByRow]) reading.skipped.add(sequence);
    for (const { chunk, change } of this.#out)
      if (fresh.has(chunk)) chunk.reading.skipped.add(change.sequence!);
    for (const chunk of chunks) Object.assign(chunk, { from, cursor, last: false, isRewound: true });
  }
}
