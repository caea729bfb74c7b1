/**
 * The options under which a node installed last, kept in the lock table beside the version: what an input watches is known to everybody
 * who can read that row, and a node sees when another node wants something else.
 */
import { isDeepStrictEqual } from 'node:util';
import type { OptionDifference } from '../api/installation.ts';
import type { Operation } from '../api/orchestrator.ts';
import type { Settings } from '../config/settings.ts';
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Names } from './names.ts';

export interface StoredOptions {
  readonly name: string;
  readonly schemas: readonly string[];
  readonly include: readonly string[];
  readonly exclude: readonly string[];
  readonly operations: readonly string[];
  readonly notifications: Settings['notifications'];
  readonly rows: Settings['rows'];
  readonly maxRowBytes: number;
  readonly initial: Settings['initial'];
  /** Pairs, in their order: the first glob that matches a table counts. */
  readonly watch: readonly [string, NonNullable<Settings['watch']>[string]][] | null;
  readonly skipUnchanged: boolean;
  readonly ignoreOrigins: readonly string[];
}

/** What the lock table keeps. */
export interface KeptOptions {
  /** Those of the node that installed last; null where nothing is kept. */
  readonly installed: StoredOptions | null;
  /** Those of the node whose term began last, if another node has joined since; else null. */
  readonly inForce: StoredOptions | null;
}

/** The values that are not kept. They are the defaults of options that earlier versions do not know. */
const NOT_KEPT: Partial<StoredOptions> = {
  notifications: 'changes',
  rows: 'none',
  maxRowBytes: 1_000_000,
  initial: 'none',
  watch: null,
  skipUnchanged: false,
  ignoreOrigins: [],
};

/** Options as they come out of the database. */
export const fromDatabase = (kept: StoredOptions | null): StoredOptions | null =>
  kept && { ...NOT_KEPT, ...kept };

/** Lists are sorted: their order means nothing. */
export const optionsOf = ({
  name,
  schemas,
  tables,
  operations,
  notifications,
  rows,
  maxRowBytes,
  initial,
  watch,
  skipUnchanged,
  ignoreOrigins,
}: Settings): StoredOptions => ({
  name,
  schemas: schemas.toSorted(),
  include: tables.include.toSorted(),
  exclude: tables.exclude.toSorted(),
  operations: [...operations].toSorted(),
  notifications,
  rows,
  maxRowBytes,
  initial,
  // As it comes out of the database. The order of globs means something, and jsonb does not keep it: so watch is a list.
  watch: watch ? (JSON.parse(JSON.stringify(Object.entries(watch))) as StoredOptions['watch']) : null,
  skipUnchanged,
  ignoreOrigins: ignoreOrigins.toSorted(),
});

/** The settings with the options that the database keeps, except those that are `given`. The name is always the kept one. */
export const withStoredOptions = (
  settings: Settings,
  {
    name,
    schemas,
    include,
    exclude,
    operations,
    notifications,
    rows,
    maxRowBytes,
    initial,
    watch,
    skipUnchanged,
    ignoreOrigins,
  }: StoredOptions,
  given: ReadonlySet<keyof StoredOptions>,
): Settings => ({
  ...settings,
  name,
  schemas: given.has('schemas') ? settings.schemas : [...schemas],
  tables: {
    include: given.has('include') ? settings.tables.include : [...include],
    exclude: given.has('exclude') ? settings.tables.exclude : [...exclude],
  },
  operations: given.has('operations') ? settings.operations : new Set(operations as readonly Operation[]),
  notifications: given.has('notifications') ? settings.notifications : notifications,
  rows: given.has('rows') ? settings.rows : rows,
  maxRowBytes: given.has('maxRowBytes') ? settings.maxRowBytes : maxRowBytes,
  initial: given.has('initial') ? settings.initial : initial,
  watch: given.has('include') || watch === null ? undefined : Object.fromEntries(watch),
  skipUnchanged,
  ignoreOrigins: [...ignoreOrigins],
});

/** Options as they are kept in the database. */
export const keptOptions = (options: StoredOptions): Partial<StoredOptions> =>
  Object.fromEntries(
    Object.entries(options).filter(
      ([option, value]) => !isDeepStrictEqual(NOT_KEPT[option as keyof StoredOptions], value),
    ),
  );

/**
 * A node that joins keeps its options beside those in force, which are those of the node whose term began last: that one may be active, and what
 * it wants is logged until a term begins under other options.
 */
export function storeOptions({ lockTable }: Names, options: StoredOptions, isJoining: boolean): string {
  const own = `${quoteLiteral(JSON.stringify(keptOptions(options)))}::jsonb`;
  const inForce = `CASE WHEN options IS NULL THEN '{}' ELSE jsonb_build_object('inForce', coalesce(options -> 'inForce', options)) END`;
  return `UPDATE ${lockTable.sql} SET options = ${own}${isJoining ? ` || ${inForce}` : ''}`;
}

/** In which options the installed ones are not the wanted ones. None where nothing has been kept. */
export function differences(installed: StoredOptions | null, wanted: StoredOptions): OptionDifference[] {
  if (!installed) return [];
  return (Object.keys(wanted) as (keyof StoredOptions)[])
    .filter((option) => !isDeepStrictEqual(installed[option], wanted[option]))
    .map((option) => ({ option, installed: installed[option], wanted: wanted[option] }));
}
