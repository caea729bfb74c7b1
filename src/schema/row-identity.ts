/**
 * What identifies a row of a table.
 *
 * A query over the catalog makes SQL expressions over a row `r`. The query has two users. The installer writes the expressions into
 * the trigger functions. A trigger function runs the query itself when its table has changed since then, and executes the
 * expressions as dynamic SQL. The expressions qualify their names with pg_catalog, whatever search_path their user has.
 */

/** What identifies a row, as SQL over a row `r`. */
export interface RowIdentity {
  /** The event's id, as text. */
  readonly id: string;
  /** The log's column `key`: NULL, the JSON string of the column that `id` holds, or a JSON object. */
  readonly key: string;
  /** The primary key as one text, by which an UPDATE's old and new rows are paired; null where rows can't be paired. */
  readonly match: string | null;
  /** The table's oid. */
  readonly relation: string;
  /** The arguments of the guard function, which returns true as long as the expressions above fit the table. */
  readonly guard: string;
  /** Whether settings such as DateStyle change how values are printed. The trigger function then pins these settings. */
  readonly formatted: boolean;
}

/** Whether all rows have one key: the name of the key's only column, which the id is printed from. */
export const hasOneKey = ({ key }: RowIdentity): boolean => /^E?'/.test(key);

// Values of these types are printed the same under all settings.
const PLAIN_TYPES = `ARRAY['int2', 'int4', 'int8', 'text', 'varchar', 'uuid']::regtype[]`;

// A value as psql prints it. A cast to text would not be safe: the table's owner can give the column a type with a cast of the
// owner's own, also later by ALTER TABLE, and the cast would run with the rights of our function's owner.
const printed = `format('pg_catalog.concat(r.%I)', a.attname)`;

/**
 * The longest id that is told, in bytes. A longer id becomes empty: no string of Node.js could hold some of them. An index limits the
 * values of a primary key, and nothing limits a column `id` that is not part of it.
 */
const MAX_ID_BYTES = 1_000_000;

// A compressed value is small and prints long. A value that is large as it is stored need not be printed to be known as long.
const printedIfShort = `format('CASE WHEN pg_catalog.pg_column_size(r.%1$I) OPERATOR(pg_catalog.<=) ${2 * MAX_ID_BYTES}'
    ' AND pg_catalog.octet_length(pg_catalog.concat(r.%1$I)) OPERATOR(pg_catalog.<=) ${MAX_ID_BYTES}'
    ' THEN pg_catalog.concat(r.%1$I) ELSE '''' END', a.attname)`;

/**
 * pg_attribute with the column names that the session knows now; the transaction's snapshot may show an older state. The name of a
 * column that was dropped is empty: has_column_privilege() returns NULL for such a column.
 */
const PRESENT_COLUMNS = `(
  SELECT attrelid, attnum, atttypid, attlen, attisdropped, attgenerated,
    CASE WHEN has_column_privilege(attrelid, attnum, 'SELECT') IS NULL THEN ''
      ELSE (pg_identify_object_as_address('pg_class'::regclass, attrelid, attnum)).object_names[3] END AS attname
  FROM pg_attribute
)`;

/** A query of one row: the row identity of the table with oid `relation`. `columns` is pg_attribute, or a query in its place. */
export const identityQuery = (relation: string, columns: string): string => `
SELECT
  CASE WHEN i.attname = ANY (k.names) OR i.attlen > 0 THEN i.printed
       WHEN i.attname IS NOT NULL THEN i.printed_if_short
       WHEN k.n = 0 THEN '''''::pg_catalog.text'
       ELSE k.as_one END AS id,
  CASE WHEN k.n = 0 THEN 'NULL::pg_catalog.text'
       WHEN k.n = 1 AND (i.attname IS NULL OR k.names[1] = 'id')
       THEN quote_literal(to_json(k.names[1])) || '::pg_catalog.text'
       ELSE format('pg_catalog.json_build_object(%s)::pg_catalog.text', k.pairs) END AS key,
  CASE WHEN k.n > 0 AND NOT k.has_children THEN k.as_one END AS match,
  ${relation}::text AS relation,
  format('%s::pg_catalog.oid, %s::pg_catalog.oid, %L::pg_catalog.text[], %s::pg_catalog.int4', ${relation},
    coalesce(k.index::text, 'NULL'), k.names, CASE WHEN i.attname IS NOT NULL AND i.attname <> ALL (k.names) THEN i.attnum::text ELSE 'NULL' END) AS guard,
  k.formatted OR coalesce(i.formatted, false) AS formatted
FROM (
  SELECT c.n, c.index, c.names, c.pairs, c.formatted,
    CASE WHEN c.n = 1 THEN c.printed[1]
         ELSE format('pg_catalog.array_to_json(ARRAY[%s])::pg_catalog.text', array_to_string(c.printed, ', '))
    END AS as_one,
    -- an inheritance parent's transition tables hold its children's rows too, which share no key with it
    (SELECT t.relkind = 'r' AND t.relhassubclass FROM pg_class t WHERE t.oid = ${relation}) AS has_children
  FROM (
    SELECT CASE WHEN bool_and(a.attname <> '') THEN count(*) ELSE 0 END AS n,
      coalesce(array_agg(a.attname ORDER BY c.position), '{}') AS names,
      array_agg(${printed} ORDER BY c.position) AS printed,
      string_agg(format('%L, %s', a.attname, ${printed}), ', ' ORDER BY c.position) AS pairs,
      max(x.indexrelid) AS index,
      coalesce(bool_or(a.atttypid <> ALL (${PLAIN_TYPES})), false) AS formatted
    FROM pg_index x
    CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY c (attnum, position)
    JOIN ${columns} a ON a.attrelid = x.indrelid AND a.attnum = c.attnum AND c.position <= x.indnkeyatts
    WHERE x.indrelid = ${relation} AND x.indisprimary
  ) c
) k
LEFT JOIN LATERAL (
  SELECT a.attname, a.attnum, a.attlen, ${printed} AS printed, ${printedIfShort} AS printed_if_short, a.atttypid <> ALL (${PLAIN_TYPES}) AS formatted
  FROM ${columns} a
  WHERE a.attrelid = ${relation} AND a.attname = 'id' AND a.attnum > 0 AND NOT a.attisdropped
    -- a virtual column has no value in a transition table
    AND a.attgenerated <> 'v'
) i ON true`;

/** The same query as of now, although the transaction's snapshot may show an older state of the table. */
export const presentIdentity = (relation: string): string =>
  `SELECT id, key, match FROM (${identityQuery(relation, PRESENT_COLUMNS)}) identity`;
