/**
 * Which changes of a table are logged, where an input does not want every one: `changed` compares an UPDATE's old and new row, `when` is a
 * condition of the user's.
 *
 * No change is lost by a filter: wherever the filter cannot tell, the change is logged. That is so where a column has another type than at
 * installation, where values are too large to be compared, and where evaluating the condition fails. If a column was renamed or dropped,
 * the guard says no, and the trigger function logs without the filter.
 *
 * The condition is evaluated by a function of its own, which catches errors and writes nothing. It is passed the columns that the condition's
 * text names, so that no other column is read. It runs with the rights of its owner: operators and casts of a type's owner must have no part in
 * it, so values of types that are not PostgreSQL's own are passed as text.
 */
import { quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { type FunctionText, PRINTING, SEARCH_PATH } from './create-function.ts';
import type { Names } from './names.ts';
import type { Column } from './row-data.ts';

/** What of a table's changes is wanted. */
export interface WantedChanges {
  /** An UPDATE is wanted only if it changes one of these columns; null for every UPDATE. */
  readonly changed: readonly string[] | null;
  readonly when: string | null;
}

/** A filter as SQL. */
export interface RowFilter {
  /** Whether the condition has failed so far for the statement; null without a condition. */
  readonly failed: string | null;
  /** Whether the columns have their names. */
  readonly guard: string;
  /** Columns over a row `r` that the conditions need: `told`, `compared` and `seen`. */
  readonly state: string;
  /** Whether the change of a row `r` that was inserted is wanted; `rows` is the transition table. */
  readonly inserted: (rows: string) => string;
  readonly deleted: (rows: string) => string;
  /** Whether a change is wanted whose sides are the `state` of two queries; `told` is whether both are told. */
  readonly updated: (told: string, before: Side, after: Side) => string;
}

/** SQL: the columns `compared` and `seen` of one side of a change. */
export interface Side {
  readonly compared: string;
  readonly seen: string;
}

/** To put the values of a row that take more bytes together into one value could fail the statement. */
const COMPARABLE = 250_000_000;
/** A value that takes so many bytes prints in any case. */
const PRINTABLE = 8192;
/** The oids of types that are not PostgreSQL's own start here. */
const FIRST_FOREIGN_TYPE = 16384;

const isForeign = ({ type }: Column): boolean => type >= FIRST_FOREIGN_TYPE;

const list = (items: readonly string[]): string => items.join(', ');
const columnOf = ({ name }: Column): string => `r.${quoteIdentifier(name)}`;
const seenAs = (column: Column): string =>
  `${isForeign(column) ? `CASE WHEN pg_column_size(${columnOf(column)}) IS NOT NULL THEN concat(${columnOf(column)}) END` : columnOf(column)} AS ${quoteIdentifier(column.name)}`;

/** The columns that the text of a condition names; one too many rather than one too few. */
export function columnsIn(when: string, columns: readonly Column[]): Column[] {
  const named = columns.filter(({ name }) => {
    const plain = (text: string) => text.replaceAll(/[\\^$.*+?()[\]{}|]/g, String.raw`\$&`);
    const word = `${plain(name)}|${plain(name.replaceAll('"', '""'))}`;
    return new RegExp(String.raw`(?<![\p{L}\p{N}_$])(?:${word})(?![\p{L}\p{N}_$])`, 'iu').test(when);
  });
  return named.length > 0 ? named : columns.slice(0, 1);
}

export function rowFilterOf(
  names: Names,
  schema: string,
  table: string,
  relation: string,
  columns: readonly Column[],
  { changed, when }: WantedChanges,
): RowFilter | null {
  if (changed === null && when === null) return null;
  const compared = changed === null ? [] : columns.filter(({ name }) => changed.includes(name));
  const seen = when === null ? [] : columnsIn(when, columns);
  const used = columns.filter((column) => compared.includes(column) || seen.includes(column));
  const namesOf = `ARRAY[${list(used.map(({ name }) => quoteLiteral(name)))}]::text[]`;
  const shape = JSON.stringify(used.map(({ name, type }) => [name, type]));
  const fits = `${names.shapeFunction.sql}(${namesOf}, ROW(${list(used.map((column) => `CASE WHEN false THEN ${columnOf(column)} END`))})) = ${quoteLiteral(shape)}::jsonb`;
  const wide = used.filter(({ isShort }) => !isShort);
  const size = wide.map((column) => `coalesce(pg_column_size(${columnOf(column)}), 0)::int8`).join(' + ');
  const printed = seen
    .filter((column) => isForeign(column) && !column.isShort)
    .map(
      (column) =>
        ` AND coalesce(pg_column_size(${columnOf(column)}), 0) <= ${PRINTABLE} AND pg_column_compression(${columnOf(column)}) IS NULL`,
    );
  const told = `${fits}${wide.length === 0 ? '' : ` AND ${size} <= ${COMPARABLE}`}${printed.join('')}`;
  // `x` alone would be a column of that name, if the table has one.
  const record = `(SELECT x.*::record FROM (SELECT ${list(seen.map(seenAs))}) x)`;
  const whenFunction = names.whenFunction(schema, table);
  const holds = (before: string, after: string) => `${whenFunction.sql}(${before}, ${after})`;
  // A row of NULLs, each of its column's type.
  const absent = (rows: string) =>
    `(SELECT y.*::record FROM (SELECT ${list(seen.map(({ name }) => `x.${quoteIdentifier(name)}`))} FROM (SELECT) o LEFT JOIN (SELECT ${list(seen.map(seenAs))} FROM ${rows} r WHERE false) x ON true) y)`;
  const single = (condition: string) =>
    when === null ? 'true' : `CASE WHEN ${told} THEN ${condition} ELSE true END`;
  return {
    failed: when === null ? null : hasFailed(names),
    guard: `${names.columnsFunction.sql}(${relation}::oid, ARRAY[${list(used.map(({ number }) => String(number)))}]::int4[], ${namesOf}, NULL::int4)`,
    state: list([
      `${told} AS told`,
      ...(changed === null
        ? []
        : [`CASE WHEN ${told} THEN ROW(${list(compared.map(columnOf))}) END AS compared`]),
      ...(when === null ? [] : [`CASE WHEN ${told} THEN ${record} END AS seen`]),
    ]),
    inserted: (rows) => single(holds(absent(rows), record)),
    deleted: (rows) => single(holds(record, absent(rows))),
    updated: (isTold, before, after) => {
      const conditions = [
        // A side that is not there is NULL, and so is what the function returns.
        ...(changed === null
          ? []
          : [`coalesce(record_image_ne(${before.compared}, ${after.compared}), true)`]),
        ...(when === null
          ? []
          : [
              holds(
                `coalesce(${before.seen}, ${absent('old_rows')})`,
                `coalesce(${after.seen}, ${absent('new_rows')})`,
              ),
            ]),
      ];
      return `CASE WHEN ${isTold} THEN ${conditions.join(' AND ')} ELSE true END`;
    },
  };
}

/** The value of the setting while a condition has failed. A setting that was made for one transaction is an empty text in the session's later ones. */
const FAILED = 'failed';
const hasFailed = ({ failedConditionSetting }: Names): string =>
  `current_setting(${quoteLiteral(failedConditionSetting)}, true) = '${FAILED}'`;
const setFailed = ({ failedConditionSetting }: Names, value: string): string =>
  `PERFORM set_config(${quoteLiteral(failedConditionSetting)}, '${value}', true);`;

/**
 * SQL for the end of a trigger function. The setting concerns one statement, and is cleared for the next one of the transaction. A notification does
 * not tell of the failure: its body is emptied, so that the reader looks in the log.
 */
export const forgetFailure = (names: Names, { failed }: RowFilter): string =>
  failed === null
    ? ''
    : `
  IF ${failed} THEN
    ${setFailed(names, '')}
    body := left(body, 0);
  END IF;`;

/** Whether a condition may call a function that is somebody's own, and could write. A cast may; other operators outside of pg_catalog are written with OPERATOR(). */
const callsFunctions = (when: string): boolean => /[\p{L}\p{N}_$"]\s*\(|::/u.test(when);

/** Ends the subtransaction in which a condition was evaluated. */
const EVALUATED = 'PIEVA';

/**
 * Evaluates the condition of a table. An error is caught; the change is wanted then, and a setting tells the trigger function of the error. Where
 * the condition calls functions, the subtransaction is read-only, so that none of them writes. Only a rollback makes the transaction writable again:
 * so an error ends the evaluation in any case. No subtransaction takes a transaction id.
 */
export const whenFunction = (names: Names, schema: string, table: string, when: string): FunctionText => {
  const { name, sql } = names.whenFunction(schema, table);
  return {
    input: names.id,
    name,
    signature: `${sql}(before record, after record)`,
    returns: 'boolean',
    language: 'plpgsql',
    volatility: 'STABLE',
    settings: [SEARCH_PATH, ...PRINTING],
    body: callsFunctions(when)
      ? `
DECLARE
  is_wanted boolean;
BEGIN
  PERFORM set_config('transaction_read_only', 'on', true);
  is_wanted := coalesce((
${when}
  ), false);
  RAISE SQLSTATE '${EVALUATED}';
EXCEPTION WHEN SQLSTATE '${EVALUATED}' THEN
  RETURN coalesce(is_wanted, true);
WHEN OTHERS OR assert_failure THEN
  ${setFailed(names, FAILED)}
  RETURN true;
END`
      : `
BEGIN
  RETURN coalesce((
${when}
  ), false);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  ${setFailed(names, FAILED)}
  RETURN true;
END`,
  };
};

/**
 * A statement that the server refuses if the condition does not parse, is not boolean, or names a column that is not there. It needs no right on
 * the table. $1: true; a statement with a parameter is a single one. OFFSET keeps the planner from evaluating the condition for NULLs.
 */
export function explainWhen(
  when: string,
  columns: readonly Column[],
  typeNames: ReadonlyMap<number, string>,
): string {
  const row = list(
    columns.map(
      (column) =>
        `CASE WHEN false THEN NULL::${isForeign(column) ? 'text' : typeNames.get(column.type)!} END AS ${quoteIdentifier(column.name)}`,
    ),
  );
  return `EXPLAIN SELECT $1::boolean FROM (SELECT ${row} OFFSET 0) before, (SELECT ${row} OFFSET 0) after WHERE (
${when}
)`;
}

/** A query that evaluates a condition for rows of a table, each of which is `before` and `after`. $1: true. */
export const evaluateWhen = (when: string, columns: readonly Column[], table: string, rows: number): string =>
  `SELECT count(*) FILTER (WHERE $1::boolean AND (
${when}
)) FROM (SELECT ${list(columnsIn(when, columns).map(seenAs))} FROM ${table} r LIMIT ${rows}) before CROSS JOIN LATERAL (SELECT before.*) after`;
