/**
 * The DDL text of the triggers and of the functions behind them.
 *
 * A trigger function must never make the application's statement fail or wait. It therefore
 * - runs as its owner, under a fixed search_path, with every name of ours qualified;
 * - names the key's columns in plain SQL only while they are proven to be still there (the guard), and else asks
 *   the catalog what identifies a row now and runs that as dynamic SQL. There is no EXCEPTION block: it would
 *   cost a subtransaction for every statement;
 * - *tries* the advisory lock. Refused means that the reader is asleep and wants a notification. Granted, it is
 *   shared and kept until the transaction ends, which is what keeps the reader awake as long as there may be
 *   changes that nobody announced.
 *
 * All that a function logs for one statement bears one time and comes from one INSERT.
 */
import { qualify, quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { type FunctionText, SEARCH_PATH } from './create-function.ts';
import { FEW, STRIDE, insertPacked, insertSingle, sequenceOfRow } from './log-layout.ts';
import type { Names, ObjectName, TriggerEvent } from './names.ts';
import type { RowIdentity } from './row-identity.ts';
import type { Table } from './tables.ts';
import { IS_LONG, announced } from './wire-format.ts';

/** The kinds of change that are wanted: they shape what an UPDATE of the key is reported as. */
export type WantedEvents = ReadonlySet<TriggerEvent>;

const TRANSITION_TABLES: Readonly<Record<TriggerEvent, string>> = {
  insert: 'REFERENCING NEW TABLE AS new_rows',
  update: 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
  delete: 'REFERENCING OLD TABLE AS old_rows',
  truncate: '',
};

export const createTrigger = (names: Names, table: Table, event: TriggerEvent): string =>
  `CREATE TRIGGER ${quoteIdentifier(names.trigger(table.name, event))}
AFTER ${event.toUpperCase()} ON ${qualify(table.schema, table.name)}
${TRANSITION_TABLES[event]} FOR EACH STATEMENT
EXECUTE FUNCTION ${names.recordFunction(table.schema, table.name, event).sql}()`;

/** How values are printed, for keys of types that settings have a say in. */
const PRINTING = [
  'DateStyle=ISO',
  'IntervalStyle=postgres',
  'TimeZone=UTC',
  'bytea_output=hex',
  'extra_float_digits=1',
  'lc_monetary=C',
  'quote_all_identifiers=off',
];

/** For looking back in the log by its index, whatever the application has set and the statistics say. */
const PLANNING = ['enable_seqscan=off', 'enable_indexscan=on'];

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
    settings: [
      SEARCH_PATH,
      ...(table.identity.formatted ? PRINTING : []),
      ...(event === 'truncate' ? PLANNING : []),
    ],
    body: event === 'truncate' ? recordTruncate(names, table) : recordRows(names, table, event, wanted),
  };
}

/** What all changes of a statement share, as variables of the function. */
const STATEMENT = { tbl: 'location', at: 'written_at' };

// A partition's events bear its root's name; the name of any other table is whatever it is at the time.
const declarations = (names: Names, table: Table): string => `
  location text := ${
    table.isPartition
      ? quoteLiteral(table.location)
      : `CASE TG_TABLE_SCHEMA WHEN 'public' THEN TG_TABLE_NAME ELSE TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME END`
  };
  written_at timestamptz := clock_timestamp();
  asleep boolean := NOT pg_try_advisory_xact_lock_shared(${names.sleepKey});
  body text;`;

function recordRows(names: Names, table: Table, event: RowEvent, wanted: WantedEvents): string {
  const rows = changedRows(event, wanted, table.identity);
  const each = insertEach(names, event, rows);
  const packed = insertPacked(names.logTable, STATEMENT, rows, PACKING);
  // The same over expressions that are known at run time alone, as a template for format().
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
DECLARE${declarations(names, table)}
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

/** Tells how many rows a statement changed: of an UPDATE there may be fewer new ones, where a partition's trigger turned some away. */
const rowsOf = (event: RowEvent): string => (event === 'insert' ? 'new_rows' : 'old_rows');

/** The changes that a statement made, as a query of id, op and key. */
function changedRows(
  event: RowEvent,
  wanted: WantedEvents,
  { id, key, match }: Pick<RowIdentity, 'id' | 'key' | 'match'>,
): string {
  if (event !== 'update' || match === null)
    return `SELECT ${id} AS id, '${event.toUpperCase()}' AS op, ${key} AS key FROM ${event === 'delete' ? 'old_rows' : 'new_rows'} r`;
  // Grouped by the key. A row whose key changed leaves under the old one and comes under the new one; one that a statement
  // changes more than once, as two cascades do, counts once. There is no join: a plan cached for one row would have it
  // done by nested loops for a million.
  const sides = (columns: string) => `
        SELECT ${columns}${match} COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT ${columns}${match} COLLATE "C" AS match, 1 AS step FROM new_rows r`;
  // Most tables have a key of one column, which is the id: less to print, and to group by.
  const keyTellsAll = id === match && !key.includes('r.');
  return `SELECT ${keyTellsAll ? 'c.match' : 'coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id))'} AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN '${wanted.has('insert') ? 'INSERT' : 'UPDATE'}' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        ${keyTellsAll ? key : 'c.key'} AS key
      FROM (${sides(keyTellsAll ? '' : `${id} AS id, ${key} AS key, `)}
      ) c
      GROUP BY ${keyTellsAll ? 'c.match' : 'c.match, c.key'}
      ${wanted.has('delete') ? '' : 'HAVING sum(c.step) >= 0'}`;
}

/** A row may leave under its old key and come under its new one, both with the same id. */
const DELETES_FIRST = `c.op <> 'DELETE'`;

const PACKING = { isLong: IS_LONG, order: DELETES_FIRST };

/** One INSERT into the log, of a single row for each change, if there are few. */
const insertEach = (names: Names, event: RowEvent, rows: string): string =>
  `${insertSingle(names.logTable, { ...STATEMENT, id: 'c.id', op: 'c.op', key: 'c.key' })} FROM (${rows}) c
      WHERE NOT EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${FEW})
      ${event === 'update' ? `ORDER BY ${DELETES_FIRST}` : ''}`;

/** How many rows back in the log a TRUNCATE looks for one that it is a part of. */
const SAME_STATEMENT = 1000;

/**
 * TRUNCATE fires the triggers of a partitioned table and of its partitions, in an order that depends on how they came to
 * be truncated. They are one change: a truncation right after another of the same location says nothing new.
 */
function recordTruncate(names: Names, table: Table): string {
  const insert = insertSingle(names.logTable, { ...STATEMENT, id: `'*'`, op: `'TRUNCATE'`, key: 'NULL' });
  return `
#variable_conflict use_variable
DECLARE${declarations(names, table)}
  last_seq bigint := ${sequenceOfRow(`pg_sequence_last_value(${quoteLiteral(names.logSequence.sql)})`)};
  last_op text;
BEGIN
  SELECT l.op INTO last_op FROM ${names.logTable.sql} l
  WHERE l.seq BETWEEN last_seq - ${SAME_STATEMENT * STRIDE} AND last_seq
    AND l.xid = pg_current_xact_id() AND l.tbl = location
  ORDER BY l.seq DESC LIMIT 1;
  IF last_op = 'TRUNCATE' THEN
    RETURN NULL;
  END IF;
  ${announced(insert)} INTO body;
  IF asleep THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  RETURN NULL;
END`;
}
