/**
 * The rows themselves, which the trigger functions write into the log where the input asks for them.
 *
 * A row is logged as the text of a composite value of its columns, `concat(ROW(r.a, r.b))`: each value is printed as SELECT prints
 * it, under pinned settings. Its shape tells the columns' names and types. Three things must hold whatever becomes of the table:
 *
 * - The text and the shape belong together. The columns' names are proven by a guard, when a session plans the trigger's condition.
 *   Their types are proven when it plans the INSERT, by the expressions themselves: `CASE WHEN false THEN r.a END` is planned as a
 *   NULL of the type that `a` has now, or of its base type, and the shape function, which is declared immutable, then says the types.
 *   The transaction's snapshot, which may show an older state of the catalog, has no part in either.
 * - Where the proof fails, the trigger function asks for the columns of now, and each row has its shape with it.
 * - Printing fails no statement. A row whose values are small as they are stored, and not compressed unless they are texts, is printed at
 *   once. Another row is printed by a function that catches errors, unless its size shows that it is too large.
 *
 * The expressions name the columns one by one: an expression that names the row as a whole would read all columns, however wide.
 */
import { createHash } from 'node:crypto';
import { quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import type { Session } from '../postgres/session.ts';
import { type FunctionText, PRINTING, SEARCH_PATH } from './create-function.ts';
import type { DataColumn } from './log-layout.ts';
import type { Names, ObjectName } from './names.ts';

/** What of the rows an input wants: nothing, the row as it is, or also the row as it was. */
export type WantedRows = 'none' | 'after' | 'both';

/** A column whose value a transition table has. */
export interface Column {
  readonly number: number;
  readonly name: string;
  /** The oid of its type; of a domain, that of the type below. */
  readonly type: number;
  /** Whether its values print short, whatever they are. */
  readonly isShort: boolean;
  /** Whether `octet_length` knows the length of a value without reading it. */
  readonly isText: boolean;
  /** Whether composite values can be within its values, whose quotes double on each level. */
  readonly isNested: boolean;
  /** The settings that change how its values are printed; null for whatever settings there are. */
  readonly printing: readonly string[] | null;
}

/** Types, and the settings that change how values of them are printed. Any other type is printed under all settings. To pin a setting costs time in each call. */
const PRINTED_UNDER: readonly (readonly [types: readonly string[], settings: readonly string[]])[] = [
  [
    ['bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'uuid', 'json', 'jsonb', 'time'],
    [],
  ],
  [['date', 'timestamp'], ['DateStyle']],
  [['timestamptz'], ['DateStyle', 'TimeZone']],
  [['interval'], ['IntervalStyle']],
  [['bytea'], ['bytea_output']],
  [['float4', 'float8'], ['extra_float_digits']],
];

/** SQL: the settings of the type with this oid, as JSON. */
const settingsOf = (type: string): string =>
  `CASE ${PRINTED_UNDER.map(
    ([types, settings]) =>
      `WHEN ${type} = ANY ('{${types.join()}}'::regtype[]) THEN '${JSON.stringify(settings)}'::json`,
  ).join(' ')} END`;

/** The columns of a table, and how many it has had: the number of the last. */
export interface TableColumns {
  readonly columns: readonly Column[];
  readonly lastColumn: number;
}

/** SQL: the columns of the table with this oid as a JSON array. A virtual column has no value in a transition table. */
export const columnsOf = (relation: string): string => `(
  SELECT coalesce(json_agg(json_build_object(
    'number', a.attnum, 'name', a.attname, 'type', t.oid::bigint,
    'isShort', t.typlen > 0 OR t.oid = ANY (ARRAY['numeric', 'inet', 'cidr']::regtype[]),
    'isText', t.oid = ANY (ARRAY['text', 'varchar', 'bpchar', 'bytea']::regtype[]),
    'isNested', t.oid >= 16384 AND NOT (t.typtype IN ('b', 'e') AND (e.oid IS NULL OR e.typtype IN ('b', 'e'))),
    'printing', CASE WHEN t.typtype = 'e' THEN '[]'::json ELSE (${settingsOf('CASE WHEN t.typlen = -1 AND t.typelem <> 0 THEN e.oid ELSE t.oid END')}) END) ORDER BY a.attnum), '[]')
  FROM pg_attribute a
  CROSS JOIN LATERAL (
    WITH RECURSIVE below AS (
      SELECT t.oid, t.typtype, t.typbasetype, t.typlen, t.typelem FROM pg_type t WHERE t.oid = a.atttypid
      UNION ALL
      SELECT t.oid, t.typtype, t.typbasetype, t.typlen, t.typelem FROM below JOIN pg_type t ON t.oid = below.typbasetype
      WHERE below.typtype = 'd'
    )
    SELECT * FROM below WHERE typtype <> 'd'
  ) t
  LEFT JOIN pg_type e ON e.oid = t.typelem
  WHERE a.attrelid = ${relation} AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
)`;

/** A shape that rows of the log name. */
export interface Shape {
  readonly name: string;
  /** Names and types, as JSON. */
  readonly columns: string;
}

function shapeOf(columns: readonly Column[]): Shape {
  const json = JSON.stringify(columns.map(({ name, type }) => [name, type]));
  return { name: createHash('sha256').update(json).digest('hex').slice(0, 16), columns: json };
}

/** Which sides of a change the log gets. */
export interface Sides {
  readonly before: boolean;
  readonly after: boolean;
}

/** How rows are logged, as SQL over a row `r`. */
export interface RowSql {
  readonly sides: Sides;
  /** The row as text, or why there is none: the text of a composite value begins with a parenthesis. */
  readonly printed: string;
  /** Whether the row is text in any case, so that no reason can stand in its place. */
  readonly isText: boolean;
  /** Whether the types are those of the shape. A plan has the answer as a constant. */
  readonly fits: string | null;
  /** An expression of its own. */
  readonly shape: string;
  readonly maxRowBytes: number;
}

/** Reasons why a row is not logged, in place of the shape. */
const TOO_LARGE = 'too-large';
const UNREADABLE = 'unreadable';

/**
 * Values that take so many bytes together are small, and their row is printed at once. What grows most is a number: ten bytes can print
 * 150,000. So a compressed value is not small unless it is a text, which grows by compression and quotes alone: each text may take so many bytes.
 */
const SMALL = 8192;
/** How many texts may be that large: lz4 makes of a byte up to 255 bytes, and a quote doubles them. */
const MANY_TEXTS = 100;

/**
 * A row that takes so many bytes is too large, whatever it prints: few values print shorter than an eighth of what they take. To pass
 * a row of a gigabyte to a function would fail.
 */
const hugeFor = (maxRowBytes: number): number => Math.min(8 * maxRowBytes + SMALL, 500_000_000);

/** The parts of an expression, which are many for a wide table. */
const list = (items: readonly string[]): string => items.join(', ');
const columnOf = ({ name }: Pick<Column, 'name'>): string => `r.${quoteIdentifier(name)}`;
/** A NULL of the column's type, or of its base type. */
const typed = (column: string): string => `CASE WHEN false THEN ${column} END`;
const storedSize = (column: string): string => `coalesce(pg_column_size(${column}), 0)`;

/** Nested by halves, since the server's stack may be small. */
function sum(items: readonly string[]): string {
  if (items.length < 2) return `${items[0] ?? '0'}::int8`;
  const half = items.length / 2;
  return `(${sum(items.slice(0, half))} + ${sum(items.slice(half))})`;
}

/** SQL: whether no value is larger than this as it is stored; NULLs are not. To add the sizes up would take twice as many steps. */
const areWithin = (columns: readonly Column[], limit: number): string =>
  `coalesce(greatest(${list(columns.map((column) => `pg_column_size(${columnOf(column)})`))}) <= ${Math.floor(limit)}, true)`;

/** SQL: whether a row with these columns can be printed at once. */
function smallness(wide: readonly Column[]): string {
  const texts = wide.filter(({ isText }) => isText);
  const others = wide.filter(({ isText }) => !isText);
  const isPlain = `coalesce(${list(others.map((column) => `pg_column_compression(${columnOf(column)})`))}) IS NULL`;
  return [
    ...(texts.length > 0 ? [areWithin(texts, SMALL * Math.min(1, MANY_TEXTS / texts.length))] : []),
    ...(others.length > 0 ? [areWithin(others, SMALL / others.length), isPlain] : []),
  ].join(' AND ');
}

const namesOf = (columns: readonly Column[]): string =>
  `ARRAY[${list(columns.map(({ name }) => quoteLiteral(name)))}]::text[]`;

/** What of a table's rows is logged. */
export interface RowData {
  readonly shape: Shape;
  /** The settings that are to be pinned. */
  readonly printing: readonly string[];
  /** SQL: whether the columns have their names, and whether there are no others if all are wanted. */
  readonly guard: string;
  /** While the guard agrees. */
  readonly known: RowSql;
  /** The same for small rows, in fewer expressions: to prepare an expression takes as long as to print a row. */
  readonly small: RowSql & { readonly isSmall: string | null };
  /** SQL: a call of the function that returns the expressions of now, with columns that the snapshot does not show if this is true. */
  readonly present: (withUnseen: 'true' | 'false') => string;
}

export function rowDataOf(
  names: Names,
  relation: string,
  { columns: all, lastColumn }: TableColumns,
  {
    columns: wanted,
    maxRowBytes,
  }: { readonly columns: readonly string[] | null; readonly maxRowBytes: number },
  sides: Sides,
): RowData {
  const columns = wanted === null ? all : all.filter(({ name }) => wanted.includes(name));
  const shape = shapeOf(columns);
  const row = `ROW(${list(columns.map(columnOf))})`;
  const wide = columns.filter(({ isShort }) => !isShort);
  const size = sum(wide.map((column) => storedSize(columnOf(column))));
  const isSmall = smallness(wide);
  // The CASE turns a domain into its base type, and is gone when it is planned.
  const lengths = sum(
    columns
      .filter(({ isText }) => isText)
      .map((column) => `${names.lengthFunction.sql}(CASE WHEN true THEN ${columnOf(column)} END)`),
  );
  const isNested = columns.some((column) => column.isNested);
  const carefully = `CASE ${isNested ? '' : `WHEN ${isSmall} THEN concat(${row}) `}WHEN ${size} <= ${hugeFor(maxRowBytes)} AND ${lengths} <= ${maxRowBytes} THEN ${names.printFunction.sql}(${row}) ELSE '${TOO_LARGE}' END`;
  const known: RowSql = {
    sides,
    printed: wide.length === 0 ? `concat(${row})` : carefully,
    isText: wide.length === 0,
    fits: `${names.shapeFunction.sql}(${namesOf(columns)}, ROW(${list(columns.map((column) => typed(columnOf(column))))})) = ${quoteLiteral(shape.columns)}::jsonb`,
    shape: quoteLiteral(shape.name),
    maxRowBytes,
  };
  const numbers = `ARRAY[${list(columns.map(({ number }) => String(number)))}]::int4[]`;
  return {
    shape,
    printing: PRINTING.filter((setting) =>
      columns.some(
        ({ printing }) => printing === null || printing.some((name) => setting.startsWith(`${name}=`)),
      ),
    ),
    guard: `${names.columnsFunction.sql}(${relation}::oid, ${numbers}, ${namesOf(columns)}, ${wanted === null ? lastColumn + 1 : 'NULL'}::int4)`,
    known,
    small:
      wide.length === 0 || isNested
        ? { ...known, isSmall: null }
        : { ...known, printed: `concat(${row})`, isText: true, isSmall },
    present: (withUnseen) =>
      `${names.presentFunction.sql}(TG_RELID, ${wanted === null ? 'NULL::text[]' : namesOf(columns)}, ${withUnseen})`,
  };
}

/**
 * The same for whatever columns a table has, as a template for format(): `place` says where the values of the columns that the function
 * of the present columns returns are put in. `rows` is a transition table.
 */
export function presentRowSql(
  names: Names,
  { sides, maxRowBytes }: Pick<RowSql, 'sides' | 'maxRowBytes'>,
  rows: string,
  place: (value: 'columns' | 'typed' | 'size' | 'names') => string,
): RowSql {
  const forFormat = ({ sql }: ObjectName): string => sql.replaceAll('%', '%%');
  return {
    sides,
    printed: `CASE WHEN ${place('size')} <= ${hugeFor(maxRowBytes)} THEN ${forFormat(names.printFunction)}(ROW(${place('columns')})) ELSE '${TOO_LARGE}' END`,
    isText: false,
    fits: null,
    shape: `(SELECT ${forFormat(names.shapeFunction)}(${place('names')}, ROW(${place('typed')}))::text
        FROM (SELECT) o LEFT JOIN (SELECT ${place('columns')} FROM ${rows} r WHERE false) r ON true)`,
    maxRowBytes,
  };
}

const sidesOf = ({ sides }: Pick<RowSql, 'sides'>) =>
  (['before', 'after'] as const).filter((side) => sides[side]);

/** SQL: whether the sides of a change `c`, whose columns `before` and `after` hold rows as they were printed, are rows that the log takes. */
export const areTaken = (row: RowSql): string =>
  sidesOf(row)
    .map(
      (side) =>
        `octet_length(c.${side}) <= ${row.maxRowBytes}${row.isText ? '' : ` AND starts_with(c.${side}, '(')`}`,
    )
    .join(' AND ');

/** SQL: what the log gets of a change `c` of which that holds. */
export const takenData = (row: RowSql): DataColumn[] => [
  ...sidesOf(row).map((side) => ({ name: side, sql: `c.${side}` })),
  { name: 'shape', sql: row.shape },
];

/** SQL: what the log gets of any change `c`. */
export function loggedData(row: RowSql): DataColumn[] {
  const there = sidesOf(row);
  // A side that the change does not have is NULL, and fits.
  const isWhole = `(${areTaken(row)}) IS NOT FALSE`;
  const printed = list(there.map((side) => `c.${side}`));
  const unreadable = row.isText ? '' : ` WHEN '${UNREADABLE}' IN (${printed}) THEN '${UNREADABLE}'`;
  return [
    ...there.map((side) => ({ name: side, sql: `CASE WHEN ${isWhole} THEN c.${side} END` })),
    {
      name: 'shape',
      sql: `CASE WHEN coalesce(${printed}) IS NULL THEN NULL WHEN ${isWhole} THEN ${row.shape}${unreadable} ELSE '${TOO_LARGE}' END`,
    },
  ];
}

/** SQL: whether a change of the log is one whose data is left out. */
export const IS_OMITTED = `c.shape IN ('${TOO_LARGE}', '${UNREADABLE}')`;

/** The functions that triggers share where an input asks for rows. */
export const rowDataFunctions = (names: Names): FunctionText[] => [
  columnsFunction(names),
  shapeFunction(names),
  presentFunction(names),
  lengthFunction(names),
  printFunction(names),
];

/** Whether the server has no virtual columns. */
const HAS_NO_VIRTUAL = `current_setting('server_version_num')::integer < 180000`;

export const rowDataFunctionNames = ({
  columnsFunction,
  shapeFunction,
  presentFunction,
  lengthFunction,
  printFunction,
}: Names): string[] =>
  [columnsFunction, shapeFunction, presentFunction, lengthFunction, printFunction].map(({ name }) => name);

/** The name of a column as the session knows it now; NULL after the last column. */
const presentName = (number: string): string =>
  `(pg_identify_object_as_address('pg_class'::regclass, relation, ${number})).object_names[3]`;

/** Returns whether columns have these names, and whether there is no column of the number `next`. As to being immutable: the guard function has the reason. */
const columnsFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.columnsFunction.name,
  signature: `${names.columnsFunction.sql}(relation oid, numbers integer[], names text[], next integer)`,
  returns: 'boolean',
  language: 'sql',
  volatility: 'IMMUTABLE',
  settings: [SEARCH_PATH],
  body: `
SELECT NOT EXISTS (
  SELECT FROM unnest(numbers, names) c (number, name) WHERE ${presentName('c.number')} IS DISTINCT FROM c.name
) AND (next IS NULL OR ${presentName('next')} IS NULL)`,
});

