/** The rights that a role needs to run an input that a DBA has installed. It needs none on the application's tables. */
import type { Settings } from '../config/settings.ts';
import { quoteIdentifier } from '../postgres/quoting.ts';
import { type Names } from './names.ts';
import { wantsRows } from './table-options.ts';

export interface Grant {
  readonly privileges: readonly string[];
  readonly on: 'SCHEMA' | 'TABLE';
  readonly name: string;
  readonly sql: string;
}

export const runtimeGrants = (
  { schema, lockTable, logTable, logSequence, secretTable, shapeTable }: Names,
  settings: Pick<Settings, 'rows' | 'watch'>,
): Grant[] => [
  { privileges: ['USAGE'], on: 'SCHEMA', name: schema, sql: quoteIdentifier(schema) },
  { privileges: ['SELECT', 'UPDATE'], on: 'TABLE', ...lockTable },
  { privileges: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'], on: 'TABLE', ...logTable },
  { privileges: ['SELECT'], on: 'TABLE', ...logSequence },
  { privileges: ['SELECT'], on: 'TABLE', ...secretTable },
  ...(!wantsRows(settings) ? [] : [{ privileges: ['SELECT'], on: 'TABLE' as const, ...shapeTable }]),
];

/** What only a role needs under which events fail, are parked, redriven and discarded. */
export const failureGrants = ({ failedTable, parkedTable }: Names): Grant[] =>
  [failedTable, parkedTable].map((table) => ({
    privileges: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'],
    on: 'TABLE',
    ...table,
  }));

/** What a role needs beside these to read the rows that tables hold, and to let others read them. */
export const backfillGrants = ({ backfillTable }: Names, tables: readonly string[]): Grant[] => [
  { privileges: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'], on: 'TABLE', ...backfillTable },
  ...tables.map((sql) => ({ privileges: ['SELECT'], on: 'TABLE' as const, name: sql, sql })),
];

/** `read`: the tables, quoted, whose rows backfills are to read; null for no backfills. */
export const grantTo = (
  role: string,
  names: Names,
  settings: Pick<Settings, 'rows' | 'watch'>,
  read: readonly string[] | null = null,
): string[] =>
  [
    ...runtimeGrants(names, settings),
    ...failureGrants(names),
    ...(read === null ? [] : backfillGrants(names, read)),
  ].map(
    ({ privileges, on, sql }) => `GRANT ${privileges.join(', ')} ON ${on} ${sql} TO ${quoteIdentifier(role)}`,
  );
