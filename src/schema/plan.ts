/**
 * What has to be done to bring the database to the wanted state, or back: the catalog is compared with what is wanted,
 * and the difference becomes steps, one for the internal objects, one for each table, one for what is left over. Where
 * nothing differs there are none.
 *
 * A table's step puts our triggers in place and removes those of the original under the same id, in one transaction:
 * no change is missed and none is seen twice.
 */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import type { UnwatchableTable } from '../api/installation.ts';
import type { Settings } from '../config/settings.ts';
import { qualify, quoteIdentifier } from '../postgres/quoting.ts';
import type { Session } from '../postgres/session.ts';
import {
  COMPARISON_TIMEOUT,
  type Catalog,
  type ExistingFunction,
  type ExistingTrigger,
  readCatalog,
} from './catalog.ts';
import { type FunctionText, createFunction } from './create-function.ts';
import { createSchema, createTables, dropSchema, refuseForeignSchema } from './internal-tables.ts';
import { type Names, type TriggerEvent, locationOf } from './names.ts';
import { sharedFunctions } from './shared-functions.ts';
import { type CandidateTable, type Table, candidateTables, chooseTables } from './tables.ts';
import { createTrigger, recordFunction } from './trigger-function.ts';

/** Statements that belong into one transaction. */
export interface Step {
  /** The table of the application that it touches. */
  readonly table?: string;
  /** Whether nothing works without it. */
  readonly essential?: true;
  readonly sql: readonly string[];
}

/** What is to be done to a table. */
interface TriggerStep extends Step {
  readonly table: string;
  /** Why the role in use may not do it. */
  readonly barred?: string;
}

export interface Plan {
  readonly steps: readonly Step[];
  /** What is to be done to tables that the role in use may not touch: for a DBA to run. */
  readonly barredSteps: readonly Step[];
  /** Locations of the tables that are to be watched. */
  readonly watched: readonly string[];
  readonly unwatchable: readonly UnwatchableTable[];
}

const TRIGGERS_FOR: Readonly<Record<string, readonly TriggerEvent[]>> = {
  create: ['insert'],
  update: ['update'],
  delete: ['delete', 'truncate'],
};

const wantedEvents = ({ operations }: Settings): Set<TriggerEvent> =>
  new Set([...operations].flatMap((operation) => TRIGGERS_FOR[operation] ?? []));

/** The catalog for looking things up in: there may be thousands of tables. */
interface Existing extends Catalog {
  readonly triggersOf: ReadonlyMap<string, readonly ExistingTrigger[]>;
  readonly functionOf: ReadonlyMap<string, ExistingFunction>;
}

const indexed = (catalog: Catalog): Existing => ({
  ...catalog,
  triggersOf: byTable(catalog.triggers),
  functionOf: new Map(catalog.functions.map((f) => [f.name, f])),
});

function byTable(triggers: readonly ExistingTrigger[]): Map<string, ExistingTrigger[]> {
  const found = new Map<string, ExistingTrigger[]>();
  for (const trigger of triggers) {
    const table = qualify(trigger.schema, trigger.table);
    found.set(table, [...(found.get(table) ?? []), trigger]);
  }
  return found;
}

/** Looking at so many takes some ten milliseconds. */
const TABLES_AT_ONCE = 50;

/** Compares the catalog with what is wanted. Reads only. */
export async function plan(session: Session, settings: Settings, names: Names): Promise<Plan> {
  const existing = indexed(await readCatalog(session, names));
  const candidates = await session.query<CandidateTable>(
    candidateTables,
    [settings.schemas],
    COMPARISON_TIMEOUT,
  );
  const { tables, unwatchable } = chooseTables(candidates, settings.tables);
  const wanted = wantedEvents(settings);
  const tableSteps: TriggerStep[] = [];
  for (const table of tables) {
    tableSteps.push(tableStep(existing, names, table, wanted));
    // There may be thousands, and the node has events to hand out meanwhile.
    if (tableSteps.length % TABLES_AT_ONCE === 0) await setImmediate();
  }
  const triggerSteps = [...tableSteps, ...leftoverTriggerSteps(existing, tables)].filter(
    ({ sql }) => sql.length > 0,
  );
  // A table that a DBA has prepared is watched, whatever the role in use may do to it.
  const barred = triggerSteps.filter(({ barred }) => barred !== undefined);
  const unwatched = new Set(barred.map(({ table }) => table));
  return {
    steps: [
      internalStep(existing, names),
      ...triggerSteps.filter(({ barred }) => barred === undefined),
      ...leftoverFunctionSteps(existing, names, tables, wanted),
    ].filter(({ sql }) => sql.length > 0),
    barredSteps: barred,
    watched: [
      ...new Set(
        tables
          .filter(({ schema, name }) => !unwatched.has(locationOf(schema, name)))
          .map(({ location }) => location),
      ),
    ],
    unwatchable: [...unwatchable, ...barred.map(({ table, barred }) => ({ table, reason: barred! }))],
  };
}

