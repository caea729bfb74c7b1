/**
 * The queries of the changes that a statement made, over its transition tables: id, operation and key of each, and the sides of the row
 * that are wanted.
 */
import { type DataColumn } from './log-layout.ts';
import type { TriggerEvent } from './names.ts';
import { type RowData, type RowSql, loggedData } from './row-data.ts';
import type { RowFilter } from './row-filter.ts';
import type { RowIdentity } from './row-identity.ts';

/** The events that the input wants. They decide how an UPDATE of the key is logged. */
interface WantedEvents {
  readonly events: ReadonlySet<TriggerEvent>;
}

export type RowEvent = Exclude<TriggerEvent, 'truncate'>;

/** The transition table that has every changed row. An UPDATE can have fewer new rows than old ones: a partition's trigger may turn some away. */
export const rowsOf = (event: RowEvent): string => (event === 'insert' ? 'new_rows' : 'old_rows');

/** The transition table whose rows are the changes where each is one: of an UPDATE as long as no key has changed. */
export const changedSide = (event: RowEvent): string => (event === 'delete' ? 'old_rows' : 'new_rows');

type Expressions = Pick<RowIdentity, 'id' | 'key' | 'match'>;

/** The transition tables whose rows have to be small. */
export const printedTables = (small: RowData['small'] | null): string[] =>
  small?.isSmall
    ? [...(small.sides.before ? ['old_rows'] : []), ...(small.sides.after ? ['new_rows'] : [])]
    : [];

export const dataIn = (row: RowSql | null): readonly DataColumn[] => (row ? loggedData(row) : []);

export const where = (condition: string | null): string => (condition === null ? '' : ` WHERE ${condition}`);

export const allOf = (...conditions: readonly (string | null | undefined)[]): string | null =>
  conditions.filter((condition) => Boolean(condition) && condition !== 'true').join(' AND ') || null;

/** Keeps the planner from merging a query with the query around it, which would print a row for each time that its text is named. */
const UNMERGED = ' OFFSET 0';

/** A query of the changes that a statement made: id, op, key, and the sides that are wanted. */
export function changedRows(
  event: RowEvent,
  wanted: WantedEvents,
  expressions: Expressions,
  row: RowSql | null,
  filter: RowFilter | null = null,
): string {
  const { id, key, match } = expressions;
  if (event === 'update' && (match !== null || row?.sides.before || filter))
    return pairedRows(wanted, expressions, row, filter);
  const side = event === 'delete' ? 'before' : 'after';
  const printed = row ? `, ${row.printed} AS ${side}` : '';
  const isWanted = filter && (event === 'delete' ? filter.deleted('old_rows') : filter.inserted('new_rows'));
  return `SELECT ${id} AS id, '${event.toUpperCase()}' AS op, ${key} AS key${printed} FROM ${changedSide(event)} r${where(allOf(row?.fits, isWanted))}${row ? UNMERGED : ''}`;
}

/**
 * Old and new rows are grouped by the key. A row whose key changed is a DELETE of the old key and an INSERT of the new one. A row
 * that one statement changes more than once, as two cascades do, is one UPDATE, from its first state to its last. A join would be slow: a
 * plan that was cached for one row would use nested loops for a million rows.
 *
 * Where rows have no key to be paired by, they are paired by their place: an update puts its old row into one transition table and its
 * new row into the other. If some new rows are missing, nobody knows which.
 */
