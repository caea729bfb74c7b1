/**
 * The contract between an orchestrator and its inputs. It knows nothing of PostgreSQL: any input and any
 * orchestrator can share it.
 */

/** What happened to a row. */
export type Operation = 'unknown' | 'create' | 'read' | 'update' | 'delete';

/** What an input tells the orchestrator. */
export interface Event {
  /** Where it happened: for a database, the table. */
  location: string;
  /** What happened there. */
  operation: Operation;
  /** The id of what it happened to. */
  id: string;
  /** The {@link Input.id} of the input that saw it. */
  trigger: string;
}

/** One input of an orchestrator's config file or API. */
export interface InputConfig {
  /** The input's name, free text. Inputs of one name on one database share their work. */
  name: string;
  /** The kind of input, by which a registry finds its {@link NewInputFunc}. */
  type: string;
  /** Where the input connects to. */
  connectionString: string;
  /** The operations that become events. Default, and for an empty list: every one. */
  operations?: Operation[];
}

/** A source of events that runs for long. */
export interface Input {
  /** The configured name, every `-` turned into `_`. */
  readonly id: string;
  /** Hands out events until the input is closed; rejects with the reason of `signal` once that is aborted. */
  handle(options?: { signal?: AbortSignal }): AsyncIterable<Event>;
}

/** Makes an input of one type: what a registry maps a type's name to. */
export type NewInputFunc = (config: InputConfig) => Promise<Input>;

const OPERATIONS: ReadonlyMap<string, Operation> = new Map([
  ['create', 'create'],
  ['insert', 'create'],
  ['read', 'read'],
  ['update', 'update'],
  ['delete', 'delete'],
  ['remove', 'delete'],
]);

/**
 * Reads an operation in any case: `create` or `insert`, `read`, `update`, `delete` or `remove`.
 *
 * @throws TypeError for any other text.
 */
export function parseOperation(text: string): Operation {
  const operation = OPERATIONS.get(text.toLowerCase());
  if (operation === undefined) {
    throw new TypeError(
      `${JSON.stringify(text)} is not an operation: use ${[...OPERATIONS.keys()].join(', ')}`,
    );
  }
  return operation;
}
