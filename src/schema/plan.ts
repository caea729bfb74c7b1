/**
 * What has to be done to bring the database to the wanted state, or back: the catalog is compared with what is wanted,
 * and the difference becomes steps, one for the internal objects, one for each table, one for what is left over. Where
 * nothing differs there are none.
 *
 * A table's step puts our triggers in place and removes those of the original under the same id, in one transaction:
 * no change is missed and none is seen twice.
 *
 * Nodes of one input may want different things for a while, as in a rolling deployment that adds a table. The one that
 * joined last has the say: its options are kept in the database (stored-options.ts). A node that joins does not yet remove what
 * it does not want, since an active node may want that: neither triggers nor what the functions log of a row. If the active node may be one of version 0.1.0, a node that joins migrates the tables
 * and leaves functions and triggers to its first term: the old node would hand out what newer functions log, under sequences that are
 * not the ones under which the same changes come again later. A node that finds the options of another node adds what is missing
 * and leaves the rest as it is.
 */
import { setImmediate } from 'node:timers/promises';
import type { OptionDifference, Remarks, UnwatchableTable } from '../api/installation.ts';
import type { Settings } from '../config/settings.ts';
import { qualify, quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import type { Session } from '../postgres/session.ts';
import { COMPARISON_TIMEOUT, type Catalog, type ExistingFunction, readCatalog } from './catalog.ts';
import { type Existing, indexed } from './existing.ts';
import { createSchema, createTables, giveTo, refuseForeignSchema } from './internal-tables.ts';
import type { Wanted } from './logging-statements.ts';
import {
  type Migration,
  NewerVersionError,
  RemovedError,
  VERSION,
  addLogColumns,
  migrate,
  migrationsFrom,
  tooOld,
} from './migrations.ts';
import { type Names, type ObjectName, TRIGGER_EVENTS, locationOf } from './names.ts';
import { publicationsOfAllTables } from './publications.ts';
import { repairs } from './repair.ts';
import { removeShapes, rowDataFunctionNames, rowDataFunctions, unnamedShapes } from './row-data.ts';
import { checkConditions } from './row-filter-check.ts';
import { sharedFunctionNames, sharedFunctions } from './shared-functions.ts';
import { type Step, dropFunction, dropSteps } from './steps.ts';
import {
  type StoredOptions,
  differences,
  optionsOf,
  storeOptions,
  withStoredOptions,
} from './stored-options.ts';
import { wantsColumns, wantsRows } from './table-options.ts';
import {
  type TableStep,
  leftoverTriggerSteps,
  tableStep,
  unlessCurrent,
  wantedOf,
  withFunctions,
} from './table-step.ts';
import { type CandidateTable, type Table, candidateTables, chooseTables } from './tables.ts';
import { readClashes } from './trigger-clash.ts';

/**
 * Who plans. `joining`: a node that starts; another one may be active. `rejoining`: the same, of a node that saw the input being removed:
 * it waits for somebody to install the input. `claiming`: a node whose term begins, or a person; its
 * options are the input's from then on. `holding`: a node in its term, which minds the options of a node that has joined since.
 */
export type Planner = 'joining' | 'rejoining' | 'claiming' | 'holding';

export interface Plan {
  /** The version that is installed; null for nothing. */
  readonly version: number | null;
  /** In which options the node that installed last differs from the one that plans. */
  readonly differences: readonly OptionDifference[];
  /** Whether more is to be done once the steps are done. */
  readonly isInterim: boolean;
  readonly steps: readonly Step[];
  /** Whether a node that joins leaves something in place that it would change if it claimed the lease. Not found out if there are steps. */
  readonly isLeaving: boolean;
  /** What is to be done to tables that the role in use may not touch: for a DBA to run. */
  readonly barredSteps: readonly Step[];
  /** Locations of the tables that are to be watched. */
  readonly watched: readonly string[];
  /** The tables, quoted, from which a backfill of them reads. */
  readonly read: readonly string[];
  readonly unwatchable: readonly UnwatchableTable[];
  readonly remarks: Remarks;
}

/** Looking at so many takes some ten milliseconds. */
const TABLES_AT_ONCE = 50;

/**
 * Compares the catalog with what is wanted. Reads only.
 * @throws {PostgresInputError} ERR_INSTALL for objects that a newer version made, or one before version 1
 */
export async function plan(
  session: Session,
  settings: Settings,
  names: Names,
  planner: Planner = 'claiming',
): Promise<Plan> {
  const existing = indexed(await readCatalog(session, names));
  refuseOtherVersions(existing, settings.id);
  const isJoining = planner === 'joining' || planner === 'rejoining';
  if (existing.version === null && (planner === 'rejoining' || planner === 'holding'))
    throw new RemovedError(names);
  const own = optionsOf(settings);
  // What a node wants that may be active goes on being logged while others join.
  const kept = isJoining ? (existing.optionsInForce ?? existing.options) : null;
  const inForce = kept && withStoredOptions(settings, kept, new Set());
  const all = [settings, ...(inForce ? [inForce] : [])];
  const differing = differences(existing.options, own);
  const scope = isJoining
    ? 'joining'
    : planner === 'holding' && differing.length > 0
      ? 'additions'
      : 'everything';
  const candidates = await session.query<CandidateTable>(
    candidateTables,
    [settings.schemas, all.some(wantsColumns)],
    COMPARISON_TIMEOUT,
  );
  const chosen = chooseTables(candidates, settings);
  const conditions = await checkConditions(session, chosen.tables);
  const { unmatched } = chosen;
  const { tables } = conditions;
  const unwatchable = [...chosen.unwatchable, ...conditions.unwatchable];
  const left = [...chosen.left, ...conditions.left];
  // As long as the log lacks the columns for rows, functions log none.
  const isInterim =
    all.some(wantsRows) && existing.tables.includes(names.logTable.name) && !existing.hasLogColumns;
  const wantedFrom = (table: Table, by = settings): Wanted => {
    const wanted = wantedOf(by, table);
    return isInterim ? { ...wanted, rows: 'none' } : wanted;
  };
  const wantedInForce = new Map(
    (inForce ? chooseTables(candidates, inForce).tables : []).map((table) => [
      qualify(table.schema, table.name),
      wantedFrom(table, inForce!),
    ]),
  );
  const tableSteps: TableStep[] = [];
  for (const table of tables) {
    const others = wantedInForce.get(qualify(table.schema, table.name));
    tableSteps.push(tableStep(existing, names, table, wantedFrom(table), scope, others));
    // There may be thousands, and the node has events to hand out meanwhile.
    if (tableSteps.length % TABLES_AT_ONCE === 0) await setImmediate();
  }
  if (scope === 'everything') tableSteps.push(...leftoverTriggerSteps(existing, [...tables, ...left]));
  const migrations = migrationsFrom(existing.version ?? VERSION);
  const isWaiting = isJoining && settings.install && (await isOldNodeActive(session, existing, names));
  // Functions that are there already come to the new version together with the tables.
  const functions = migrations.length === 0 ? [] : tableSteps.flatMap(({ replaced }) => replaced);
  // A node that finds the options of another node leaves the functions as the other one wants them.
  const shared = [
    ...sharedFunctions(names, settings.notifications),
    ...rowDataFunctions(names).filter(({ name }) => wantsColumns(settings) || existing.functionOf.has(name)),
  ]
    .filter(({ name }) => !(scope === 'additions' && existing.functionOf.get(name)?.version === VERSION))
    .flatMap((f) => unlessCurrent(existing, names, f));
  const triggerSteps = tableSteps
    .map((step) => (migrations.length === 0 ? withFunctions(step) : step))
    .filter(({ sql }) => sql.length > 0);
  const clashes = await readClashes(session, triggerSteps);
  const publications = await publicationsOfAllTables(session);
  const isFree = ({ table }: TableStep): boolean => !clashes.has(table);
  // A table that a DBA has prepared is watched, whatever the role in use may do to it.
  const barred = triggerSteps.filter((step) => step.barred !== undefined && isFree(step));
  const waiting = isWaiting ? tableSteps.filter(({ sql }) => sql.length > 0) : [];
  const unwatched = new Set([...clashes.keys(), ...[...barred, ...waiting].map(({ table }) => table)]);
  const leftoverFunctions = () =>
    leftoverFunctionSteps(existing, names, [
      ...tables.map((table) => ({ ...table, wanted: wantedFrom(table) })),
      ...left.map((table) => ({ ...table, wanted: null })),
    ]);
  const steps = [
    internalStep(existing, names, settings, migrations, isWaiting ? [] : [...shared, ...functions]),
    logColumnsStep(existing, names),
    ...(isWaiting ? [] : triggerSteps.filter((step) => step.barred === undefined && isFree(step))),
    ...(scope === 'everything' ? leftoverFunctions() : []),
    // Functions that stay as they are may name any shape.
    ...(planner === 'claiming' && triggerSteps.length === 0 && left.length === 0
      ? [await shapesStep(session, existing, names, tableSteps)]
      : []),
    ...(scope === 'additions' ? [] : [optionsStep(existing, names, own, isJoining)]),
  ].filter(({ sql }) => sql.length > 0);
  const isLeaving = async (): Promise<boolean> => {
    const claiming = tables.map((table) =>
      tableStep(existing, names, table, wantedFrom(table), 'everything'),
    );
    const steps: Step[] = [
      ...claiming.filter((step) => step.barred === undefined && isFree(step)).map(withFunctions),
      ...leftoverTriggerSteps(existing, [...tables, ...left]),
      ...leftoverFunctions(),
    ];
    return (
      steps.some(({ sql }) => sql.length > 0) ||
      (left.length === 0 && (await shapesStep(session, existing, names, claiming)).sql.length > 0)
    );
  };
  return {
    version: existing.version,
    differences: differing,
    isInterim,
    steps,
    isLeaving: isJoining && steps.length === 0 && (await isLeaving()),
    barredSteps: barred,
    watched: [
      ...new Set(
        tables
          .filter(({ schema, name }) => !unwatched.has(locationOf(schema, name)))
          .map(({ location }) => location),
      ),
    ],
    read: tables
      .filter(({ isPartition, schema, name }) => !isPartition && !unwatched.has(locationOf(schema, name)))
      .map(({ schema, name }) => qualify(schema, name)),
    unwatchable: [
      ...unwatchable,
      ...[...clashes].map(([table, reason]) => ({ table, reason })),
      ...barred.map(({ table, barred }) => ({ table, reason: barred! })),
    ],
    remarks: {
      ...(publications.length > 0 && { publishedBy: publications }),
      ...(unmatched.length > 0 && { unmatched }),
    },
  };
}

/** Whether the lease is held while functions of version 1 are in place. */
async function isOldNodeActive(session: Session, existing: Catalog, { lockTable }: Names): Promise<boolean> {
  const isOld = existing.functions.some(({ version }) => version === null);
  if (!isOld || !existing.tables.includes(lockTable.name)) return false;
  const held = await session.query(`SELECT FROM ${lockTable.sql} WHERE holder IS NOT NULL`);
  return held.length > 0;
}

function refuseOtherVersions({ version, functions }: Catalog, id: string): void {
  if (version === 0) throw tooOld(id);
  const newest = Math.max(version ?? 0, ...functions.map((f) => f.version ?? 0));
  if (newest > VERSION) throw new NewerVersionError(id, newest);
}

/**
 * Tables and the functions that they need at this version, in one transaction: no trigger meets a table that it does not know. `functions`:
 * what makes or replaces them.
 */
function internalStep(
  existing: Existing,
  names: Names,
  settings: Settings,
  migrations: readonly Migration[],
  functions: readonly string[],
): Step {
  const tables = createTables(names);
  /** Nodes connect as the log's owner, while a member of that role may run the statements. */
  const ifMissing = (table: ObjectName, statements: readonly string[]) =>
    existing.tables.includes(table.name) ? [] : [...statements, ...giveTo(table, existing.logOwner)];
  const sql = [
    ...(existing.schemaExists ? [] : createSchema(names)),
    ...ifMissing(names.lockTable, tables.lock),
    ...ifMissing(names.logTable, tables.log),
    ...ifMissing(names.secretTable, tables.secret),
    ...ifMissing(names.failedTable, tables.failed),
    ...ifMissing(names.parkedTable, tables.parked),
    ...ifMissing(names.backfillTable, tables.backfill),
    ...(wantsRows(settings) ? ifMissing(names.shapeTable, tables.shape) : []),
    ...functions,
    // Last: they lock tables that are in use until the end of the transaction, which psql sends statement by statement.
    ...repairs(existing, names).flatMap((repair) => repair.sql),
    ...migrate(names, migrations),
  ];
  return {
    essential: true,
    summary:
      migrations.length > 0
        ? migrations.map(({ to, summary }) => `version ${to}: ${summary}`).join('; ')
        : 'the internal tables and the functions that all triggers share',
    sql: existing.schemaExists && sql.length > 0 ? [refuseForeignSchema(names), ...sql] : sql,
  };
}

/** The log counts as a table of the application here: it is tried again until its lock can be had, and pending meanwhile. */
const logColumnsStep = ({ tables, hasLogColumns }: Catalog, names: Names): Step => ({
  summary: 'the columns of the log for rows and for what transactions say of themselves',
  table: locationOf(names.schema, names.logTable.name),
  sql: hasLogColumns || !tables.includes(names.logTable.name) ? [] : addLogColumns(names),
});

/** Functions that no trigger needs. */
function leftoverFunctionSteps(
  existing: Existing,
  names: Names,
  /** What is wanted of each; null for a table whose functions all stay. */
  tables: readonly (Pick<Table, 'schema' | 'name'> & { readonly wanted: Wanted | null })[],
): Step[] {
  // Triggers that the role in use may not drop, and those of tables whose functions all stay, perhaps under a name that the table had before.
  const staying = [
    ...existing.triggers.filter(({ owned }) => !owned),
    ...tables
      .filter(({ wanted }) => wanted === null)
      .flatMap(({ schema, name }) => existing.triggersOf.get(qualify(schema, name)) ?? []),
  ];
  const kept = new Set([
    ...sharedFunctionNames(names),
    ...rowDataFunctionNames(names),
    ...tables.flatMap(({ schema, name, wanted }) => [
      ...[...(wanted?.events ?? TRIGGER_EVENTS)].map(
        (event) => names.recordFunction(schema, name, event).name,
      ),
      ...(wanted && wanted.filter.when === null ? [] : [names.whenFunction(schema, name).name]),
    ]),
    ...staying.map((trigger) => trigger.function),
  ]);
  const original = existing.originalFunction && !kept.has(names.originalFunction);
  const summary = 'functions that are left over';
  const leftover = existing.functions.filter(({ name }) => !kept.has(name));
  const [triggered, conditions] = [true, false].map((isTriggered) =>
    leftover.filter(({ returns }) => (returns === 'trigger') === isTriggered),
  ) as [typeof leftover, typeof leftover];
  return [
    ...dropSteps(
      [
        ...triggered.map((f) => dropFunction(names, f)),
        ...(original ? [`DROP FUNCTION ${qualify('public', names.originalFunction)}()`] : []),
      ],
      { summary },
    ),
    // A trigger that stays may call any of them.
    ...(conditions.length === 0 || staying.length > 0 ? [] : [dropConditions(names, conditions, summary)]),
  ];
}

/**
 * No catalog says which functions call a condition. A statement that runs its table's trigger function may still call the condition after the function
 * was replaced by one that does not: the step waits, within the lock timeout, for the transactions that write to watched tables.
 */
function dropConditions(names: Names, conditions: readonly ExistingFunction[], summary: string): Step {
  const ofOurs = `pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE p.pronamespace = ${quoteLiteral(quoteIdentifier(names.schema))}::regnamespace`;
  const isCalled = conditions
    .map(({ name }) => `strpos(p.prosrc, ${quoteLiteral(qualify(names.schema, name))}) > 0`)
    .join(' OR ');
  const writing = `FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`;
  const body = `
DECLARE
  deadline timestamptz := clock_timestamp() + (SELECT setting::int FROM pg_settings WHERE name = 'lock_timeout') * interval '1 millisecond';
  writers text[] := ARRAY(SELECT virtualtransaction ${writing} AND relation IN (SELECT t.tgrelid FROM ${ofOurs}));
BEGIN
  IF EXISTS (SELECT FROM ${ofOurs} AND (${isCalled})) THEN
    RAISE lock_not_available USING MESSAGE = 'a trigger still needs a condition';
  END IF;
  WHILE EXISTS (SELECT ${writing} AND virtualtransaction = ANY (writers)) LOOP
    IF clock_timestamp() > deadline THEN
      RAISE lock_not_available USING MESSAGE = 'a statement may still need a condition';
    END IF;
    PERFORM pg_sleep(0.005);
  END LOOP;
END`;
  return {
    summary,
    sql: [`DO ${quoteLiteral(body)}`, ...conditions.map((f) => dropFunction(names, f))],
  };
}

/**
 * Removes shapes that neither a function nor a logged or parked change names, once everything is in place: as long as a function remains that has not
 * been replaced, or a trigger that has not been dropped, its shape is needed.
 */
async function shapesStep(
  session: Session,
  { shapes, tables }: Catalog,
  names: Names,
  tableSteps: readonly TableStep[],
): Promise<Step> {
  const used = new Set(tableSteps.flatMap((step) => step.shapes));
  const unused = (shapes ?? []).filter((shape) => !used.has(shape));
  const isKnown = unused.length > 0 && tables.includes(names.parkedTable.name);
  const removable = isKnown ? await unnamedShapes(session, names, unused) : [];
  return {
    summary: 'shapes of rows that are left over',
    sql: removable.length === 0 ? [] : [removeShapes(names, removable)],
  };
}

/** A role that may not read the options leaves them alone. */
function optionsStep(
  { version, options, optionsInForce, optionsAreHidden }: Catalog,
  names: Names,
  own: StoredOptions,
  isJoining: boolean,
): Step {
  const isInForce = isJoining || optionsInForce === null;
  const isKept = options !== null && differences(options, own).length === 0 && isInForce;
  const isSilent = version === VERSION && optionsAreHidden;
  return {
    summary: 'the options of this installation',
    sql: isKept || isSilent ? [] : [storeOptions(names, own, isJoining)],
  };
}
