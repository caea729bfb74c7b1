/**
 * Statements that travel together, in one round trip, and answer with texts.
 *
 * The extended protocol takes any number of statements up to a Sync. When one of them fails, the server skips the rest up to the Sync, and
 * a transaction that was begun stays open, as a failed one.
 */
import type pg from 'pg';

/** A statement of a batch. Its values are texts: the server knows their types from the statement. */
export interface Part {
  readonly text: string;
  readonly values?: readonly (string | null)[];
  /** Under which a backend of the session's own keeps it prepared. */
  readonly name?: string;
}

/** A row as the texts of its columns. `part`: the place of its statement in the batch. Must not throw. */
export type OnTexts = (row: (string | null)[], part: number) => void;

/** Resolves when all statements have ended. `prepared`: the names that the backend knows; null if it may keep none. */
export async function runBatch(
  client: pg.Client,
  parts: readonly Part[],
  onRow: OnTexts,
  prepared: Set<string> | null = null,
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const settle = (error?: Error) => (error ? reject(error) : resolve());
    client.query(new Batch(parts, onRow, prepared, settle));
  });
  for (const { name } of parts) if (name !== undefined) prepared?.add(name);
}

/** Sends a statement. A sync has to follow. */
export function send(
  connection: pg.Connection,
  { text, values = [], name }: Part,
  prepared: ReadonlySet<string> | null = null,
): void {
  const statement = (prepared && name) ?? '';
  if (!prepared?.has(statement)) {
    // A batch that failed may have prepared it.
    if (statement !== '') connection.close({ type: 'S', name: statement }, true);
    connection.parse({ name: statement, text, types: [] }, true);
  }
  connection.bind({ statement, values: [...values] }, true);
  connection.execute({}, true);
}

/** What pg asks of a query that is not its own. No row is described, so that pg leaves the texts as they are. */
class Batch implements pg.Submittable {
  readonly #parts: readonly Part[];
  readonly #onRow: OnTexts;
  readonly #prepared: ReadonlySet<string> | null;
  readonly #settle: (error?: Error) => void;
  #completed = 0;

  constructor(
    parts: readonly Part[],
    onRow: OnTexts,
    prepared: ReadonlySet<string> | null,
    settle: (error?: Error) => void,
  ) {
    this.#parts = parts;
    this.#onRow = onRow;
    this.#prepared = prepared;
    this.#settle = settle;
  }

  submit(connection: pg.Connection): void {
    connection.stream.cork();
    for (const part of this.#parts) send(connection, part, this.#prepared);
    connection.sync();
    connection.stream.uncork();
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    this.#onRow(fields, this.#completed);
  }

  handleCommandComplete(): void {
    this.#completed++;
  }

  handleError(error: Error): void {
    this.#settle(error);
  }

  handleReadyForQuery(): void {
    this.#settle();
  }
}