/**
 * Returns a shape: the names, with the types of a row of NULLs. record_send tells the oid of each type in the four bytes before the length
 * of the value.
 */
const shapeFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.shapeFunction.name,
  signature: `${names.shapeFunction.sql}(names text[], nulls anyelement)`,
  returns: 'jsonb',
  language: 'sql',
  volatility: 'IMMUTABLE',
  settings: [SEARCH_PATH],
  body: `
SELECT coalesce(jsonb_agg(jsonb_build_array(c.name,
  ('x' || encode(substring(record_send(nulls) FROM c.n::integer * 8 - 3 FOR 4), 'hex'))::bit(32)::bigint) ORDER BY c.n), '[]')
FROM unnest(names) WITH ORDINALITY c (name, n)`,
});

/**
 * Returns the columns that a table has now, of those that are wanted, as parts of expressions over a row `r`. It reads the session's
 * catalog cache. A column that the transaction's snapshot does not show may be virtual, which nothing but an attempt tells: then the
 * columns are `doubtful`.
 */
const presentFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.presentFunction.name,
  signature: `${names.presentFunction.sql}(relation oid, wanted text[], with_unseen boolean)`,
  returns: 'TABLE (columns text, typed text, size text, names text, doubtful boolean)',
  language: 'sql',
  settings: [SEARCH_PATH],
  body: `
WITH RECURSIVE present (number, name) AS (
  SELECT 1, ${presentName('1')}
  UNION ALL
  SELECT number + 1, ${presentName('number + 1')} FROM present WHERE name IS NOT NULL
)
SELECT coalesce(string_agg(format('r.%I', c.name), ', ' ORDER BY c.number), ''),
  coalesce(string_agg(format('${typed('r.%I')}', c.name), ', ' ORDER BY c.number), ''),
  format('(SELECT coalesce(sum(size), 0) FROM unnest(ARRAY[%s]::integer[]) size)', string_agg(format('pg_column_size(r.%I)', c.name), ', ' ORDER BY c.number)),
  format('%L::text[]', coalesce(array_agg(c.name ORDER BY c.number), '{}')),
  coalesce(bool_or(a.attnum IS NULL AND NOT ${HAS_NO_VIRTUAL}), false)
FROM present c LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = c.number
WHERE has_column_privilege(relation, c.number::int2, 'SELECT') IS NOT NULL
  AND coalesce(a.attgenerated <> 'v', with_unseen OR ${HAS_NO_VIRTUAL})
  AND (wanted IS NULL OR c.name = ANY (wanted))`,
});

