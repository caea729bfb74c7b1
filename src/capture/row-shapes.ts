/**
 * The shapes of rows in the log: which columns a composite's text has, and of which types.
 *
 * Every row of the log with data says its shape as the row was written, so that a change is decoded by the columns that its table had
 * then. Most rows name a shape, which is in the table of shapes; a row whose trigger function was out of date has the shape itself. A
 * change is given its shape before it is pushed to the sink, so that handing out asks nothing of the database.
 *
 * A shape that is not in its table was removed by somebody: its changes come without data, and say so.
 */
import type { Session, Statement } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import type { Change } from './change.ts';
import { refusedClearly } from './failures.ts';

/** The columns in the order of the text's fields. A type is a base type's oid, as the server describes the columns of a result. */
export type RowShape = readonly (readonly [name: string, type: number])[];

/** Why a change has no data although the input asks for it. */
export type Omission = 'too-large' | 'unreadable';

/** Shapes with more columns together are not kept for the next page. A column takes about 100 bytes. */
const MAX_COLUMNS = 100_000;

export class RowShapes {
  readonly #session: Session;
  readonly #byName: Statement;
  /** By the texts with which rows of the log say them. */
  readonly #kept = new Map<string, RowShape>();
  #keptColumns = 0;

  constructor(session: Session, { shapeTable }: Names) {
    this.#session = session;
    this.#byName = {
      name: 'log_shapes',
      text: `SELECT name, columns::text FROM ${shapeTable.sql} WHERE name = ANY ($1::text[])`,
    };
  }

  /** Gives the changes their shapes. @throws {PostgresInputError} ERR_INSTALL */
  async resolve(changes: readonly Change[]): Promise<void> {
    if (this.#keptColumns > MAX_COLUMNS) {
      this.#kept.clear();
      this.#keptColumns = 0;
    }
    const unknown = new Set<string>();
    for (const { details } of changes) {
      const said = details?.shape ?? null;
      if (said !== null && !isOmission(said) && !this.#kept.has(said)) unknown.add(said);
    }
    if (unknown.size > 0) await this.#learn(unknown);
    for (const change of changes) {
      const said = change.details?.shape ?? null;
      if (said !== null) change.shape = isOmission(said) ? said : (this.#kept.get(said) ?? 'unreadable');
    }
  }

  async #learn(unknown: ReadonlySet<string>): Promise<void> {
    const [inline, named] = [[...unknown].filter(isInline), [...unknown].filter((said) => !isInline(said))];
    const found: [string, RowShape][] = inline.map((json) => [json, JSON.parse(json) as RowShape]);
    if (named.length > 0) {
      const rows = await refusedClearly(
        () => this.#session.query<{ name: string; columns: string }>(this.#byName, [named]),
        "the rows in the log can't be read",
      );
      for (const { name, columns } of rows) found.push([name, JSON.parse(columns) as RowShape]);
    }
    for (const [said, shape] of found) {
      this.#kept.set(said, shape);
      this.#keptColumns += shape.length;
    }
  }
}

/** Null where the input does not ask for data: then nothing is read, and no right is needed. */
export const shapesFor = (
  { rows }: { readonly rows: 'none' | 'after' | 'both' },
  session: Session,
  names: Names,
): RowShapes | null => (rows === 'none' ? null : new RowShapes(session, names));

const isOmission = (said: string): said is Omission => said === 'too-large' || said === 'unreadable';
const isInline = (said: string): boolean => said.startsWith('[');
