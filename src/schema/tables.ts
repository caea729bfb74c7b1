/** Finds the tables that can be watched, and those that match the filter but can't be. */
import type { UnmatchedPattern, UnwatchableTable } from '../api/installation.ts';
import type { Settings } from '../config/settings.ts';
import type { Statement } from '../postgres/session.ts';
import { INTERNAL_TABLES, locationOf } from './names.ts';
import { type Column, columnsOf } from './row-data.ts';
import { type RowIdentity, identityQuery } from './row-identity.ts';
import { passes, unmatched } from './table-filter.ts';
import { type TableOptions, optionsFor, unknownColumns, unknownNames } from './table-options.ts';

export interface Table {
  /** What the option `watch` says of it. */
  readonly options: TableOptions;
  readonly schema: string;
  readonly name: string;
  /** The location in events: a partition has that of its root. */
  readonly location: string;
  readonly isPartition: boolean;
  /** Whether it has partitions itself. */
  readonly isPartitioned: boolean;
  readonly identity: RowIdentity;
  /** Its columns; null where nothing that is logged depends on them. */
  readonly columns: readonly Column[] | null;
  /** How many columns it has had: the number of the last. */
  readonly lastColumn: number;
  readonly owner: string;
  /** Whether the role in use has the owner's rights, without which it can't drop triggers. */
  readonly owned: boolean;
  /** Whether the role in use may create triggers. */
  readonly mayTrigger: boolean;
}

/** Every table in the watched schemas. A partition counts as being in the schema of its root. $1: the schemas. $2: whether columns are told. */
export const candidateTables: Statement = {
  name: 'candidate_tables',
  text: `
WITH RECURSIVE foreign_kin (oid) AS (
  SELECT oid FROM pg_class WHERE relkind = 'f'
  UNION
  SELECT i.inhparent FROM foreign_kin k JOIN pg_inherits i ON i.inhrelid = k.oid
)
SELECT n.nspname AS schema, candidate.relname AS name, candidate.relispartition AS "isPartition",
  candidate.relkind = 'p' AS "isPartitioned",
  rn.nspname AS "rootSchema", rc.relname AS "rootName",
  pg_get_userbyid(candidate.relowner) AS owner,
  pg_has_role(candidate.relowner, 'USAGE') AS owned,
  has_table_privilege(candidate.oid, 'TRIGGER') AS "mayTrigger",
  candidate.oid IN (SELECT oid FROM foreign_kin) AS "hasForeignPart",
  row_to_json(identity) AS identity,
  candidate.relnatts AS "lastColumn", CASE WHEN $2 THEN ${columnsOf('candidate.oid')} END AS columns
FROM pg_class candidate
JOIN pg_namespace n ON n.oid = candidate.relnamespace
JOIN pg_class rc
  ON rc.oid = CASE WHEN candidate.relispartition THEN pg_partition_root(candidate.oid)::oid ELSE candidate.oid END
JOIN pg_namespace rn ON rn.oid = rc.relnamespace
CROSS JOIN LATERAL (${identityQuery('candidate.oid', 'pg_attribute')}) identity
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
  readonly isPartitioned: boolean;
  readonly rootSchema: string;
  readonly rootName: string;
  readonly owner: string;
  readonly owned: boolean;
  readonly mayTrigger: boolean;
  readonly hasForeignPart: boolean;
  readonly identity: RowIdentity;
  readonly columns: readonly Column[] | null;
  readonly lastColumn: number;
}

/** The tables to watch, and those that can't be. `left`: what is installed on them stays as it is, so that nothing is lost. */
export function chooseTables(
  candidates: readonly CandidateTable[],
  settings: Pick<Settings, 'schemas' | 'tables' | 'watch'>,
): {
  tables: Table[];
  left: CandidateTable[];
  unwatchable: UnwatchableTable[];
  unmatched: UnmatchedPattern[];
} {
  const tables: Table[] = [];
  const left: CandidateTable[] = [];
  const unwatchable: UnwatchableTable[] = unknownNames(settings, candidates).map((table) => ({
    table,
    reason: `the option watch names it, and there is no such table in schema ${settings.schemas.join(', ')}`,
  }));
  for (const candidate of candidates) {
    const { rootSchema, rootName, ...table } = candidate;
    const options = optionsFor(settings, rootSchema, rootName);
    if (options === null || !passes(settings.tables, rootSchema, rootName)) continue;
    const location = locationOf(table.schema, table.name);
    if (table.hasForeignPart) {
      unwatchable.push({
        table: location,
        reason:
          'a foreign table is a part of it, and with our triggers PostgreSQL would refuse to write to that',
      });
      continue;
    }
    const reason = table.columns && unknownColumns(options, table.columns);
    if (reason) {
      left.push(candidate);
      unwatchable.push({ table: location, reason });
    } else tables.push({ ...table, options, location: locationOf(rootSchema, rootName) });
  }
  const named = candidates.map(({ rootSchema, rootName }) => ({ schema: rootSchema, table: rootName }));
  return { tables, left, unwatchable, unmatched: unmatched(settings.tables, named) };
}
