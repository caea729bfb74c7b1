/** Asks for backfills at random times, and pauses, resumes and cancels some of them. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Backfill, type PostgresInput, newPostgresInput } from '../../src/index.ts';
import type { Model } from './model.ts';
import { INPUT_NAME } from './protocol.ts';
import type { Random } from './random.ts';
import { type ChaosTable, type Row, SCHEMAS } from './tables.ts';

/** A backfill of one table. */
export interface AskedBackfill {
  readonly id: string;
  readonly table: ChaosTable;
  /** The rows that were committed before it was asked for. */
  readonly rows: readonly Row[];
  readonly at: number;
  /** Whether every row has been read, as the backfill says itself. */
  isDone: boolean;
  /** Whether the server has lost it. */
  isLost: boolean;
}

export interface BackfillsOptions {
  readonly url: string;
  readonly model: Model;
  readonly random: Random;
  readonly query: (sql: string) => Promise<Row[]>;
  readonly tell: (line: string) => void;
}

/** More would leave no time for changes. */
const ROWS = 3000;
/** How many may wait for each other. */
const OPEN = 4;
/** Between two looks once all is well, in milliseconds. Each look takes a session for each backfill. */
const LOOK = 250;

export class Backfills {
  readonly asked: AskedBackfill[] = [];
  readonly #handles = new Map<AskedBackfill, Backfill>();
  readonly #options: BackfillsOptions;
  readonly #failures: string[] = [];
  #input: PostgresInput | null = null;

  constructor(options: BackfillsOptions) {
    this.#options = options;
  }

  /** Until `signal` aborts. The server may be away at any time. */
  async run(signal: AbortSignal): Promise<void> {
    const { random, tell } = this.#options;
    while (!signal.aborted) {
      await delay(random.int(20, 600), undefined, { signal }).catch(() => {});
      await this.#ask().catch((error: Error) => tell(`no backfill: ${error.message}`));
      const one = random.pick([...this.#handles.values(), null]);
      const turn = random.pick(['pause', 'resume', 'resume', 'cancel', null, null] as const);
      if (one && turn) await one[turn]().catch((error: Error) => tell(`no ${turn}: ${error.message}`));
    }
  }

  async #ask(): Promise<void> {
    const { url, model, random, query, tell } = this.#options;
    if (this.#handles.size >= OPEN && (await this.#look()).length >= OPEN) return;
    this.#input ??= await newPostgresInput(
      { name: INPUT_NAME, type: 'postgres', connectionString: url },
      { schemas: SCHEMAS, rows: 'after' },
    );
    const table = random.pick(model.tables);
    const rows = await query(`SELECT r, g, v FROM ${table.sql}`);
    if (rows.length > ROWS) return;
    const handle = await this.#input.backfill({
      tables: [table.location],
      chunk: random.pick([7, 50, 500]),
    });
    const asked = { id: handle.id, table, rows, at: Date.now(), isDone: false, isLost: false };
    this.asked.push(asked);
    this.#handles.set(asked, handle);
    tell(`backfill ${handle.id} of ${table.sql}, ${rows.length} rows`);
  }

  /** Resumes all, waits until they are over, and asks how. Returns those that have made no progress for `patience` milliseconds. */
  async finish(patience: number): Promise<string[]> {
    for (const handle of this.#handles.values()) await handle.resume();
    let before = '';
    for (let deadline = Date.now() + patience; ; await delay(LOOK)) {
      const open = await this.#look();
      if (open.length === 0) return this.#failures;
      const now = open.join();
      if (now !== before) deadline = Date.now() + patience;
      else if (Date.now() > deadline) return [...open, ...this.#failures];
      before = now;
    }
  }

  /** Lets go of those that are over. Returns the others. */
  async #look(): Promise<string[]> {
    const open: string[] = [];
    for (const [asked, handle] of this.#handles) {
      const [progress] = await handle.progress();
      asked.isLost = progress === undefined;
      asked.isDone = progress?.state === 'done';
      if (progress?.error) this.#failures.push(`backfill ${asked.id}: ${progress.error}`);
      if (progress && /waiting|running|paused/.test(progress.state))
        open.push(`backfill ${asked.id} is ${progress.state}, ${progress.done} rows`);
      else this.#handles.delete(asked);
    }
    return open;
  }

  async close(): Promise<void> {
    await this.#input?.close();
  }
}
