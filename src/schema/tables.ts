/**
 * Which tables are watched, and what identifies a row of each.
 *
 * What identifies a row is told as SQL expressions over a row `r`, made by a query over the catalog. That
 * query is used twice: by the installer, which writes the expressions into the trigger functions, and by the
 * trigger functions themselves, when the table is no longer the one that they were written for.
 */
import type { UnwatchableTable } from '../api/installation.ts';
import type { Statement } from '../postgres/session.ts';
import { INTERNAL_TABLES, locationOf } from './names.ts';

/** What identifies a row, as SQL over a row `r`. */
export interface RowIdentity {
  /** The event's id, as text. */
  readonly id: string;
  /** The log's column `key`: NULL, the JSON string of the column that `id` holds, or a JSON object. */
  readonly key: string;
  /** The primary key as one text, to pair the old and the new row of an UPDATE; null where that can't be done. */
  readonly match: string | null;
  /** The table's oid. */
  readonly relation: string;
  /** What the guard function has to be asked: true as long as the expressions above fit the table. */
  readonly guard: string;
  /** Whether values are printed by settings such as DateStyle, which then have to be pinned. */
  readonly formatted: boolean;
}

export interface Table {
  readonly schema: string;
  readonly name: string;
  /** The event's location: for a partition its root. */
  readonly location: string;
  readonly isPartition: boolean;
  readonly identity: RowIdentity;
  readonly owner: string;
  /** Whether the role in use may do all that the owner may: only that allows triggers to be dropped. */
  readonly owned: boolean;
  /** Whether it may make triggers. */
  readonly mayTrigger: boolean;
}

export interface TableFilter {
  readonly include: readonly string[];
  readonly exclude: readonly string[];
}

// Types that are printed the same under all settings.
const PLAIN_TYPES = `ARRAY['int2', 'int4', 'int8', 'text', 'varchar', 'uuid']::pg_catalog.regtype[]`;

// A value as psql would print it. Not a cast: the column's type may be one, now or after an ALTER TABLE, for which the
// table's owner has made a cast of his own, which would then run with our owner's rights.
const printed = `pg_catalog.format('pg_catalog.concat(r.%I)', a.attname)`;

/**
 * Columns by the names that the session knows, empty for those that are gone: newer than what a transaction's snapshot shows
 * of pg_attribute. Of a column that is gone, has_column_privilege() does not even tell that there is no privilege.
 */
const PRESENT_COLUMNS = `(
  SELECT attrelid, attnum, atttypid, attisdropped, attgenerated,
    CASE WHEN pg_catalog.has_column_privilege(attrelid, attnum, 'SELECT') IS NULL THEN ''
      ELSE (pg_catalog.pg_identify_object_as_address('pg_catalog.pg_class'::pg_catalog.regclass, attrelid, attnum)).object_names[3] END AS attname
  FROM pg_catalog.pg_attribute
)`;

/** The row identity of the table whose oid `relation` is, one row. `columns`: pg_attribute, or what stands in for it. */
const identityQuery = (relation: string, columns: string): string => `
SELECT
  CASE WHEN i.attname IS NOT NULL THEN i.printed
       WHEN k.n = 0 THEN '''''::pg_catalog.text'
       ELSE k.as_one END AS id,
  CASE WHEN k.n = 0 THEN 'NULL::pg_catalog.text'
       WHEN k.n = 1 AND (i.attname IS NULL OR k.names[1] = 'id')
       THEN pg_catalog.quote_literal(pg_catalog.to_json(k.names[1])) || '::pg_catalog.text'
       ELSE pg_catalog.format('pg_catalog.json_build_object(%s)::pg_catalog.text', k.pairs) END AS key,
  CASE WHEN k.n > 0 AND NOT k.has_children THEN k.as_one END AS match,
  ${relation}::text AS relation,
  pg_catalog.format('%s::pg_catalog.oid, %s::pg_catalog.oid, %L::pg_catalog.text[], %s::pg_catalog.int4', ${relation},
    coalesce(k.index::text, 'NULL'), k.names, CASE WHEN i.attname IS NOT NULL AND i.attname <> ALL (k.names) THEN i.attnum::text ELSE 'NULL' END) AS guard,
  k.formatted OR coalesce(i.formatted, false) AS formatted
FROM (
  SELECT c.n, c.index, c.names, c.pairs, c.formatted,
    CASE WHEN c.n = 1 THEN c.printed[1]
         ELSE pg_catalog.format('pg_catalog.array_to_json(ARRAY[%s])::pg_catalog.text', pg_catalog.array_to_string(c.printed, ', '))
    END AS as_one,
    -- an inheritance parent's transition tables hold its children's rows too, which share no key with it
    (SELECT t.relkind = 'r' AND t.relhassubclass FROM pg_catalog.pg_class t WHERE t.oid = ${relation}) AS has_children
  FROM (
    SELECT CASE WHEN pg_catalog.bool_and(a.attname <> '') THEN pg_catalog.count(*) ELSE 0 END AS n,
      coalesce(pg_catalog.array_agg(a.attname ORDER BY c.position), '{}') AS names,
      pg_catalog.array_agg(${printed} ORDER BY c.position) AS printed,
      pg_catalog.string_agg(pg_catalog.format('%L, %s', a.attname, ${printed}), ', ' ORDER BY c.position) AS pairs,
      pg_catalog.max(x.indexrelid) AS index,
      coalesce(pg_catalog.bool_or(a.atttypid <> ALL (${PLAIN_TYPES})), false) AS formatted
    FROM pg_catalog.pg_index x
    CROSS JOIN LATERAL pg_catalog.unnest(x.indkey::pg_catalog.int2[]) WITH ORDINALITY c (attnum, position)
    JOIN ${columns} a ON a.attrelid = x.indrelid AND a.attnum = c.attnum AND c.position <= x.indnkeyatts
    WHERE x.indrelid = ${relation} AND x.indisprimary
  ) c
) k
LEFT JOIN LATERAL (
  SELECT a.attname, a.attnum, ${printed} AS printed, a.atttypid <> ALL (${PLAIN_TYPES}) AS formatted
  FROM ${columns} a
  WHERE a.attrelid = ${relation} AND a.attname = 'id' AND a.attnum > 0 AND NOT a.attisdropped
    -- a virtual column has no value in a transition table
    AND a.attgenerated <> 'v'
) i ON true`;

