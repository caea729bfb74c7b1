/** What is to be done to one table and to the functions of its triggers. */
import { createHash } from 'node:crypto';
import type { Settings } from '../config/settings.ts';
import { qualify } from '../postgres/quoting.ts';
import type { Catalog, ExistingTrigger } from './catalog.ts';
import { type FunctionText, createFunction, replaceFunction, sourceOf } from './create-function.ts';
import type { Existing } from './existing.ts';
import { requestInitial } from './initial-backfill.ts';
import type { Wanted } from './logging-statements.ts';
import { VERSION } from './migrations.ts';
import { type Names, type TriggerEvent, locationOf } from './names.ts';
import { insertShape } from './row-data.ts';
import { whenFunction } from './row-filter.ts';
import { type Step, dropFunction, dropTrigger, isOriginal } from './steps.ts';
import { loggedColumns, wantsReads } from './table-options.ts';
import type { Table } from './tables.ts';
import { createTrigger, firesBefore, recordFunction } from './trigger-function.ts';
/**
 * What a step may do to what is there already and differs. `everything`: replace and remove it. `joining`: replace it, and remove
 * nothing but the original's triggers. `additions`: leave it.
 */
export type Scope = 'everything' | 'joining' | 'additions';

/** What is to be done to a table. */
export interface TableStep extends Step {
  readonly table: string;
  /** What replaces functions that are there. */
  readonly replaced: readonly string[];
  /** The triggers that it creates under names that no trigger of ours on the table has. */
  readonly created: readonly string[];
  /** The shapes that its functions name. */
  readonly shapes: readonly string[];
  /** Why the role in use may not do it. */
  readonly barred?: string;
}

const TRIGGERS_FOR: Readonly<Record<string, readonly TriggerEvent[]>> = {
  create: ['insert'],
  update: ['update'],
  delete: ['delete', 'truncate'],
};

/** What an input wants of a table: its changes, and perhaps the rows that it holds already. */
export interface WantedOfTable extends Wanted {
  readonly isReadFirst?: boolean;
}

/** What an input wants to know of a table's changes. */
export function wantedOf(
  settings: Settings,
  { options, columns }: Pick<Table, 'options' | 'columns'>,
): WantedOfTable {
  const { id, operations, rows, maxRowBytes, initial, skipUnchanged, ignoreOrigins } = settings;
  const logged = loggedColumns(options, columns);
  const all = () => columns!.map(({ name }) => name);
  return {
    events: new Set(
      [...(options.operations ?? operations)].flatMap((operation) => TRIGGERS_FOR[operation] ?? []),
    ),
    rows: options.rows ?? rows,
    columns: logged,
    maxRowBytes,
    isReadFirst: initial === 'read' && wantsReads(settings, options),
    filter: {
      changed: options.changed ?? (skipUnchanged ? (logged ?? all()) : null),
      when: options.when ?? null,
    },
    ignoredOrigins: ignoreOrigins.map((origin) => (origin === 'self' ? id : origin)),
  };
}

/** What a function logs that is to serve two inputs' options. The filter is the first one's. */
const together = (one: WantedOfTable, other: Wanted | null): Wanted =>
  other === null
    ? one
    : {
        ...one,
        events: new Set([...one.events, ...other.events]),
        rows: ROWS[Math.max(ROWS.indexOf(one.rows), ROWS.indexOf(other.rows))]!,
        columns: one.columns && other.columns && [...new Set([...one.columns, ...other.columns])],
        maxRowBytes: Math.max(one.maxRowBytes, other.maxRowBytes),
      };
/** The more an input wants, the later. */
const ROWS: readonly Wanted['rows'][] = ['none', 'after', 'both'];

/**
 * `scope` says what may become of what is there already. `inForce`: what a node wants of the table that may be active, where that is not the
 * one that plans.
 */
