/**
 * The DDL text of the triggers and of the functions behind them.
 *
 * A trigger function must never make the application's statement fail or wait. Therefore:
 * - It runs as its owner, under a fixed search_path, and qualifies every name of ours.
 * - It names the key's columns in plain SQL only while the guard function proves that they are still there. Otherwise it asks the
 *   catalog what identifies a row now, and runs the answer as dynamic SQL. It has no EXCEPTION block around what writes: that would
 *   cost a transaction id for every statement.
 * - It only *tries* the advisory lock, shared. If the lock is refused, the reader is asleep and wants a notification. If it is
 *   granted, the transaction keeps it to its end, and the reader stays awake as long as there may be changes that nobody announced.
 *
 * All changes that a function logs for one statement have one time and come from one INSERT.
 */
import { qualify, quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { type RowEvent, changedRows, changedSide, rowsOf } from './changed-rows.ts';
import { type FunctionText, PRINTING, SEARCH_PATH } from './create-function.ts';
import { FEW, TAGS, insertSingle } from './log-layout.ts';
import { STATEMENT, type Wanted, inserts, locationSql, ofAnyTable } from './logging-statements.ts';
import { type Names, type TriggerEvent, locationByNames } from './names.ts';
import { type RowData, type Shape, type Sides, rowDataOf } from './row-data.ts';
import { type RowFilter, forgetFailure, rowFilterOf } from './row-filter.ts';
import { isAwake } from './shared-functions.ts';
import type { Table } from './tables.ts';
import { announced } from './wire-format.ts';

/** A trigger function, and the shape that it names in the log. */
export interface RecordFunction extends FunctionText {
  readonly shape: Shape | null;
}

const TRANSITION_TABLES: Readonly<Record<TriggerEvent, string>> = {
  insert: 'REFERENCING NEW TABLE AS new_rows',
  update: 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows',
  delete: 'REFERENCING OLD TABLE AS old_rows',
  truncate: '',
};

/** A partitioned table's TRUNCATE trigger fires before those of its partitions, in whatever order the statement names them. */
export const firesBefore = ({ isPartitioned }: Pick<Table, 'isPartitioned'>, event: TriggerEvent): boolean =>
  event === 'truncate' && isPartitioned;

export const createTrigger = (names: Names, table: Table, event: TriggerEvent): string =>
  `CREATE TRIGGER ${quoteIdentifier(names.trigger(table.name, event))}
${firesBefore(table, event) ? 'BEFORE' : 'AFTER'} ${event.toUpperCase()} ON ${qualify(table.schema, table.name)}
${TRANSITION_TABLES[event]} FOR EACH STATEMENT
EXECUTE FUNCTION ${names.recordFunction(table.schema, table.name, event).sql}()`;

/** The function behind one trigger of one table. */
export function recordFunction(
  names: Names,
  table: Table,
  event: TriggerEvent,
  wanted: Wanted,
): RecordFunction {
  const { name, sql } = names.recordFunction(table.schema, table.name, event);
  const data = event === 'truncate' ? null : dataOf(names, table, event, wanted);
  const filter = event === 'truncate' ? null : filterOf(names, table, wanted);
  const isKeyFormatted = event !== 'truncate' && table.identity.formatted;
  return {
    input: names.id,
    name,
    signature: `${sql}()`,
    returns: 'trigger',
    language: 'plpgsql',
    settings: [SEARCH_PATH, ...(isKeyFormatted ? PRINTING : (data?.printing ?? []))],
    body:
      event === 'truncate'
        ? recordTruncate(names, wanted)
        : data
          ? recordRowsWithData(names, table, event, wanted, data, filter)
          : filter
            ? recordFilteredRows(names, table, event, wanted, filter)
            : recordRows(names, table, event, wanted),
    shape: data?.shape ?? null,
  };
}

/** What of the rows is logged; null for nothing. */
function dataOf(names: Names, table: Table, event: RowEvent, wanted: Wanted): RowData | null {
  const sides: Sides = {
    before: event !== 'insert' && wanted.rows === 'both',
    after: event !== 'delete' && wanted.rows !== 'none',
  };
  if (!table.columns || !(sides.before || sides.after)) return null;
  const { columns, lastColumn } = table;
  return rowDataOf(names, table.identity.relation, { columns, lastColumn }, wanted, sides);
}

const filterOf = (names: Names, table: Table, wanted: Wanted): RowFilter | null =>
  table.columns &&
  rowFilterOf(names, table.schema, table.name, table.identity.relation, table.columns, wanted.filter);

/**
 * Leaves the function. The result of a statement trigger is ignored. `RETURN NULL` would be an expression with a plan of its own, in every
 * session for every table; `RETURN NEW` is none.
 */
const LEAVE = 'RETURN NEW';

/** Leaves the changes of a transaction alone that says to be of one of these origins. */
const returnIfIgnored = ({ ignoredOrigins }: Wanted): string =>
  ignoredOrigins.length === 0
    ? ''
    : `
  IF current_setting(${quoteLiteral(TAGS.origin)}, true) IN (${ignoredOrigins.map(quoteLiteral).join(', ')}) THEN
    ${LEAVE};
  END IF;`;

// A table may be renamed: its name is read at run time.
const OWN_LOCATION = locationByNames('TG_TABLE_SCHEMA', 'TG_TABLE_NAME');

/**
 * The variables that every function has. A value from the beginning costs every statement its expression. The types are those of a column of the
 * log and of variables that plpgsql makes in any case, a text and a boolean: to parse the name of a type leaves 2 KB in every session for every
 * table.
 */
const writtenAt = ({ logTable }: Names): string => `
  written_at ${logTable.sql}.at%TYPE := clock_timestamp();`;
const TEXT = 'tg_op%TYPE';
const BOOLEAN = 'found%TYPE';
const variables = (names: Names): string => `${writtenAt(names)}
  location ${TEXT};
  asleep ${BOOLEAN};
  body ${TEXT};`;

/** Where the short road has not led to the end. */
const assignments = (names: Names, location: string): string => `location := ${location};
  asleep := NOT ${isAwake(names)};`;

// A partition's rows are its root's.
const locationIn = (table: Table): string =>
  table.isPartition ? quoteLiteral(table.location) : OWN_LOCATION;

/**
 * The short road of a statement that changed one row, as most do: one INSERT, then the lock. A statement that changed no row ends here too.
 * The INSERT has drawn from the log's sequence, of which the session remembers its last value: that tells a sleeping reader the change's sequence.
 */
const shortRoad = (names: Names, event: RowEvent, insert: string, announce: string): string => `
    ${insert};
    IF FOUND AND ${isAwake(names)} THEN
      ${LEAVE};
    ELSIF FOUND THEN
      PERFORM ${announce};
      ${LEAVE};
    ELSIF NOT EXISTS (SELECT FROM ${rowsOf(event)}) THEN
      ${LEAVE};
    END IF;`;

function recordRows(names: Names, table: Table, event: RowEvent, wanted: Wanted): string {
  const { ofOne, ofFew } = inserts(names, table, event, wanted, null, null, null);
  const { id, key } = table.identity;
  const announce = `${names.announceFunction.sql}(written_at, ${locationSql(names, table)}, ${id}, '${event.toUpperCase()}', ${key}) FROM ${changedSide(event)} r`;
  const few = `NOT EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${FEW})`;
  return `
#variable_conflict use_variable
DECLARE${writtenAt(names)}
  changes ${TEXT};
BEGIN${returnIfIgnored(wanted)}
  IF ${isKnown(names, table)} THEN${shortRoad(names, event, ofOne!, announce)}${
    event === 'update'
      ? `
    IF ${isAwake(names)} AND ${few} THEN
      ${ofFew};
      ${LEAVE};
    END IF;`
      : ''
  }
    changes := ${quoteLiteral(changedRows(event, wanted, table.identity, null, null))};
  END IF;
  EXECUTE ${names.statementFunction.sql}(TG_RELID, ${eventsOf(event, wanted)}, changes, ${few})
  USING ${table.isPartition ? quoteLiteral(table.location) : `${names.locationFunction.sql}(TG_RELID)`}, written_at;
  ${LEAVE};
END`;
}

/** The same where not all rows are wanted. What has failed of the filter is told at the end of the function, so that there is no short road. */
function recordFilteredRows(
  names: Names,
  table: Table,
  event: RowEvent,
  wanted: Wanted,
  filter: RowFilter,
): string {
  const { ofOne, unwanted, ofFew, packed } = inserts(names, table, event, wanted, null, null, filter);
  const each = (insert: string) => `IF asleep THEN
      ${announced(insert)} INTO body;
    ELSE
      ${insert};
    END IF;`;
  return `
#variable_conflict use_variable
DECLARE${variables(names)}
  now_known record;
  logged bigint;
BEGIN${returnIfIgnored(wanted)}
  ${assignments(names, locationIn(table))}
  IF ${isKnown(names, table)}
    AND ${filter.guard} THEN
    ${
      ofOne
        ? `${each(ofOne)}
    IF NOT FOUND THEN${returnIf(unwanted)}
    ${each(ofFew)}
    END IF;`
        : each(ofFew)
    }
    IF NOT FOUND AND EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${FEW}) THEN
      ${packed};
      body := '';
    END IF;
  ELSE
    SELECT * INTO now_known FROM ${names.identityFunction.sql}(TG_RELID);
    EXECUTE format(${ofAnyTable(names, event, wanted, null)}, now_known.id, now_known.key, now_known.match)
    USING location, written_at;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged > 0 THEN
      body := '';
    END IF;
  END IF;${forgetFailure(names, filter)}
  IF asleep AND body IS NOT NULL THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  ${LEAVE};
END`;
}

/** The statement's event, and those of the events that the input wants which decide how an UPDATE of the key is logged. */
const eventsOf = (event: RowEvent, { events }: Wanted): string =>
  quoteLiteral(
    [
      event,
      ...(['insert', 'delete'] as const).filter((other) => event === 'update' && events.has(other)),
    ].join(' '),
  );

/** Whether the row identity fits the table, as SQL. */
const isKnown = (names: Names, { identity: { relation, guard } }: Table): string =>
  `TG_RELID = ${relation} AND ${names.guardFunction.sql}(${guard})`;

/**
 * The same where rows are logged. Nothing of a row travels in a notification. If the columns have other types than when the function was
 * made, the statements for known columns log nothing, which tells.
 */
function recordRowsWithData(
  names: Names,
  table: Table,
  event: RowEvent,
  wanted: Wanted,
  { guard, known, small, present }: RowData,
  filter: RowFilter | null,
): string {
  const { ofOne, unwanted, ofFew, packed } = inserts(names, table, event, wanted, known, small, filter);
  // That nothing was logged does not tell whether the types fit, if rows may be unwanted.
  const fits = filter ? `FOUND OR EXISTS (SELECT FROM ${rowsOf(event)} r WHERE ${known.fits})` : 'FOUND';
  return `
#variable_conflict use_variable
DECLARE${variables(names)}
  is_known ${BOOLEAN};
  now_known record;
  now_present record;
  logged bigint;
BEGIN${returnIfIgnored(wanted)}
  IF ${isKnown(names, table)}
    AND ${guard}${
      filter
        ? `
    AND ${filter.guard}`
        : ''
    } THEN${filter ? '' : shortRoad(names, event, ofOne!, `${names.notifyFunction.sql}('')`)}
    is_known := true;
  END IF;
  ${assignments(names, locationIn(table))}
  IF is_known THEN
    ${
      filter
        ? `${ofOne};
    IF NOT FOUND THEN${returnIf(unwanted)}
      ${ofFew};
    END IF;`
        : `${ofFew};`
    }
    IF NOT FOUND AND EXISTS (SELECT FROM ${rowsOf(event)}) THEN
      ${packed};
      is_known := ${fits};
    END IF;
    ${filter ? 'GET DIAGNOSTICS logged = ROW_COUNT;\n    IF logged > 0' : 'IF FOUND'} THEN
      body := '';
    END IF;
  END IF;
  IF is_known IS NOT TRUE THEN
    SELECT * INTO now_known FROM ${names.identityFunction.sql}(TG_RELID);
    SELECT * INTO now_present FROM ${present('true')};
    IF now_present.doubtful THEN
      BEGIN
        EXECUTE format('SELECT %s FROM ${rowsOf(event)} r LIMIT 1', now_present.size);
      EXCEPTION WHEN internal_error THEN
        SELECT * INTO now_present FROM ${present('false')};
      END;
    END IF;
    EXECUTE format(${ofAnyTable(names, event, wanted, known)}, now_known.id, now_known.key, now_known.match,
      now_present.columns, now_present.typed, now_present.size, now_present.names)
    USING location, written_at;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged > 0 THEN
      body := '';
    END IF;
  END IF;${filter ? forgetFailure(names, filter) : ''}
  IF asleep AND body IS NOT NULL THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  ${LEAVE};
END`;
}

const returnIf = (rows: string | null): string =>
  rows === null
    ? ''
    : `
      IF EXISTS (${rows}) THEN
        ${LEAVE};
      END IF;`;

/**
 * TRUNCATE fires the triggers of a partitioned table and of its partitions. A truncation is not logged if the same table, or one that
 * it is a partition of, was truncated just before: if the transaction has logged nothing since but truncations.
 *
 * A setting of the transaction remembers that, and a rollback to a savepoint restores it: how many rows the transaction had logged
 * after its last truncation, and which tables were truncated in a row. The number comes from the backend's own statistics; without
 * them (`track_counts` is off) every truncation is logged. To look into the log instead would make SERIALIZABLE transactions fail.
 */
function recordTruncate(names: Names, wanted: Wanted): string {
  const insert = insertSingle(names.logTable, { ...STATEMENT, id: `'*'`, op: `'TRUNCATE'`, key: 'NULL' });
  const remembered = quoteLiteral(names.truncationsSetting);
  const logged = `pg_stat_get_xact_tuples_inserted(${quoteLiteral(names.logTable.sql)}::regclass)`;
  return `
#variable_conflict use_variable
DECLARE${variables(names)}
  truncations text[];
BEGIN${returnIfIgnored(wanted)}
  IF current_setting('track_counts')::boolean THEN
    truncations := string_to_array(current_setting(${remembered}, true), ' ');
    IF truncations[1] IS DISTINCT FROM ${logged}::text THEN
      truncations := NULL;
    END IF;
    IF TG_RELID::text = ANY (truncations[2:])
       OR EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) a WHERE a.relid::oid::text = ANY (truncations[2:])) THEN
      ${LEAVE};
    END IF;
  END IF;
  ${assignments(names, OWN_LOCATION)}
  ${announced(insert)} INTO body;
  PERFORM set_config(${remembered}, concat_ws(' ', ${logged}, array_to_string(truncations[2:], ' '), TG_RELID), true);
  IF asleep THEN
    PERFORM ${names.notifyFunction.sql}(body);
  END IF;
  ${LEAVE};
END`;
}