function pairedRows(
  { events }: WantedEvents,
  { id, key, match }: Expressions,
  row: RowSql | null,
  filter: RowFilter | null,
): string {
  const { before = false, after = false } = row?.sides ?? {};
  const side = (table: string, step: string, isPrinted: boolean, columns: string) => {
    const n = isPrinted || filter ? 'row_number() OVER () AS n, ' : 'NULL::bigint AS n, ';
    const state = row ? `${n}${isPrinted ? row.printed : 'NULL::text'} AS printed, ` : filter ? n : '';
    return `SELECT ${columns}${state}${filter ? `${filter.state}, ` : ''}${match === null ? '' : `${match} COLLATE "C" AS match, `}${step} AS step FROM ${table} r${where(row?.fits ?? null)}`;
  };
  const sides = (columns: string) => `
        ${side('old_rows', '-1', before, columns)}
        UNION ALL
        ${side('new_rows', '1', after, columns)}`;
  const columns = (isPaired: string) =>
    [
      before ? `, ${isPaired}${stateOf('c.step < 0', 'min')}${isPaired && ' END'} AS before` : '',
      after ? `, ${stateOf('c.step > 0', 'max')} AS after` : '',
    ].join('');
  const having = (condition: string | null) => {
    const isWanted =
      filter &&
      filter.updated(
        // Where rows are paired by their place, and some are missing, nobody knows which.
        `bool_and(c.told)${match === null ? ' AND (SELECT count(*) FROM old_rows) = (SELECT count(*) FROM new_rows)' : ''}`,
        { compared: stateOf('c.step < 0', 'min', 'compared'), seen: stateOf('c.step < 0', 'min', 'seen') },
        { compared: stateOf('c.step > 0', 'max', 'compared'), seen: stateOf('c.step > 0', 'max', 'seen') },
      );
    const all = allOf(condition, isWanted);
    return all === null ? '' : `HAVING ${all}`;
  };
  const newest = (column: string) => `coalesce(max(${column}) FILTER (WHERE c.step > 0), max(${column}))`;
  if (match === null)
    return `SELECT ${newest('c.id')} AS id, 'UPDATE' AS op, ${newest('c.key')} AS key${columns(
      'CASE WHEN (SELECT count(*) FROM old_rows) = (SELECT count(*) FROM new_rows) THEN ',
    )}
      FROM (${sides(`${id} AS id, ${key} AS key, `)}
      ) c
      GROUP BY c.n
      ${having('sum(c.step) >= 0')}`;
  // Most tables have a key of one column, which is the id: it need not be printed twice, and the id alone is grouped by.
  const keyTellsAll = id === match && !key.includes('r.');
  return `SELECT ${keyTellsAll ? 'c.match' : newest('c.id')} AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN '${events.has('insert') ? 'INSERT' : 'UPDATE'}' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        ${keyTellsAll ? key : 'c.key'} AS key${columns('')}
      FROM (${sides(keyTellsAll ? '' : `${id} AS id, ${key} AS key, `)}
      ) c
      GROUP BY ${keyTellsAll ? 'c.match' : 'c.match, c.key'}
      ${having(events.has('delete') ? null : 'sum(c.step) >= 0')}`;
}

/** The row's state of the group that comes first or last in its transition table, which has the rows in the order of their changes. */
const stateOf = (side: string, which: 'min' | 'max', what = 'printed'): string => {
  const all = (column: string) => `array_agg(c.${column}) FILTER (WHERE ${side})`;
  return `(${all(what)})[array_position(${all('n')}, ${which}(c.n) FILTER (WHERE ${side}))]`;
};

/** The change of a statement of one row, as parts of a query. They are flat where they can be: each level takes memory in every session. */
export interface OneChange {
  readonly change: { readonly id: string; readonly op: string; readonly key: string };
  readonly from: string;
  readonly where: string | null;
}

const CHANGE = { id: 'c.id', op: 'c.op', key: 'c.key' };

/** The change of a statement that has inserted or deleted one row. */
export function oneRow(
  event: 'insert' | 'delete',
  { id, key }: Expressions,
  row: RowData['small'] | null,
  filter: RowFilter | null,
): OneChange {
  const isWanted = filter && (event === 'delete' ? filter.deleted('old_rows') : filter.inserted('new_rows'));
  const op = `'${event.toUpperCase()}'`;
  if (!row) return { change: { id, op, key }, from: `${rowsOf(event)} r`, where: isWanted };
  const side = event === 'delete' ? 'before' : 'after';
  return {
    change: CHANGE,
    from: `(SELECT ${id} AS id, ${op} AS op, ${key} AS key, ${row.printed} AS ${side}
      FROM ${rowsOf(event)} r${where(allOf(row.fits, row.isSmall, isWanted))}${UNMERGED}) c`,
    where: null,
  };
}

