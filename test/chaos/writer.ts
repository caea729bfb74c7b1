/** One of the application's connections: random transactions, one after the other. */
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import type { Change, Model, Transaction } from './model.ts';
import type { Random } from './random.ts';
import { type ChaosTable, type Row, truncated } from './tables.ts';

const STATEMENTS = {
  insert: 30,
  update: 35,
  delete: 10,
  changeKey: 8,
  insertAgain: 6,
  upsert: 6,
  nothing: 2,
  truncate: 0.3,
  insertMany: 1.5,
  updateMany: 1.5,
  deleteMany: 0.7,
} as const;

const ENDS = { commit: 76, rollback: 10, prepare: 8, linger: 4, vanish: 2 } as const;

export interface WriterOptions {
  readonly url: string;
  readonly model: Model;
  readonly random: Random;
  readonly name: string;
  /** Whether its commits wait until they are flushed. */
  readonly commitsLazily: boolean;
  /** How long to wait between transactions, in milliseconds. */
  readonly pause: () => number;
}

export class Writer {
  readonly #options: WriterOptions;
  readonly #stopping = new AbortController();
  readonly #prepared: { transaction: Transaction; commit: boolean }[] = [];
  #client: pg.Client | null = null;
  #count = 0;

  constructor(options: WriterOptions) {
    this.#options = options;
  }

