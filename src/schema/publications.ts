/**
 * Publications FOR ALL TABLES. PostgreSQL adds the internal tables to them as soon as these exist, so that subscribers get the log and the
 * secret of the notifications, and a subscription stops if its database lacks the tables.
 */
import type { Session } from '../postgres/session.ts';

/** Their names. Every role may read them. */
export async function publicationsOfAllTables(session: Session): Promise<string[]> {
  const rows = await session.query<{ name: string }>(
    'SELECT pubname AS name FROM pg_publication WHERE puballtables ORDER BY 1',
  );
  return rows.map(({ name }) => name);
}

export const publicationProblem = (name: string): string =>
  `publication ${name} is FOR ALL TABLES, the internal ones too, of which one holds the secret of notifications`;

export const PUBLICATION_ADVICE =
  'a subscription fails where these tables are missing: publish the tables of the application by name or by schema';