export function tableStep(
  existing: Existing,
  names: Names,
  table: Table,
  wanted: WantedOfTable,
  scope: Scope,
  inForce: Wanted | null = null,
): TableStep {
  const logged = together(wanted, inForce);
  const here = existing.triggersOf.get(qualify(table.schema, table.name)) ?? [];
  const isOurs = (t: ExistingTrigger) => t.functionSchema === names.schema;
  const all = [...wanted.events].map((event) => {
    const { shape, ...wantedFunction } = recordFunction(names, table, event, logged);
    // Version 1 has all its triggers fire after the event. One that the role in use may not drop serves too.
    const isServedBy = (t: ExistingTrigger) =>
      isOurs(t) &&
      t.function === wantedFunction.name &&
      (t.isBefore === firesBefore(table, event) || !t.owned);
    return { event, wantedFunction, shape, isServedBy };
  });
  // The triggers of a table that was renamed call functions of its old name. Where they stay, a second trigger would log each change twice.
  const events =
    scope === 'everything'
      ? all
      : all.filter(
          ({ event, isServedBy }) =>
            here.some(isServedBy) || !here.some((t) => isOurs(t) && t.event === event),
        );
  // A node that joins leaves functions alone that it would make log less: the active node may want what they log.
  const isFiltered =
    wanted.filter.changed !== null || wanted.filter.when !== null || wanted.ignoredOrigins.length > 0;
  const isLeft = (name: string) =>
    (scope === 'additions' || (scope === 'joining' && isFiltered)) &&
    existing.functionOf.get(name)?.version === VERSION;
  const outdated = events
    .filter(({ wantedFunction: { name } }) => !isLeft(name))
    .map(({ wantedFunction, shape }) => ({
      isThere: existing.functionOf.has(wantedFunction.name),
      sql: [
        ...(shape && existing.shapeNames?.has(shape.name) === false ? [insertShape(names, shape)] : []),
        ...unlessCurrent(existing, names, wantedFunction),
      ],
    }));
  if (wanted.filter.when !== null) {
    const condition = whenFunction(names, table.schema, table.name, wanted.filter.when);
    if (!isLeft(condition.name))
      outdated.unshift({
        isThere: existing.functionOf.has(condition.name),
        sql: unlessCurrent(existing, names, condition),
      });
  }
  const absent = events.filter(({ isServedBy }) => !here.some(isServedBy));
  const dropped = here.filter(
    (trigger) =>
      !all.some(({ isServedBy }) => isServedBy(trigger)) &&
      (scope === 'everything' || isOriginal(trigger, names)),
  );
  const isNew = absent.length > 0 && !here.some(isOurs);
  const changesFunctions = outdated.some(({ sql }) => sql.length > 0);
  return {
    table: locationOf(table.schema, table.name),
    created: absent
      .map(({ event }) => names.trigger(table.name, event))
      .filter((name) => !here.some(({ trigger }) => trigger === name)),
    shapes: all.flatMap(({ shape }) => shape?.name ?? []),
    replaced: outdated.filter(({ isThere }) => isThere).flatMap(({ sql }) => sql),
    sql: [
      ...outdated.filter(({ isThere }) => !isThere).flatMap(({ sql }) => sql),
      // Dropping takes the strongest lock, so it comes first: to hold a lock and wait for a stronger one invites deadlocks.
      ...dropped.map(dropTrigger),
      ...absent.map(({ event }) => createTrigger(names, table, event)),
      ...(isNew && wanted.isReadFirst && !table.isPartition ? requestInitial(names, table) : []),
    ],
    ...(changesFunctions && strangersLog(existing)),
    ...barrier(table, dropped.length > 0),
  };
}

/** The same step, which replaces the functions too. */
export const withFunctions = ({ replaced, sql, ...step }: TableStep): TableStep => ({
  ...step,
  replaced: [],
  sql: [...replaced, ...sql],
});

const strangersLog = ({ logOwner, logOwned }: Catalog): { barred?: string } =>
  logOwner === null || logOwned
    ? {}
    : { barred: `the change log belongs to ${logOwner}: connect as that role, or as a member of it` };

/** For triggers on tables that are no longer watched. */
export function leftoverTriggerSteps(
  { triggersOf }: Existing,
  tables: readonly Pick<Table, 'schema' | 'name'>[],
): TableStep[] {
  const watched = new Set(tables.map(({ schema, name }) => qualify(schema, name)));
  return [...triggersOf].filter(([table]) => !watched.has(table)).map(([, triggers]) => dropStep(triggers));
}

/** One step for all of a table's triggers: one lock. */
export const dropStep = (triggers: readonly ExistingTrigger[]): TableStep => ({
  table: locationOf(triggers[0]!.schema, triggers[0]!.table),
  replaced: [],
  created: [],
  shapes: [],
  sql: triggers.map(dropTrigger),
  ...barrier(triggers[0]!, true),
});

/** Why the role in use may not do what is to be done to a table, if it may not. */
function barrier(
  { owner, owned, mayTrigger }: { owner: string; owned: boolean; mayTrigger?: boolean },
  drops: boolean,
): { barred?: string } {
  if (owned || (mayTrigger && !drops)) return {};
  return {
    barred: drops
      ? `it belongs to ${owner}, and a trigger on it has to be dropped: connect as a member of that role`
      : `it belongs to ${owner}: connect as a member of that role, or have it grant TRIGGER`,
  };
}

/**
 * A function runs as its owner. That must be the log's: another role might not be allowed to write to it, which would fail
 * the application's statements; or it might be allowed more than the log's owner is, who could make use of that by
 * a trigger of his own on the log.
 */
export function unlessCurrent(existing: Existing, names: Names, wanted: FunctionText): string[] {
  const found = existing.functionOf.get(wanted.name);
  const returnsSame = found?.returns === wanted.returns.replace('TABLE (', 'TABLE(');
  const same =
    returnsSame &&
    found.isDefiner &&
    !found.isStrict &&
    found.volatility === (wanted.volatility ?? 'VOLATILE')[0]!.toLowerCase() &&
    found.digest === createHash('sha256').update(sourceOf(wanted)).digest('hex') &&
    JSON.stringify(found.settings) === JSON.stringify(wanted.settings) &&
    (existing.logOwner === null || found.owner === existing.logOwner);
  if (same) return [];
  // PostgreSQL does not replace a function by one that returns something else.
  if (found && !returnsSame)
    return [dropFunction(names, found), ...createFunction(wanted, existing.logOwner)];
  const isOurs = found !== undefined && found.owner === existing.logOwner;
  return isOurs ? [replaceFunction(wanted)] : createFunction(wanted, existing.logOwner);
}