/** Returns the length of a text without reading it, and 0 for values of other types, whatever type a column has by now. */
const lengthFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.lengthFunction.name,
  signature: `${names.lengthFunction.sql}(value anyelement)`,
  returns: 'bigint',
  language: 'plpgsql',
  settings: [SEARCH_PATH],
  // Each expression is looked at when it is first run: of another type, it would not be understood.
  body: `
BEGIN
  IF pg_typeof(value) = ANY ('{text,varchar}'::regtype[]) THEN
    RETURN coalesce(octet_length(value::text), 0);
  ELSIF pg_typeof(value) = 'bpchar'::regtype THEN
    RETURN coalesce(octet_length(value::bpchar), 0);
  ELSIF pg_typeof(value) = 'bytea'::regtype THEN
    RETURN coalesce(octet_length(value::bytea), 0);
  END IF;
  RETURN 0;
END`,
});

/** Prints a row. An error is caught, for which the function writes nothing: so its subtransaction takes no transaction id. */
const printFunction = (names: Names): FunctionText => ({
  input: names.id,
  name: names.printFunction.name,
  signature: `${names.printFunction.sql}(whole record)`,
  returns: 'text',
  language: 'plpgsql',
  settings: [SEARCH_PATH, ...PRINTING],
  body: `
BEGIN
  RETURN concat(whole);
EXCEPTION WHEN OTHERS THEN
  RETURN '${UNREADABLE}';
END`,
});

