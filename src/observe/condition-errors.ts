/** Counts the statements for which a condition `when` has failed, and says when to tell of them: a table can have thousands of them in a second. */
import type { LifecycleEvents } from '../api/lifecycle-events.ts';

type FailedCondition = LifecycleEvents['conditionFailed'][0];

/** How far apart a table is told of, in milliseconds. */
const PAUSE = 60_000;

export class ConditionErrors {
  total = 0;
  readonly #tables = new Map<string, { untold: number; toldAt: number }>();

  /** Returns what is to be told, or null if the table was told of not long ago. */
  add({ table, statements }: FailedCondition): FailedCondition | null {
    this.total += statements;
    const known = this.#tables.get(table) ?? { untold: 0, toldAt: -Infinity };
    this.#tables.set(table, known);
    known.untold += statements;
    const now = performance.now();
    if (now - known.toldAt < PAUSE) return null;
    const told = { table, statements: known.untold };
    known.untold = 0;
    known.toldAt = now;
    return told;
  }
}
