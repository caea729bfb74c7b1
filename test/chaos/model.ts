/**
 * What the writers did, kept outside the database: every transaction, its changes as the server reported them to the
 * writer, and how it ended as far as the writer knows.
 */
import type { ChaosTable, Row } from './tables.ts';

export type Operation = 'create' | 'update' | 'delete';

export interface Change {
  readonly table: ChaosTable;
  readonly operation: Operation;
  /** The row as the event must tell of it: after the change, or before it if it is gone. */
  readonly row: Row;
  /** Its place among the changes of this row. */
  readonly place: number;
}

export interface Transaction {
  /** Also the name of the mark that it leaves, and under which it is prepared. */
  readonly name: string;
  readonly changes: Change[];
  /** As the writer knows it. `unknown`: the connection was lost on the way. */
  outcome: 'committed' | 'rolled back' | 'prepared' | 'unknown';
  /** How often the server had gone back to an earlier state when it began. */
  readonly rewinds: number;
}

export class Model {
  readonly tables: readonly ChaosTable[];
  readonly transactions: Transaction[] = [];
  /** Of each table, the number of the row that was inserted last. */
  readonly #lastRow = new Map<ChaosTable, number>();
  /** Rows whose deletion is known to be committed, and which nobody has taken to insert again. */
  readonly #deleted = new Map<ChaosTable, Row[]>();
  #rewinds = 0;

  constructor(tables: readonly ChaosTable[]) {
    this.tables = tables;
  }

  /** A row that there never was. */
  newRow(table: ChaosTable): Row {
    const r = this.lastRow(table) + 1;
    this.#lastRow.set(table, r);
    return { r, g: 0, v: 1 };
  }

  lastRow(table: ChaosTable): number {
    return this.#lastRow.get(table) ?? 0;
  }

  /** A deleted row, to be inserted again, by nobody else. */
  takeDeleted(table: ChaosTable): Row | undefined {
    const row = this.#deleted.get(table)?.shift();
    return row && { ...row, v: row.v + 1 };
  }

  begin(name: string): Transaction {
    const transaction: Transaction = {
      name,
      changes: [],
      outcome: 'rolled back',
      rewinds: this.#rewinds,
    };
    this.transactions.push(transaction);
    return transaction;
  }

  /** The server will come up in an earlier state, in which a deleted row may be there again. */
  rewound(): void {
    this.#rewinds++;
    this.#deleted.clear();
  }

  ended(transaction: Transaction, outcome: Transaction['outcome']): void {
    transaction.outcome = outcome;
    if (outcome !== 'committed' || transaction.rewinds !== this.#rewinds) return;
    const last = new Map<string, Change>();
    for (const change of transaction.changes) last.set(`${change.table.sql} ${change.row.r}`, change);
    for (const { operation, table, row } of last.values()) {
      if (operation !== 'delete' || !table.canChangeKey) continue;
      const rows = this.#deleted.get(table) ?? [];
      this.#deleted.set(table, rows);
      if (rows.length < 100) rows.push(row);
    }
  }
}
