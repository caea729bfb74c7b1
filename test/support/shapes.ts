/** The shapes that rows of the log name, in tests of schema/. */
import type { Names } from '../../src/schema/names.ts';
import type { TestDatabase } from './database.ts';
import type { LoggedRow } from './setup-installation.ts';

/** Names and types of the columns of a logged row; null for a row without data. */
export async function shapeOf(
  { database, names }: { readonly database: TestDatabase; readonly names: Names },
  { shape }: LoggedRow,
): Promise<[string, number][] | null> {
  if (shape === null) return null;
  if (shape.startsWith('[')) return JSON.parse(shape) as [string, number][];
  const [row] = await database.query<{ columns: [string, number][] }>(
    `SELECT columns FROM ${names.shapeTable.sql} WHERE name = $1`,
    [shape],
  );
  return row!.columns;
}
