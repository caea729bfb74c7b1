/** Injects a fault into pg_notify(), by which the package sends all of its notifications. */
import type { TestDatabase } from './database.ts';

/**
 * Replaces pg_notify() in this database. `body` is PL/pgSQL: it takes the channel as $1 and the payload as $2, and can still notify by
 * pg_notify_in_earnest($1, $2).
 */
export async function replaceNotify(database: TestDatabase, body: string): Promise<void> {
  const client = await database.client();
  await client.query(`
    SET allow_system_table_mods = on;
    ALTER FUNCTION pg_catalog.pg_notify(text, text) RENAME TO pg_notify_in_earnest;
    CREATE FUNCTION pg_catalog.pg_notify(text, text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN ${body} END $$`);
  await client.end();
}
