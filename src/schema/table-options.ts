/** What an input wants of each table, as its options `watch`, `rows` and `operations` say. */
import type { Settings } from '../config/settings.ts';
import type { Column } from './row-data.ts';
import { matches } from './table-filter.ts';

export type TableOptions = NonNullable<Settings['watch']>[string];

const isGlob = (pattern: string): boolean => /[*?]/.test(pattern);

/** What is wanted of a table, which is its root for a partition; null if the table is not watched. An exact name comes before the globs. */
export function optionsFor(
  { watch }: Pick<Settings, 'watch'>,
  schema: string,
  table: string,
): TableOptions | null {
  if (!watch) return {};
  const names = [`${schema}.${table}`, table];
  const key =
    names.find((name) => Object.hasOwn(watch, name)) ??
    Object.keys(watch).find((pattern) => isGlob(pattern) && names.some((name) => matches(pattern, name)));
  return key === undefined ? null : watch[key]!;
}

/** The exact names in `watch` that no table has. */
export const unknownNames = (
  { watch }: Pick<Settings, 'watch'>,
  tables: readonly { readonly rootSchema: string; readonly rootName: string }[],
): string[] => {
  const known = new Set(
    tables.flatMap(({ rootSchema, rootName }) => [rootName, `${rootSchema}.${rootName}`]),
  );
  return Object.keys(watch ?? {}).filter((name) => !isGlob(name) && !known.has(name));
};

/** Why what is wanted of a table's columns can't be had; null if it can. */
export function unknownColumns({ columns, changed }: TableOptions, there: readonly Column[]): string | null {
  const lists = {
    columns: Array.isArray(columns) ? columns : (columns?.exclude ?? []),
    changed: changed ?? [],
  };
  const unknown = Object.entries(lists).flatMap(([option, names]) =>
    names
      .filter((name) => !there.some((column) => column.name === name))
      .map((name) => `${option}: there is no column ${JSON.stringify(name)} that is stored`),
  );
  return unknown.length === 0
    ? null
    : `${unknown.join('; ')}: there are ${there.map(({ name }) => name).join(', ')}`;
}

/** The names of the columns that are logged; null for all. */
export function loggedColumns(
  { columns }: TableOptions,
  there: readonly Column[] | null,
): readonly string[] | null {
  if (columns === undefined || there === null) return null;
  if (Array.isArray(columns)) return columns;
  return there.map(({ name }) => name).filter((name) => !columns.exclude.includes(name));
}

/** Whether the rows that a table holds already are events, where somebody asks for them. */
export const wantsReads = (
  { operations }: Pick<Settings, 'operations'>,
  { operations: own }: TableOptions,
): boolean => own?.includes('read') ?? operations.has('read');

/** Whether rows of any table are logged. */
export const wantsRows = ({ rows, watch }: Pick<Settings, 'rows' | 'watch'>): boolean =>
  watch ? Object.values(watch).some((table) => (table.rows ?? rows) !== 'none') : rows !== 'none';

/** Whether what is logged of any table depends on its columns. */
export const wantsColumns = (settings: Pick<Settings, 'rows' | 'watch' | 'skipUnchanged'>): boolean =>
  wantsRows(settings) ||
  settings.skipUnchanged ||
  Object.values(settings.watch ?? {}).some(
    ({ columns, changed, when }) => (columns ?? changed ?? when) !== undefined,
  );
