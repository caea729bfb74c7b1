/**
 * What can be lost of internal tables that are there, and the statements that put it back. A dump of the schema alone leaves the rows
 * behind; a person may have dropped the rest. The changes in the log stay.
 */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Catalog } from './catalog.ts';
import { giveTo, leaseRow, secretRow } from './internal-tables.ts';
import { STRIDE, nextRow } from './log-layout.ts';
import type { Names, ObjectName } from './names.ts';

export interface Repair {
  /** As a sentence: `... has no primary key`. */
  readonly lost: string;
  readonly sql: readonly string[];
}

/** Of the tables that exist. */
export function repairs(existing: Catalog, names: Names): Repair[] {
  const {
    lockTable,
    logTable,
    logSequence,
    secretTable,
    failedTable,
    parkedTable,
    backfillTable,
    shapeTable,
  } = names;
  const emptied = ({ name }: ObjectName, sql: string): Repair[] =>
    existing.emptied.includes(name) ? [{ lost: `${name} has lost its row`, sql: [sql] }] : [];
  const keyless = ({ name, sql }: ObjectName, columns: string, before: readonly string[] = []): Repair[] =>
    existing.keyless.includes(name)
      ? [
          {
            lost: `${name} has no primary key`,
            sql: [...before, `ALTER TABLE ${sql} ADD PRIMARY KEY (${columns})`],
          },
        ]
      : [];
  const withoutDefault = ({ name, sql }: ObjectName, column: string, value: string): Repair[] =>
    existing.withoutDefault.some((c) => c.table === name && c.column === column)
      ? [
          {
            lost: `column ${column} of ${name} has no default`,
            sql: [`ALTER TABLE ${sql} ALTER COLUMN ${column} SET DEFAULT ${value}`],
          },
        ]
      : [];
  const sequence: Repair = {
    lost: `sequence ${logSequence.name} is missing`,
    sql: [
      `CREATE SEQUENCE IF NOT EXISTS ${logSequence.sql}`,
      `REVOKE ALL ON SEQUENCE ${logSequence.sql} FROM PUBLIC`,
      ...giveTo(logSequence, existing.logOwner),
      `SELECT setval(${quoteLiteral(logSequence.sql)}, max(seq) / ${STRIDE} + 1) FROM ${logTable.sql} HAVING count(*) > 0`,
    ],
  };
  return [
    ...keyless(lockTable, 'resource'),
    ...keyless(shapeTable, 'name'),
    ...keyless(failedTable, 'sequence'),
    ...keyless(parkedTable, 'sequence'),
    ...keyless(backfillTable, 'backfill, relation, sequence', [onceAcknowledged(backfillTable)]),
    ...withoutDefault(lockTable, 'token', '0'),
    ...withoutDefault(lockTable, 'installation', 'pg_catalog.gen_random_uuid()'),
    ...emptied(lockTable, leaseRow(names)),
    ...emptied(secretTable, secretRow(names)),
    ...(existing.tables.includes(logTable.name) && !existing.hasSequence ? [sequence] : []),
    ...keyless(logTable, 'seq'),
    ...withoutDefault(logTable, 'seq', nextRow(logSequence)),
    ...withoutDefault(logTable, 'xid', 'pg_current_xact_id()'),
  ];
}

/** Without the key, an event that was acknowledged twice has two rows, which would bar the key. Statements on the other tables fail without their keys. */
const onceAcknowledged = ({ sql }: ObjectName): string => `DELETE FROM ${sql} a USING ${sql} b
WHERE a.ctid < b.ctid AND (a.backfill, a.relation, a.sequence) = (b.backfill, b.relation, b.sequence)`;