/** An INSERT of a shape that may be there already. */
export const insertShape = ({ shapeTable }: Names, { name, columns }: Shape): string =>
  `INSERT INTO ${shapeTable.sql} (name, columns) VALUES (${quoteLiteral(name)}, ${quoteLiteral(columns)}) ON CONFLICT DO NOTHING`;

/** Those of the shapes that no change names, logged or parked; none where the role in use may not read them all. */
export async function unnamedShapes(
  session: Session,
  names: Names,
  shapes: readonly string[],
): Promise<string[]> {
  const [found] = await session.query<{ readable: boolean }>(
    `SELECT bool_and(has_table_privilege(name, 'SELECT')) AS readable FROM unnest($1::text[]) name`,
    [[names.logTable.sql, names.parkedTable.sql]],
  );
  if (!found!.readable) return [];
  const unnamed = await session.query<{ name: string }>(
    `SELECT name FROM unnest($1::text[]) name WHERE ${isUnnamed(names)}`,
    [shapes],
  );
  return unnamed.map(({ name }) => name);
}

const isUnnamed = ({ logTable, parkedTable }: Names): string =>
  [logTable, parkedTable]
    .map(({ sql }) => `NOT EXISTS (SELECT FROM ${sql} c WHERE c.shape = name)`)
    .join(' AND ');

/**
 * Removes those of the shapes that no change names. No function names them any more. A transaction that has logged such a row and
 * not committed, or is about to log one, has written to a table before: as long as any transaction writes, all shapes stay, until a
 * later installation. The locks are looked at before the DELETE takes its snapshot.
 */
export const removeShapes = (names: Names, shapes: readonly string[]): string => {
  const body = `
BEGIN
  IF NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid IS DISTINCT FROM pg_backend_pid()
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  ) THEN
    DELETE FROM ${names.shapeTable.sql} WHERE name IN (${list(shapes.map(quoteLiteral))}) AND ${isUnnamed(names)};
  END IF;
END`;
  return `DO ${quoteLiteral(body)}`;
};
