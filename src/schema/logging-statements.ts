/** The statements by which a trigger function logs the changes of the statement that fired it, as SQL. */
import { quoteLiteral } from '../postgres/quoting.ts';
import {
  DELETES_FIRST,
  type RowEvent,
  allOf,
  changedRows,
  dataIn,
  oneRow,
  oneUpdatedRow,
  printedTables,
  rowsOf,
  unwantedRow,
  where,
} from './changed-rows.ts';
import { FEW, insertPacked, insertSingle } from './log-layout.ts';
import type { Names, ObjectName, TriggerEvent } from './names.ts';
import {
  IS_OMITTED,
  type RowData,
  type RowSql,
  type WantedRows,
  areTaken,
  presentRowSql,
  takenData,
} from './row-data.ts';
import { type RowFilter, type WantedChanges } from './row-filter.ts';
import { isAwake } from './shared-functions.ts';
import type { Table } from './tables.ts';
import { IS_LONG } from './wire-format.ts';

/** What the input wants to know of a table's changes. */
export interface Wanted {
  /** They decide how an UPDATE of the key is logged. */
  readonly events: ReadonlySet<TriggerEvent>;
  readonly rows: WantedRows;
  /** The columns of the rows; null for all. */
  readonly columns: readonly string[] | null;
  /** Of one side of a change, as text. */
  readonly maxRowBytes: number;
  readonly filter: WantedChanges;
  /** Changes of transactions that say to be of these origins are not logged. */
  readonly ignoredOrigins: readonly string[];
}

/** What all changes of a statement share, as variables of the function. */
export const STATEMENT = { tbl: 'location', at: 'written_at' };

/** The location as a constant of the plan. A table that is renamed has its plans made anew. */
export const locationSql = (names: Names, table: Table): string =>
  table.isPartition
    ? quoteLiteral(table.location)
    : `${names.locationFunction.sql}(${table.identity.relation}::oid)`;

/** The statement that logs the rows of a table that has changed, as a template for format(). */
export function ofAnyTable(names: Names, event: RowEvent, wanted: Wanted, row: RowSql | null): string {
  const places = { columns: '%4$s', typed: '%5$s', size: '%6$s', names: '%7$s' };
  const present = row && presentRowSql(names, row, rowsOf(event), (value) => places[value]);
  const template = (match: string | null) =>
    quoteLiteral(
      insertPacked(
        forFormat(names.logTable),
        { tbl: '$1', at: '$2' },
        changedRows(event, wanted, { id: '%1$s', key: '%2$s', match }, present),
        packing(present),
        dataIn(present),
      ),
    );
  return event === 'update'
    ? `CASE WHEN now_known.match IS NULL THEN ${template(null)} ELSE ${template('%3$s')} END`
    : template(null);
}

const forFormat = ({ name, sql }: ObjectName): ObjectName => ({ name, sql: sql.replaceAll('%', '%%') });

/**
 * The statements that log the rows of a statement. Each inserts nothing if the statement changed more rows than it is for, or if one of the rows
 * is not small. `ofOne` has the fewest expressions, and is the short road's where nothing is filtered.
 */
export function inserts(
  names: Names,
  table: Table,
  event: RowEvent,
  wanted: Wanted,
  row: RowSql | null,
  small: RowData['small'] | null,
  filter: RowFilter | null,
): { ofOne: string | null; unwanted: string | null; ofFew: string; packed: string } {
  const { identity } = table;
  const columns = { id: 'c.id', op: 'c.op', key: 'c.key' };
  const one =
    event === 'update'
      ? oneUpdatedRow(identity, small, filter)
      : small || !filter
        ? oneRow(event, identity, small, filter)
        : null;
  const statement = { ...STATEMENT, failed: filter?.failed ?? null };
  // The short road has the location as a constant.
  const source = filter ? statement : { ...statement, tbl: locationSql(names, table) };
  const isLarge = small?.isSmall ? `NOT (${small.isSmall})` : null;
  const conditions = [
    `NOT EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${FEW})`,
    ...printedTables(small).map((rows) => `NOT EXISTS (SELECT FROM ${rows} r WHERE ${isLarge})`),
  ];
  // An update's query asks itself whether it is of one row. Without rows, an INSERT or a DELETE of few rows is as short, if nobody need be told.
  const ofOneRow = [
    ...(event === 'update'
      ? []
      : [
          `NOT EXISTS (SELECT FROM ${rowsOf(event)} OFFSET ${small ? 1 : `CASE WHEN ${isAwake(names)} THEN ${FEW} ELSE 1 END`})`,
        ]),
    ...(small ? [areTaken(small)] : []),
  ];
  return {
    ofOne:
      one &&
      `${insertSingle(names.logTable, { ...source, ...one.change }, small ? takenData(small) : [])} FROM ${one.from}${where(allOf(one.where, ...ofOneRow))}`,
    unwanted: event === 'update' && filter ? unwantedRow(identity, filter) : null,
    ofFew: `${insertSingle(names.logTable, { ...(small ? statement : source), ...columns }, dataIn(small))} FROM (${changedRows(event, wanted, identity, small, filter)}) c
      WHERE ${conditions.join(' AND ')}
      ${event === 'update' ? `ORDER BY ${DELETES_FIRST}` : ''}`,
    packed: insertPacked(
      names.logTable,
      statement,
      changedRows(event, wanted, identity, row, filter),
      packing(row),
      dataIn(row),
    ),
  };
}

const packing = (row: RowSql | null) => ({
  isLong: row ? `${IS_LONG} OR ${IS_OMITTED}` : IS_LONG,
  order: DELETES_FIRST,
});
