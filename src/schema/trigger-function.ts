/**
 * The DDL text of the triggers and of the functions behind them.
 *
 * A trigger function must never make the application's statement fail or wait. Therefore:
 * - It runs as its owner, under a fixed search_path, and qualifies every name of ours.
 * - It names the key's columns in plain SQL only while the guard function proves that they are still there. Otherwise it asks the
 *   catalog what identifies a row now, and runs the answer as dynamic SQL. It has no EXCEPTION block: that would cost a
 *   subtransaction for every statement.
 * - It only *tries* the advisory lock, shared. If the lock is refused, the reader is asleep and wants a notification. If it is
 *   granted, the transaction keeps it to its end, and the reader stays awake as long as there may be changes that nobody announced.
 *
 * All changes that a function logs for one statement have one time and come from one INSERT.
 */
import { qualify, quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { type FunctionText, SEARCH_PATH } from './create-function.ts';
import { FEW, insertPacked, insertSingle } from './log-layout.ts';
import type { Names, ObjectName, TriggerEvent } from './names.ts';
import type { RowIdentity } from './row-identity.ts';
import type { Table } from './tables.ts';
import { IS_LONG, announced } from './wire-format.ts';

/** The events that the input wants. They decide how an UPDATE of the key is logged. */
export type WantedEvents = ReadonlySet<TriggerEvent>;

const TRANSITION_TABLES: Readonly<Record<TriggerEvent, string>> = {
  insert: 'REFERENCING NEW TABLE AS new_rows',
  update: 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
  delete: 'REFERENCING OLD TABLE AS old_rows',
  truncate: '',
};

// A partitioned table's TRUNCATE trigger fires before those of its partitions, in whatever order the statement names them.
const timing = (table: Table, event: TriggerEvent): string =>
  event === 'truncate' && table.isPartitioned ? 'BEFORE' : 'AFTER';

export const createTrigger = (names: Names, table: Table, event: TriggerEvent): string =>
  `CREATE TRIGGER ${quoteIdentifier(names.trigger(table.name, event))}
${timing(table, event)} ${event.toUpperCase()} ON ${qualify(table.schema, table.name)}
${TRANSITION_TABLES[event]} FOR EACH STATEMENT
EXECUTE FUNCTION ${names.recordFunction(table.schema, table.name, event).sql}()`;

/** Pins how values are printed, for keys whose types depend on settings. */
const PRINTING = [
  'DateStyle=ISO',
  'IntervalStyle=postgres',
  'TimeZone=UTC',
  'bytea_output=hex',
  'extra_float_digits=1',
  'lc_monetary=C',
  'quote_all_identifiers=off',
];

/** The function behind one trigger of one table. */
export function recordFunction(
  names: Names,
  table: Table,
  event: TriggerEvent,
  wanted: WantedEvents,
): FunctionText {
  const { name, sql } = names.recordFunction(table.schema, table.name, event);
  return {
    input: names.id,
    name,
    signature: `${sql}()`,
    returns: 'trigger',
    language: 'plpgsql',
    settings: [SEARCH_PATH, ...(table.identity.formatted && event !== 'truncate' ? PRINTING : [])],
    body: event === 'truncate' ? recordTruncate(names) : recordRows(names, table, event, wanted),
  };
}

/** What all changes of a statement share, as variables of the function. */
const STATEMENT = { tbl: 'location', at: 'written_at' };

// A table may be renamed: its name is read at run time.
const OWN_LOCATION = `CASE TG_TABLE_SCHEMA WHEN 'public' THEN TG_TABLE_NAME ELSE TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME END`;

const declarations = (names: Names, location: string): string => `
  location text := ${location};
  written_at timestamptz := clock_timestamp();
  asleep boolean := NOT pg_try_advisory_xact_lock_shared(${names.sleepKey});
  body text;`;

function recordRows(names: Names, table: Table, event: RowEvent, wanted: WantedEvents): string {
  // A partition's rows are its root's.
  const location = table.isPartition ? quoteLiteral(table.location) : OWN_LOCATION;
  const rows = changedRows(event, wanted, table.identity);
  const each = insertEach(names, event, rows);
  const packed = insertPacked(names.logTable, STATEMENT, rows, PACKING);
  // The same statement as a template for format(), which fills in the expressions of the identity function.
  const template = (match: string | null) =>
    quoteLiteral(
      insertPacked(
        forFormat(names.logTable),
        { tbl: '$1', at: '$2' },
        changedRows(event, wanted, { id: '%1$s', key: '%2$s', match }),
        PACKING,
      ),
    );
  const anyTable =
    event === 'update'
      ? `CASE WHEN now_known.match IS NULL THEN ${template(null)} ELSE ${template('%3$s')} END`
      : template(null);
  return `
#variable_conflict use_variable
DECLARE${declarations(names, location)}
  now_known record;
  logged bigint;
BEGIN
  IF TG_RELID = ${table.identity.relation} AND ${names.guardFunction.sql}(${table.identity.guard}) THEN
    IF asleep THEN
      ${announced(each)} INTO body;
    ELSE
      ${each};
    END IF;
    IF NOT FOUND AND EXISTS (SELECT FROM ${rowsOf(event)}) THEN
      ${packed};
      body := '';
    END IF;
  ELSE
    SELECT * INTO now_known FROM ${names.identityFunction.sql}(TG_RELID);
    EXECUTE format(${anyTable}, now_known.id, now_known.key, now_known.match)
    USING location, written_at;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged > 0 THEN
      body := '';
    END IF;
  END IF;
  IF asleep AND body IS NOT NULL THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  RETURN NULL;
END`;
}

const forFormat = ({ name, sql }: ObjectName): ObjectName => ({ name, sql: sql.replaceAll('%', '%%') });

type RowEvent = Exclude<TriggerEvent, 'truncate'>;

/** The transition table that has every changed row. An UPDATE can have fewer new rows than old ones: a partition's trigger may turn some away. */
const rowsOf = (event: RowEvent): string => (event === 'insert' ? 'new_rows' : 'old_rows');

/** A query of the changes that a statement made: id, op and key. */
function changedRows(
  event: RowEvent,
  wanted: WantedEvents,
  { id, key, match }: Pick<RowIdentity, 'id' | 'key' | 'match'>,
): string {
  if (event !== 'update' || match === null)
    return `SELECT ${id} AS id, '${event.toUpperCase()}' AS op, ${key} AS key FROM ${event === 'delete' ? 'old_rows' : 'new_rows'} r`;
  // Old and new rows are grouped by the key. A row whose key changed is a DELETE of the old key and an INSERT of the new one. A row
  // that one statement changes more than once, as two cascades do, is one UPDATE. A join would be slow: a plan that was cached
  // for one row would use nested loops for a million rows.
  const sides = (columns: string) => `
        SELECT ${columns}${match} COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT ${columns}${match} COLLATE "C" AS match, 1 AS step FROM new_rows r`;
  // Most tables have a key of one column, which is the id: it need not be printed twice, and the id alone is grouped by.
  const keyTellsAll = id === match && !key.includes('r.');
  return `SELECT ${keyTellsAll ? 'c.match' : 'coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id))'} AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN '${wanted.has('insert') ? 'INSERT' : 'UPDATE'}' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        ${keyTellsAll ? key : 'c.key'} AS key
      FROM (${sides(keyTellsAll ? '' : `${id} AS id, ${key} AS key, `)}
      ) c
      GROUP BY ${keyTellsAll ? 'c.match' : 'c.match, c.key'}
      ${wanted.has('delete') ? '' : 'HAVING sum(c.step) >= 0'}`;
}

/** When a row's key changes, but not its id, the DELETE and the INSERT have the same id: the DELETE has to come first. */
const DELETES_FIRST = `c.op <> 'DELETE'`;

const PACKING = { isLong: IS_LONG, order: DELETES_FIRST };

/** One INSERT of single rows, which inserts nothing if the statement changed more than a few rows. */
const insertEach = (names: Names, event: RowEvent, rows: string): string =>
  `${insertSingle(names.logTable, { ...STATEMENT, id: 'c.id', op: 'c.op', key: 'c.key' })} FROM (${rows}) c
      WHERE NOT EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${FEW})
      ${event === 'update' ? `ORDER BY ${DELETES_FIRST}` : ''}`;

/**
 * TRUNCATE fires the triggers of a partitioned table and of its partitions. A truncation is not logged if the same table, or one that
 * it is a partition of, was truncated just before: if the transaction has logged nothing since but truncations.
 *
 * A setting of the transaction remembers that, and a rollback to a savepoint restores it: how many rows the transaction had logged
 * after its last truncation, and which tables were truncated in a row. The number comes from the backend's own statistics; without
 * them (`track_counts` is off) every truncation is logged. To look into the log instead would make SERIALIZABLE transactions fail.
 */
function recordTruncate(names: Names): string {
  const insert = insertSingle(names.logTable, { ...STATEMENT, id: `'*'`, op: `'TRUNCATE'`, key: 'NULL' });
  const remembered = quoteLiteral(names.truncationsSetting);
  const logged = `pg_stat_get_xact_tuples_inserted(${quoteLiteral(names.logTable.sql)}::regclass)`;
  return `
#variable_conflict use_variable
DECLARE${declarations(names, OWN_LOCATION)}
  truncations text[];
BEGIN
  IF current_setting('track_counts')::boolean THEN
    truncations := string_to_array(current_setting(${remembered}, true), ' ');
    IF truncations[1] IS DISTINCT FROM ${logged}::text THEN
      truncations := NULL;
    END IF;
    IF TG_RELID::text = ANY (truncations[2:])
       OR EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) a WHERE a.relid::oid::text = ANY (truncations[2:])) THEN
      RETURN NULL;
    END IF;
  END IF;
  ${announced(insert)} INTO body;
  PERFORM set_config(${remembered}, concat_ws(' ', ${logged}, array_to_string(truncations[2:], ' '), TG_RELID), true);
  IF asleep THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  RETURN NULL;
END`;
}
