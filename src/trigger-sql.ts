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
import { type Names, type TriggerEvent, qualify, quoteIdentifier, quoteLiteral } from './names.ts';
import type { Table } from './tables.ts';
import { type FunctionText, SEARCH_PATH } from './function-sql.ts';
import { MAX_BODY_BYTES } from './internal-sql.ts';

/** A notification holds at most this many changes; more are left to be read from the log. */
const MAX_NOTIFIED = 50;
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

function recordRows(
  names: Names,
  table: Table,
  event: Exclude<TriggerEvent, 'truncate'>,
  wanted: WantedEvents,
): string {
  const insert = insertRows(names, event, wanted, {
    ...table.identity,
    location: 'location',
    writtenAt: 'written_at',
  });
  // The same over expressions that are known at run time alone, as a template for format().
  const template = (paired: boolean) =>
    quoteLiteral(
      announced(
        insertRows(forFormat(names), event, wanted, {
          id: '%1$s',
          key: '%2$s',
          match: paired ? '%3$s' : null,
          location: '$1',
          writtenAt: '$2',
        }),
      ),
    );
  const anyTable =
    event === 'update'
      ? `CASE WHEN now_known.match IS NULL THEN ${template(false)} ELSE ${template(true)} END`
      : template(false);
  return `
#variable_conflict use_variable
DECLARE${declarations(names, table)}
  now_known record;
BEGIN
  IF TG_RELID = ${table.identity.relation} AND ${names.guardFunction.sql}(${table.identity.guard}) THEN
    IF asleep THEN
      ${announced(insert)} INTO body;
    ELSE
      ${insert};
    END IF;
  ELSE
    SELECT * INTO now_known FROM ${names.identityFunction.sql}(TG_RELID);
    EXECUTE format(${anyTable}, now_known.id, now_known.key, now_known.match)
    INTO body USING location, written_at;
  END IF;
  IF asleep AND body IS NOT NULL THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  RETURN NULL;
END`;
}

const forFormat = (names: Names): Names => ({
  ...names,
  logTable: { ...names.logTable, sql: names.logTable.sql.replaceAll('%', '%%') },
});

/** The SQL expressions that fill a row of the log. */
interface RowExpressions {
  readonly id: string;
  readonly key: string;
  readonly match: string | null;
  readonly location: string;
  readonly writtenAt: string;
}

/** One INSERT into the log, for all rows that a statement changed. */
function insertRows(
  names: Names,
  event: Exclude<TriggerEvent, 'truncate'>,
  wanted: WantedEvents,
  { id, key, match, location, writtenAt }: RowExpressions,
): string {
  const insert = `INSERT INTO ${names.logTable.sql} (at, tbl, id, op, key)`;
  if (event !== 'update' || match === null) {
    const rows = event === 'delete' ? 'old_rows' : 'new_rows';
    return `${insert}
      SELECT ${writtenAt}, ${location}, ${id}, '${event.toUpperCase()}', ${key} FROM ${rows} r`;
  }
  // Grouped by the key. A row whose key changed leaves under the old one and comes under the new one, in this order; one
  // that a statement changes more than once, as two cascades do, counts once. There is no join: a plan cached for one
  // row would have it done by nested loops for a million.
  const side = (rows: string, step: 1 | -1) =>
    `SELECT ${id} AS id, ${key} AS key, ${match} COLLATE "C" AS match, ${step} AS step FROM ${rows} r`;
  return `${insert}
      SELECT ${writtenAt}, ${location}, coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)),
        CASE sign(sum(c.step)) WHEN 1 THEN '${wanted.has('insert') ? 'INSERT' : 'UPDATE'}' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END, c.key
      FROM (${side('old_rows', -1)} UNION ALL ${side('new_rows', 1)}) c
      GROUP BY c.match, c.key
      ${wanted.has('delete') ? '' : 'HAVING sum(c.step) >= 0'}
      ORDER BY sum(c.step) >= 0`;
}

/**
 * The insert, and its rows as the body of a notification: null for none, '' for too many. A row that alone is too long is not
 * even put together: strings end at a gigabyte.
 */
const announced = (insert: string): string => `WITH change AS (
      ${insert}
      RETURNING *
    )
    SELECT CASE WHEN count(*) > ${MAX_NOTIFIED} OR bool_or(c.long) THEN '' ELSE string_agg(json_build_object(
      'seq', c.seq::text, 'xid', c.xid::text, 'at', c.at AT TIME ZONE 'UTC',
      'tbl', c.tbl, 'id', c.id, 'op', c.op, 'key', c.key::json)::text, ',' ORDER BY c.seq) FILTER (WHERE NOT c.long) END
    FROM (SELECT *, octet_length(id) + coalesce(octet_length(key), 0) >= ${MAX_BODY_BYTES} AS long
      FROM change LIMIT ${MAX_NOTIFIED + 1}) c`;

/** How far back in the log a TRUNCATE looks for one that it is a part of. */
const SAME_STATEMENT = 1000;

/**
 * TRUNCATE fires the triggers of a partitioned table and of its partitions, in an order that depends on how they came to
 * be truncated. They are one change: a truncation right after another of the same location says nothing new.
 */
function recordTruncate(names: Names, table: Table): string {
  const insert = `INSERT INTO ${names.logTable.sql} (at, tbl, id, op, key)
      SELECT written_at, location, '*', 'TRUNCATE', NULL`;
  return `
#variable_conflict use_variable
DECLARE${declarations(names, table)}
  last_seq bigint := pg_sequence_last_value(${quoteLiteral(names.logSequence.sql)});
  last_op text;
BEGIN
  SELECT l.op INTO last_op FROM ${names.logTable.sql} l
  WHERE l.seq BETWEEN last_seq - ${SAME_STATEMENT} AND last_seq
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