  /** Writes until `stop`. Whatever the server refuses, it goes on. */
  async run(): Promise<void> {
    const { random, pause } = this.#options;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#connect();
        if (this.#prepared.length > 2 || (this.#prepared.length > 0 && random.chance(0.3))) {
          await this.#endPrepared();
        }
        await this.#transact();
      } catch {
        await this.#disconnect();
        await delay(50);
      }
      await delay(pause());
    }
    await this.#disconnect();
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #connect(): Promise<void> {
    if (this.#client) return;
    const client = new pg.Client({
      connectionString: this.#options.url,
      application_name: `chaos writer ${this.#options.name}`,
      connectionTimeoutMillis: 2000,
    });
    client.on('error', () => {});
    await client.connect();
    const commit = this.#options.commitsLazily ? 'off' : 'on';
    await client.query(
      `SET lock_timeout = '150ms'; SET timezone = 'Asia/Tokyo'; SET datestyle = 'German'; SET synchronous_commit = ${commit}`,
    );
    this.#client = client;
  }

  async #disconnect(): Promise<void> {
    const client = this.#client;
    this.#client = null;
    await client?.end().catch(() => {});
  }

  async #transact(): Promise<void> {
    const { random, model, name } = this.#options;
    const transaction = model.begin(`${name}-${++this.#count}`);
    const end = random.weighted(ENDS);
    await this.#query('BEGIN');
    if (!(await this.#statements(transaction, random.int(1, 5)))) return this.#rollback(transaction);
    if (end === 'linger') {
      await delay(random.int(200, 4000), undefined, { signal: this.#stopping.signal }).catch(() => {});
      if (!(await this.#statements(transaction, 1))) return this.#rollback(transaction);
    }
    if (end === 'rollback') return this.#rollback(transaction);
    if (end === 'vanish') return this.#disconnect();
    await this.#query(`INSERT INTO oracle.mark VALUES ('${transaction.name}')`);
    if (end === 'prepare') return this.#prepare(transaction);
    model.ended(transaction, 'unknown');
    await this.#query('COMMIT');
    model.ended(transaction, 'committed');
  }

  async #rollback(transaction: Transaction): Promise<void> {
    this.#options.model.ended(transaction, 'rolled back');
    await this.#query('ROLLBACK');
  }

  async #prepare(transaction: Transaction): Promise<void> {
    const { model, random } = this.#options;
    model.ended(transaction, 'unknown');
    try {
      await this.#query(`PREPARE TRANSACTION '${transaction.name}'`);
      model.ended(transaction, 'prepared');
      this.#prepared.push({ transaction, commit: random.chance(0.7) });
    } catch (error) {
      // PostgreSQL prepares no transaction that has notified, as those do that write while the reader is asleep.
      if (!isRefusal(error)) throw error;
      await this.#rollback(transaction);
    }
  }

  async #endPrepared(): Promise<void> {
    const { transaction, commit } = this.#prepared.shift()!;
    this.#options.model.ended(transaction, 'unknown');
    await this.#query(`${commit ? 'COMMIT' : 'ROLLBACK'} PREPARED '${transaction.name}'`);
    this.#options.model.ended(transaction, commit ? 'committed' : 'rolled back');
  }

  /** Some statements, now and then below a savepoint. False when the transaction can't go on. */
  async #statements(transaction: Transaction, count: number): Promise<boolean> {
    const { random } = this.#options;
    for (let n = 0; n < count; n++) {
      if (!random.chance(0.25)) {
        if (!(await this.#statement(transaction))) return false;
        continue;
      }
      const before = transaction.changes.length;
      await this.#query('SAVEPOINT here');
      const succeeded = (await this.#statement(transaction)) && (await this.#statement(transaction));
      if (succeeded && random.chance(0.5)) {
        await this.#query('RELEASE SAVEPOINT here');
      } else {
        transaction.changes.length = before;
        await this.#query('ROLLBACK TO SAVEPOINT here');
      }
    }
    return true;
  }

  /** False when the server refused it. */
  async #statement(transaction: Transaction): Promise<boolean> {
    const { random, model } = this.#options;
    const kind = random.weighted(STATEMENTS);
    const table = random.pick(model.tables.filter((table) => suits(table, kind)));
    const { sql, changes, change } = this.#compose(kind, table);
    if (sql === null) return true;
    try {
      for (const row of await this.#query(sql)) transaction.changes.push(...changes(row));
      if (change) transaction.changes.push(change);
      return true;
    } catch (error) {
      if (isRefusal(error)) return false;
      throw error;
    }
  }

  #compose(kind: keyof typeof STATEMENTS, table: ChaosTable): Statement {
    const { random, model } = this.#options;
    const last = model.lastRow(table);
    const some = () => {
      const rows = Array.from({ length: random.int(1, 4) }, () =>
        random.int(Math.max(1, last - 200), last + 1),
      );
      return `r IN (${rows.join()})`;
    };
    const many = () => `r > ${last - random.int(30, 1200)} AND r % ${random.int(1, 3)} = 0`;
    const newRows = (count: number) => Array.from({ length: count }, () => model.newRow(table));
    const statements: Record<typeof kind, () => Statement> = {
      insert: () => insert(table, newRows(random.int(1, 3))),
      // More than one notification holds; sometimes more than one page of the log.
      insertMany: () => insert(table, newRows(random.chance(0.1) ? 2500 : random.int(40, 300))),
      insertAgain: () => {
        const row = model.takeDeleted(table);
        return row ? insert(table, [row]) : NOTHING;
      },
      upsert: () =>
        upsert(
          table,
          [random.int(1, last + 1), last].filter((r) => r > 0),
          model,
        ),
      update: () => update(table, some()),
      updateMany: () => update(table, many()),
      delete: () => remove(table, some()),
      deleteMany: () => remove(table, many()),
      changeKey: () => changeKey(table, random.chance(0.1) ? many() : some()),
      nothing: () => update(table, 'false'),
      truncate: () => truncate(table),
    };
    return statements[kind]();
  }

  async #query(sql: string): Promise<Row[]> {
    if (!this.#client) throw new Error('not connected');
    return (await this.#client.query<Row>(sql)).rows;
  }
}

interface Statement {
  readonly sql: string | null;
  /** The changes that a returned row tells of. */
  readonly changes: (row: Row) => Change[];
  /** A change of which no row tells. */
  readonly change?: Change;
}

const NOTHING: Statement = { sql: null, changes: () => [] };

function suits(table: ChaosTable, kind: keyof typeof STATEMENTS): boolean {
  if (kind === 'upsert') return table.isUpserted;
  if (kind === 'changeKey') return table.canChangeKey && !table.isUpserted;
  if (kind === 'delete' || kind === 'deleteMany' || kind === 'truncate') return !table.isUpserted;
  return true;
}

function insertRows(table: ChaosTable, rows: readonly Row[]): string {
  const names = ['r', 'g', 'v', ...table.columns.map(([name]) => name)];
  const values = ['r', 'g', 'v', ...table.columns.map(([, value]) => value('r', 'g', 'v'))];
  return `INSERT INTO ${table.sql} AS t (${names.join()}) SELECT ${values.join()}
    FROM (VALUES ${rows.map(({ r, g, v }) => `(${r},${g},${v})`).join()}) x (r, g, v)`;
}

export const insert = (table: ChaosTable, rows: readonly Row[]): Statement => ({
  sql: `${insertRows(table, rows)} RETURNING r, g, v`,
  changes: (row) => [change(table, 'create', row)],
});

/** Rows that are there or not; whichever, none of these is ever deleted. */
function upsert(table: ChaosTable, numbers: number[], model: Model): Statement {
  const rows = [...numbers.map((r) => ({ r, g: 0, v: 1 })), model.newRow(table)].filter(
    ({ r }, index, all) => all.findIndex((other) => other.r === r) === index,
  );
  return {
    sql: `${insertRows(table, rows)} ON CONFLICT (id) DO UPDATE SET v = t.v + 1 RETURNING r, g, v`,
    changes: (row) => [change(table, row.v === 1 ? 'create' : 'update', row)],
  };
}

const set = (table: ChaosTable, g: string) =>
  [
    'v = v + 1',
    `g = ${g}`,
    ...table.columns.map(([name, value]) => `${name} = ${value('r', g, '(v + 1)')}`),
  ].join();

const update = (table: ChaosTable, where: string): Statement => ({
  sql: `UPDATE ${table.sql} SET ${set(table, 'g')} WHERE ${where} RETURNING r, g, v`,
  changes: (row) => [change(table, 'update', row)],
});

/** The row leaves under its old key and comes under the new one. */
const changeKey = (table: ChaosTable, where: string): Statement => ({
  sql: `UPDATE ${table.sql} SET ${set(table, '(g + 1)')} WHERE ${where} RETURNING r, g, v`,
  changes: (row) => {
    const before = { r: row.r, g: row.g - 1, v: row.v - 1 };
    return [change(table, 'delete', before), change(table, 'create', row)];
  },
});

const remove = (table: ChaosTable, where: string): Statement => ({
  sql: `DELETE FROM ${table.sql} WHERE ${where} RETURNING r, g, v`,
  changes: (row) => [change(table, 'delete', row)],
});

const truncate = (table: ChaosTable): Statement => ({
  sql: `TRUNCATE ${table.sql}`,
  changes: () => [],
  change: { table: truncated(table), operation: 'delete', row: { r: 0, g: 0, v: 0 }, place: 0 },
});

const change = (table: ChaosTable, operation: Change['operation'], row: Row): Change => ({
  table,
  operation,
  row,
  // The end of a row comes after its last version and before the next one.
  place: operation === 'delete' ? row.v + 0.5 : row.v,
});

/** The server's answer to a statement, after which the connection is as good as before. */
function isRefusal(error: unknown): boolean {
  return error instanceof pg.DatabaseError && !/^(57P|08)/.test(error.code ?? '');
}