/** What identifies a row of the table whose oid `relation` is now, whatever the transaction's snapshot shows. */
export const presentIdentity = (relation: string): string =>
  `SELECT id, key, match FROM (${identityQuery(relation, PRESENT_COLUMNS)}) identity`;

/** Every table that could be watched. $1: the schemas, which for a partition is a matter of its root's. */
export const candidateTables: Statement = {
  name: 'candidate_tables',
  text: `
WITH RECURSIVE foreign_kin (oid) AS (
  SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'f'
  UNION
  SELECT i.inhparent FROM foreign_kin k JOIN pg_catalog.pg_inherits i ON i.inhrelid = k.oid
)
SELECT n.nspname AS schema, candidate.relname AS name, candidate.relispartition AS "isPartition",
  rn.nspname AS "rootSchema", rc.relname AS "rootName",
  pg_catalog.pg_get_userbyid(candidate.relowner) AS owner,
  pg_catalog.pg_has_role(candidate.relowner, 'USAGE') AS owned,
  pg_catalog.has_table_privilege(candidate.oid, 'TRIGGER') AS "mayTrigger",
  candidate.oid IN (SELECT oid FROM foreign_kin) AS "hasForeignPart",
  pg_catalog.row_to_json(identity) AS identity
FROM pg_catalog.pg_class candidate
JOIN pg_catalog.pg_namespace n ON n.oid = candidate.relnamespace
JOIN pg_catalog.pg_class rc
  ON rc.oid = CASE WHEN candidate.relispartition THEN pg_catalog.pg_partition_root(candidate.oid)::pg_catalog.oid ELSE candidate.oid END
JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
CROSS JOIN LATERAL (${identityQuery('candidate.oid', 'pg_catalog.pg_attribute')}) identity
WHERE candidate.relkind IN ('r', 'p') AND candidate.relpersistence <> 't'
  AND rn.nspname = ANY ($1)
  AND candidate.relname !~ '${INTERNAL_TABLES}'
ORDER BY n.nspname, candidate.relname`,
};

/** A row of `candidateTables`. */
export interface CandidateTable {
  readonly schema: string;
  readonly name: string;
  readonly isPartition: boolean;
  readonly rootSchema: string;
  readonly rootName: string;
  readonly owner: string;
  readonly owned: boolean;
  readonly mayTrigger: boolean;
  readonly hasForeignPart: boolean;
  readonly identity: RowIdentity;
}

/** The tables to watch, and those that can't be. */
export function chooseTables(
  candidates: readonly CandidateTable[],
  filter: TableFilter,
): { tables: Table[]; unwatchable: UnwatchableTable[] } {
  const chosen = candidates.filter(({ rootSchema, rootName }) => passes(filter, rootSchema, rootName));
  return {
    tables: chosen
      .filter(({ hasForeignPart }) => !hasForeignPart)
      .map(({ rootSchema, rootName, ...table }) => ({
        ...table,
        location: locationOf(rootSchema, rootName),
      })),
    unwatchable: chosen
      .filter(({ hasForeignPart }) => hasForeignPart)
      .map(({ schema, name }) => ({
        table: locationOf(schema, name),
        reason:
          'a foreign table is a part of it, and with our triggers PostgreSQL would refuse to write to that',
      })),
  };
}

/** A partition passes by its root's name. */
function passes({ include, exclude }: TableFilter, schema: string, table: string): boolean {
  const named = (patterns: readonly string[]) =>
    patterns.some((pattern) => matches(pattern, table) || matches(pattern, `${schema}.${table}`));
  return (include.length === 0 || named(include)) && !named(exclude);
}

/** `*` stands for any characters, `?` for one. Not by a regular expression: with many stars it could take for ever. */
function matches(pattern: string, name: string): boolean {
  const [signs, characters] = [Array.from(pattern), Array.from(name)];
  let [at, next] = [0, 0];
  let star: { readonly at: number; next: number } | null = null;
  while (next < characters.length) {
    if (signs[at] === '*') {
      star = { at: at++, next };
    } else if (signs[at] === '?' || signs[at] === characters[next]) {
      at++;
      next++;
    } else if (star) {
      // It has to stand for one more.
      next = ++star.next;
      at = star.at + 1;
    } else {
      return false;
    }
  }
  return signs.slice(at).every((sign) => sign === '*');
}