function internalStep(existing: Existing, names: Names): Step {
  const tables = createTables(names);
  const missing = ({ name }: { name: string }) => !existing.tables.includes(name);
  const sql = [
    ...(existing.schemaExists ? [] : createSchema(names)),
    ...(missing(names.lockTable) ? tables.lock : []),
    ...(missing(names.logTable) ? tables.log : []),
    ...(missing(names.secretTable) ? tables.secret : []),
    ...sharedFunctions(names).flatMap((shared) => unlessCurrent(existing, shared)),
  ];
  return {
    essential: true,
    sql: existing.schemaExists && sql.length > 0 ? [refuseForeignSchema(names), ...sql] : sql,
  };
}

function tableStep(
  existing: Existing,
  names: Names,
  table: Table,
  wanted: ReadonlySet<TriggerEvent>,
): TriggerStep {
  const here = existing.triggersOf.get(qualify(table.schema, table.name)) ?? [];
  const events = [...wanted].map((event) => {
    const wantedFunction = recordFunction(names, table, event, wanted);
    const isServedBy = (t: ExistingTrigger) =>
      t.functionSchema === names.schema && t.function === wantedFunction.name;
    return { event, wantedFunction, isServedBy };
  });
  const functions = events.flatMap(({ wantedFunction }) => unlessCurrent(existing, wantedFunction));
  const absent = events.filter(({ isServedBy }) => !here.some(isServedBy));
  const unwanted = here.filter((trigger) => !events.some(({ isServedBy }) => isServedBy(trigger)));
  const sql = [
    ...functions,
    // Dropping takes the strongest lock, so it comes first: to hold a lock and wait for a stronger one invites deadlocks.
    ...unwanted.map(dropTrigger),
    ...absent.map(({ event }) => createTrigger(names, table, event)),
  ];
  return {
    table: locationOf(table.schema, table.name),
    sql,
    ...(functions.length > 0 && strangersLog(existing)),
    ...barrier(table, unwanted.length > 0),
  };
}

const strangersLog = ({ logOwner, logOwned }: Catalog): { barred?: string } =>
  logOwner === null || logOwned
    ? {}
    : { barred: `the change log belongs to ${logOwner}: connect as that role, or as a member of it` };

/** For triggers on tables that are no longer watched. */
function leftoverTriggerSteps({ triggersOf }: Existing, tables: readonly Table[]): TriggerStep[] {
  const watched = new Set(tables.map(({ schema, name }) => qualify(schema, name)));
  return [...triggersOf].filter(([table]) => !watched.has(table)).map(([, triggers]) => dropStep(triggers));
}

/** One step for all of a table's triggers: one lock. */
const dropStep = (triggers: readonly ExistingTrigger[]): TriggerStep => ({
  table: locationOf(triggers[0]!.schema, triggers[0]!.table),
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

/** Functions that no trigger needs. */
function leftoverFunctionSteps(
  existing: Catalog,
  names: Names,
  tables: readonly Table[],
  wanted: ReadonlySet<TriggerEvent>,
): Step[] {
  const kept = new Set([
    ...sharedFunctions(names).map(({ name }) => name),
    ...tables.flatMap((table) =>
      [...wanted].map((event) => names.recordFunction(table.schema, table.name, event).name),
    ),
    ...existing.triggers.filter(({ owned }) => !owned).map((trigger) => trigger.function),
  ]);
  const original = existing.originalFunction && !kept.has(names.originalFunction);
  return [
    { sql: existing.functions.filter(({ name }) => !kept.has(name)).map((f) => dropFunction(names, f)) },
    { sql: original ? [`DROP FUNCTION ${qualify('public', names.originalFunction)}()`] : [] },
  ];
}

const isOriginal = (t: ExistingTrigger, names: Names): boolean =>
  t.functionSchema === 'public' && t.function === names.originalFunction;

const dropTrigger = (t: ExistingTrigger): string =>
  `DROP TRIGGER ${quoteIdentifier(t.trigger)} ON ${qualify(t.schema, t.table)}`;

const dropFunction = (names: Names, f: { name: string; arguments: string }): string =>
  `DROP FUNCTION ${qualify(names.schema, f.name)}(${f.arguments})`;

/**
 * A function runs as its owner. That must be the log's: another role might not be allowed to write to it, which would fail
 * the application's statements; or it might be allowed more than the log's owner is, who could make use of that by
 * a trigger of his own on the log.
 */
function unlessCurrent(existing: Existing, wanted: FunctionText): string[] {
  const found = existing.functionOf.get(wanted.name);
  const same =
    found?.digest === createHash('sha256').update(wanted.body).digest('hex') &&
    JSON.stringify(found.settings) === JSON.stringify(wanted.settings) &&
    (existing.logOwner === null || found.owner === existing.logOwner);
  return same ? [] : createFunction(wanted, existing.logOwner);
}

/** What it takes to remove everything of this id: triggers first, then what they need. Reads only. */
export async function planRemoval(session: Session, names: Names): Promise<Step[]> {
  const existing = await readCatalog(session, names);
  const triggers = byTable(existing.triggers.filter((t) => !isOriginal(t, names)));
  return [
    ...[...triggers.values()].map(dropStep),
    {
      essential: true as const,
      sql: [
        ...existing.functions.map((f) => dropFunction(names, f)),
        ...existing.tables.map((name) => `DROP TABLE ${qualify(names.schema, name)}`),
        ...(existing.schemaExists ? [dropSchema(names)] : []),
      ],
    },
  ].filter(({ sql }) => sql.length > 0);
}