/**
 * The change of a statement that has updated one row and left its key, which needs no grouping. If two cascades have changed a row, there are
 * two old rows.
 *
 * Where the old row is needed for nothing but its key, the new row is compared with the array of the old keys, which costs less than a join. An
 * UPDATE never has more new rows than old ones: so the first of the new rows is the only one if there is one old key.
 */
export function oneUpdatedRow(
  expressions: Expressions,
  row: RowData['small'] | null,
  filter: RowFilter | null,
): OneChange {
  if (row?.sides.before || filter)
    return { change: CHANGE, from: `(${onePair(expressions, row, filter)}) c`, where: null };
  const { id, key, match } = expressions;
  const printed = row ? `, ${row.printed} AS after` : '';
  const isOne =
    match === null
      ? 'NOT EXISTS (SELECT FROM old_rows OFFSET 1)'
      : `ARRAY(SELECT ${match} COLLATE "C" FROM old_rows r LIMIT 2) = ARRAY[c.match]`;
  // Most tables have a key of one column, which is the id.
  const keyTellsAll = id === match && !key.includes('r.');
  const columns = keyTellsAll ? '' : `${id} AS id, ${key} AS key${match === null ? '' : ', '}`;
  return {
    change: { id: keyTellsAll ? 'c.match' : 'c.id', op: `'UPDATE'`, key: keyTellsAll ? key : 'c.key' },
    from: `(SELECT ${columns}${match === null ? '' : `${match} COLLATE "C" AS match`}${printed} FROM new_rows r${where(allOf(row?.fits, row?.isSmall))} LIMIT 1) c`,
    where: isOne,
  };
}

/** The same by a join. It is no equation for the planner, which would otherwise sort or hash in sessions whose plan was made for many rows. */
function onePair(
  { id, key, match }: Expressions,
  row: RowData['small'] | null,
  filter: RowFilter | null,
): string {
  const isWanted = filter && isPairWanted(filter);
  const state = filter?.state ?? '';
  const { before = false, after = false } = row?.sides ?? {};
  const matching = match === null ? '' : `${match} AS match`;
  const printed = (isWanted: boolean, side: string) => (row && isWanted ? `${row.printed} AS ${side}` : '');
  const conditions = (isPrinted: boolean) =>
    row ? ` WHERE ${row.fits}${isPrinted && row.isSmall ? ` AND ${row.isSmall}` : ''}` : '';
  const select = (...columns: string[]) => columns.filter((column) => column !== '').join(', ');
  return `SELECT ${select('n.id', `'UPDATE' AS op`, 'n.key', before ? 'o.before' : '', after ? 'n.after' : '')}
      FROM (SELECT ${select(matching, printed(before, 'before'), state)} FROM old_rows r${conditions(before)}) o,
        (SELECT ${select(`${id} AS id`, `${key} AS key`, matching, printed(after, 'after'), state)} FROM new_rows r${conditions(after)}) n
      WHERE ${isOnePair(match)}${isWanted ? ` AND ${isWanted}` : ''}${row ? UNMERGED : ''}`;
}

const isPairWanted = (filter: RowFilter): string =>
  filter.updated(
    'o.told AND n.told',
    { compared: 'o.compared', seen: 'o.seen' },
    { compared: 'n.compared', seen: 'n.seen' },
  );

/** SQL: whether an old row `o` and a new row `n` are the only ones, and one row. */
const isOnePair = (match: string | null): string =>
  `NOT EXISTS (SELECT FROM old_rows OFFSET 1) AND NOT EXISTS (SELECT FROM new_rows OFFSET 1)${match === null ? '' : ` AND (o.match = n.match COLLATE "C") IS TRUE`}`;

/** A query that has a row if the only row of an UPDATE is not wanted: then nothing more need be looked at. */
export function unwantedRow({ match }: Expressions, filter: RowFilter): string {
  const columns = `${match === null ? '' : `${match} AS match, `}${filter.state}`;
  return `SELECT FROM (SELECT ${columns} FROM old_rows r) o, (SELECT ${columns} FROM new_rows r) n
        WHERE ${isOnePair(match)} AND (${isPairWanted(filter)}) IS NOT TRUE`;
}

/** When a row's key changes, but not its id, the DELETE and the INSERT have the same id: the DELETE has to come first. */
export const DELETES_FIRST = `c.op <> 'DELETE'`;
