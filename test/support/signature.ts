import type { Names } from '../../src/schema/names.ts';
import { DATABASE_IDENTITY, type Signature } from '../../src/schema/wire-format.ts';
import type { TestDatabase } from './database.ts';

/** How the triggers of a database sign, for tests that read payloads without a node. */
export async function signatureOf(database: TestDatabase, { secretTable }: Names): Promise<Signature> {
  const [row] = await database.query<Signature>(
    `SELECT key AS secret, ${DATABASE_IDENTITY} AS database FROM ${secretTable.sql}`,
  );
  return row!;
}
