/**
 * UPDATEs of keys: each is logged as DELETEs of the old keys, followed by the statement's other changes. These wait for all DELETEs of the
 * statement, since the log does not say which of them is of the same row.
 */
import type { Change } from '../capture/change.ts';
import type { Deletes, HeldUp } from './line.ts';
import { statementOf } from './row-order.ts';

export class KeyChanges {
  readonly #statements = new Map<string, Deletes>();

  /** Notes a DELETE that is under way. */
  begin(change: Change): Deletes {
    const statement = statementOf(change);
    let deletes = this.#statements.get(statement);
    if (!deletes) this.#statements.set(statement, (deletes = { statement, left: 0, waiting: new Set() }));
    deletes.left++;
    return deletes;
  }

  /** The DELETEs of the change's statement that are under way. */
  of(change: Change): Deletes | null {
    return this.#statements.size === 0 ? null : (this.#statements.get(statementOf(change)) ?? null);
  }

  /** A DELETE is over. Returns what need not wait any more. */
  finish(deletes: Deletes): Iterable<HeldUp> {
    if (--deletes.left > 0) return [];
    this.#statements.delete(deletes.statement);
    return deletes.waiting;
  }

  clear(): void {
    this.#statements.clear();
  }
}
