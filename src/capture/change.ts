/** A change of a row, the same whether the change log or a notification brought it. */
import type { Operation } from '../api/orchestrator.ts';

/** The column `key` of the log, parsed: a string is the name of the column that the id was taken from. */
export type LoggedKey = string | Record<string, string> | null;

/** What the trigger functions write into the column `op`. */
const OPERATIONS: ReadonlyMap<string, Operation> = new Map([
  ['INSERT', 'create'],
  ['UPDATE', 'update'],
  ['DELETE', 'delete'],
  ['TRUNCATE', 'delete'],
]);

export const operationOf = (op: string): Operation => OPERATIONS.get(op) ?? 'unknown';

/**
 * A change that has not been handed out yet. Thousands of them may wait for a slow consumer. It is a class and not an object
 * literal: V8 moves allocation sites whose objects survive to the old generation, where garbage is collected late.
 */
export class Change {
  readonly sequence: string | null;
  readonly location: string;
  readonly operation: Operation;
  readonly id: string;
  readonly key: LoggedKey;
  readonly occurredAt: string | null;

  constructor(
    sequence: string | null,
    location: string,
    operation: Operation,
    id: string,
    key: LoggedKey,
    occurredAt: string | null,
  ) {
    this.sequence = sequence;
    this.location = location;
    this.operation = operation;
    this.id = id;
    this.key = key;
    this.occurredAt = occurredAt;
  }
}
