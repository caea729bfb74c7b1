/** Finds every input of a database, in whatever internal schema it was installed. */
import { inputId } from '../config/settings.ts';
import { qualify, unquoteLiteral } from '../postgres/quoting.ts';
import type { Session, Statement } from '../postgres/session.ts';
import { COMPARISON_TIMEOUT, readOptions } from './catalog.ts';
import { LOCK_TABLE_PREFIX, type Names, namesOf } from './names.ts';

/** An input that is installed in the database. */
export interface InstalledInput {
  /** As the node that installed last spells it; the id where that is not known. */
  readonly name: string;
  readonly names: Names;
}

// An input is known by its lock table. The original's lock table, which may be in the same schema, has no holder.
// $1: how the name of a lock table begins. $2: how the name of the function that notifies begins.
const lockTables: Statement = {
  name: 'inputs_lock_tables',
  text: `
SELECT n.nspname AS schema, c.relname AS table,
  'options' = ANY (columns) AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AS "tellsOptions",
  ARRAY(SELECT p.prosrc FROM pg_proc p WHERE p.pronamespace = n.oid AND starts_with(p.proname, $2)) AS notifying
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
  LATERAL (SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns) a
WHERE c.relkind = 'r' AND starts_with(c.relname, $1) AND columns @> ARRAY['resource', 'holder', 'token']
ORDER BY 1, 2`,
};

interface LockTable {
  readonly schema: string;
  readonly table: string;
  /** Whether options may be kept in it, and the role in use may read them. */
  readonly tellsOptions: boolean;
  /** The sources of all functions in its schema that send notifications. */
  readonly notifying: readonly string[];
}

export async function installedInputs(session: Session): Promise<InstalledInput[]> {
  const found = await session.query<LockTable>(
    lockTables,
    [LOCK_TABLE_PREFIX, 'notify_postgres_input_'],
    COMPARISON_TIMEOUT,
  );
  const inputs: InstalledInput[] = [];
  for (const lockTable of found) {
    const { schema, table, tellsOptions } = lockTable;
    const sql = qualify(schema, table);
    const options = tellsOptions ? await readOptions(session, { lockTable: { name: table, sql } }) : null;
    const name = options?.installed?.name;
    const names = namesOf(idOf(lockTable, name), schema);
    inputs.push({ name: name ?? names.id, names });
  }
  return inputs;
}

/**
 * The id from which the name of a lock table was derived. A long id is shortened in the name, with a hash. So the id is looked
 * for in the options and, since version 1 keeps none, among the channels of the schema's inputs; the hash tells which one it is.
 * The channel of an id of more than 63 bytes is shortened too: the id of such an input of version 1 can't be told.
 */
function idOf({ schema, table, notifying }: LockTable, name: string | undefined): string {
  const candidates = [...(name === undefined ? [] : [inputId(name)]), ...notifying.flatMap(channelIn)];
  return (
    candidates.find((id) => namesOf(id, schema).lockTable.name === table) ??
    table.slice(LOCK_TABLE_PREFIX.length)
  );
}

/** The channel on which a function sends: `shared-functions.ts` has its text. */
function channelIn(source: string): string[] {
  const [, literal] = /EXECUTE format\('NOTIFY %I, %L', (.*), payload\);/s.exec(source) ?? [];
  return literal === undefined ? [] : [unquoteLiteral(literal)];
}
