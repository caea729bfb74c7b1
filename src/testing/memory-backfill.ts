/** Backfills of rows that a test says the tables hold. They come a chunk at a time, the next when the one before is over. */
import type { Backfill, BackfillProgress } from '../api/backfill.ts';
import type { Row } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type { BackfillRequest } from '../capture/backfill-request.ts';
import type { MemoryStore } from './memory-store.ts';

/** The rows of each table, by its location. */
export type ExistingRows = Readonly<Record<string, readonly Row[]>>;

/** How many rows a chunk has at most. */
const CHUNK = 100;

export class MemoryBackfills {
  readonly #store: MemoryStore;
  readonly #rows: ExistingRows;
  readonly #running = new Set<MemoryBackfill>();
  #count = 0;

  constructor(store: MemoryStore, rows: ExistingRows) {
    this.#store = store;
    this.#rows = rows;
    store.onOver = (number) => {
      for (const backfill of this.#running) backfill.onOver(number);
    };
  }

  /** @throws {PostgresInputError} ERR_CONFIG_INVALID for a table of which no rows were given */
  begin({ tables, chunk }: BackfillRequest): Backfill {
    const chosen = tables ?? Object.keys(this.#rows);
    const unknown = chosen.filter((table) => !Object.hasOwn(this.#rows, table));
    if (unknown.length > 0) {
      throw new PostgresInputError(
        'ERR_CONFIG_INVALID',
        `tables: ${unknown.join(', ')}: give the rows of each table in the option existingRows of newTestInput()`,
      );
    }
    const parts = [...new Set(chosen)].map((table) => new TablePart(table, this.#rows[table]!));
    const backfill = new MemoryBackfill(String(++this.#count), this.#store, parts, chunk ?? CHUNK);
    this.#running.add(backfill);
    void backfill.done.then(() => this.#running.delete(backfill));
    backfill.bring();
    return backfill;
  }
}

/** What a backfill has to bring of one table. */
class TablePart {
  readonly table: string;
  readonly count: number;
  /** The rows that did not come yet. */
  readonly left: Row[];
  /** The numbers of those that are not over. */
  readonly out = new Set<string>();
  done = 0;
  state: BackfillProgress['state'] = 'waiting';

  constructor(table: string, rows: readonly Row[]) {
    this.table = table;
    this.count = rows.length;
    this.left = [...rows];
  }

  get isOver(): boolean {
    return this.state === 'done' || this.state === 'cancelled';
  }
}

class MemoryBackfill implements Backfill {
  readonly id: string;
  readonly done: Promise<void>;
  readonly #store: MemoryStore;
  readonly #parts: readonly TablePart[];
  readonly #chunk: number;
  #resolve!: () => void;

  constructor(id: string, store: MemoryStore, parts: readonly TablePart[], chunk: number) {
    this.id = id;
    this.#store = store;
    this.#parts = parts;
    this.#chunk = chunk;
    this.done = new Promise((resolve) => (this.#resolve = resolve));
  }

  /** Brings the next chunk, unless there is one under way. */
  bring(): void {
    for (const part of this.#parts) {
      if (part.isOver || part.state === 'paused') continue;
      if (part.out.size > 0) return;
      if (part.left.length > 0) {
        part.state = 'running';
        const changes = part.left
          .splice(0, this.#chunk)
          .map((after) => this.#store.make({ location: part.table, operation: 'read', after }));
        for (const { sequence } of changes) part.out.add(sequence!);
        for (const change of changes) this.#store.add(change);
        return;
      }
      part.state = 'done';
    }
    if (this.#parts.every(({ isOver }) => isOver)) this.#resolve();
  }

  onOver(number: string): void {
    const part = this.#parts.find(({ out }) => out.delete(number));
    if (!part) return;
    part.done++;
    this.bring();
  }

  async progress(): Promise<BackfillProgress[]> {
    return this.#parts.map(({ table, done, count, state }) => ({
      table,
      done,
      estimated: count,
      state,
      error: null,
    }));
  }

  async pause(): Promise<void> {
    this.#turn('paused');
  }

  async resume(): Promise<void> {
    this.#turn('waiting');
  }

  async cancel(): Promise<void> {
    this.#turn('cancelled');
  }

  #turn(state: 'paused' | 'waiting' | 'cancelled'): void {
    for (const part of this.#parts) {
      if (!part.isOver && (state !== 'waiting' || part.state === 'paused')) part.state = state;
    }
    this.bring();
  }
}
