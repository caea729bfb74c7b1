/**
 * Brings the database to the wanted state, and back.
 *
 * The catalog is compared with what is wanted, and the difference becomes steps: one for the internal objects, one for
 * each table, one for what is left over. Where nothing differs there are no steps, and nothing is locked. Steps run
 * on a connection of their own, each in a transaction of its own, under a short lock_timeout, so that neither the
 * application nor the lease ever waits for DDL; one that could not get its lock is tried again.
 *
 * A table's step puts our triggers in place and removes those of the original under the same id, in one transaction:
 * no change is missed and none is seen twice.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Catalog, type ExistingTrigger, readCatalog } from './catalog.ts';
import type { Settings } from './config.ts';
import { PostgresInputError, isConnectionError } from './errors.ts';
import {
  type Names,
  type TriggerEvent,
  locationOf,
  qualify,
  quoteIdentifier,
  quoteLiteral,
} from './names.ts';
import type { Session } from './session.ts';
import {
  type CandidateTable,
  type Table,
  type UnwatchableTable,
  candidateTables,
  chooseTables,
} from './tables.ts';
import {
  type FunctionText,
  createFunction,
  createTables,
  createTrigger,
  identityFunction,
  notifyFunction,
  recordFunction,
} from './trigger-sql.ts';

/** Statements that belong into one transaction. */
export interface Step {
  /** The table of the application that it touches. */
  readonly table?: string;
  /** Whether nothing works without it. */
  readonly essential?: true;
  readonly sql: readonly string[];
}

export interface Plan {
  readonly steps: readonly Step[];
  /** What is missing on tables that the role in use may not touch: for a DBA to run. */
  readonly barredSteps: readonly Step[];
  /** Locations of the tables that are to be watched. */
  readonly watched: readonly string[];
  readonly unwatchable: readonly UnwatchableTable[];
}

/** What an installation came to. */
export interface Installation {
  /** Locations of the tables that are watched. */
  readonly watched: readonly string[];
  /** Tables that the role in use may not watch, or that could not be brought into the wanted state. */
  readonly unwatchable: readonly UnwatchableTable[];
  /** Tables whose lock could not be had yet: they come at the next discovery. */
  readonly pending: readonly string[];
}

const TRIGGERS_FOR: Readonly<Record<string, readonly TriggerEvent[]>> = {
  create: ['insert'],
  update: ['update'],
  delete: ['delete', 'truncate'],
};

const wantedEvents = ({ operations }: Settings): Set<TriggerEvent> =>
  new Set([...operations].flatMap((operation) => TRIGGERS_FOR[operation] ?? []));

/** Compares the catalog with what is wanted. Reads only. */
export async function plan(session: Session, settings: Settings, names: Names): Promise<Plan> {
  const existing = await readCatalog(session, names);
  const candidates = await session.query<CandidateTable>(candidateTables, [settings.schemas, names.schema]);
  const tables = chooseTables(candidates, settings.tables);
  const wanted = wantedEvents(settings);
  const changes = tables
    .map((table) => ({ table, step: tableStep(existing, names, table, wanted) }))
    .filter(({ step }) => step.sql.length > 0);
  // A table that a DBA has prepared is watched, whatever the role in use may do to it.
  const barred = changes.flatMap(({ table, step }) =>
    table.barred === null ? [] : { table, step, reason: table.barred },
  );
  const unwatchable = new Set(barred.map(({ table }) => table));
  const steps = [
    internalStep(existing, names),
    ...changes.filter(({ table }) => !unwatchable.has(table)).map(({ step }) => step),
    ...leftoverSteps(existing, names, tables, wanted),
  ];
  return {
    steps: steps.filter(({ sql }) => sql.length > 0),
    barredSteps: barred.map(({ step }) => step),
    watched: [...new Set(tables.filter((table) => !unwatchable.has(table)).map(({ location }) => location))],
    unwatchable: barred.map(({ table: { schema, name }, reason }) => ({
      table: locationOf(schema, name),
      reason,
    })),
  };
}

/** The comment by which `uninstall` knows a schema that it may remove. */
const SCHEMA_COMMENT = 'Made by dapper-postgres-input; removed with its last input.';

function internalStep(existing: Catalog, names: Names): Step {
  const tables = createTables(names);
  const missing = ({ name }: { name: string }) => !existing.tables.includes(name);
  const schema = quoteIdentifier(names.schema);
  return {
    essential: true,
    sql: [
      ...(existing.schemaExists
        ? []
        : [`CREATE SCHEMA ${schema}`, `COMMENT ON SCHEMA ${schema} IS ${quoteLiteral(SCHEMA_COMMENT)}`]),
      ...(missing(names.lockTable) ? tables.lock : []),
      ...(missing(names.logTable) ? tables.log : []),
      ...(missing(names.secretTable) ? tables.secret : []),
      ...unlessCurrent(existing, identityFunction(names)),
      ...unlessCurrent(existing, notifyFunction(names)),
    ],
  };
}

function tableStep(existing: Catalog, names: Names, table: Table, wanted: ReadonlySet<TriggerEvent>): Step {
  const here = existing.triggers.filter((t) => t.schema === table.schema && t.table === table.name);
  const serves = (trigger: ExistingTrigger, event: TriggerEvent) =>
    trigger.functionSchema === names.schema &&
    trigger.function === names.recordFunction(table.schema, table.name, event).name;
  const events = [...wanted];
  const absent = events.filter((event) => !here.some((trigger) => serves(trigger, event)));
  const replaced = new Set(absent.map((event) => names.trigger(table.name, event)));
  const unwanted = here.filter(
    (trigger) => !events.some((event) => serves(trigger, event)) && !replaced.has(trigger.trigger),
  );
  return {
    table: locationOf(table.schema, table.name),
    sql: [
      ...events.flatMap((event) => unlessCurrent(existing, recordFunction(names, table, event, wanted))),
      ...absent.map((event) => createTrigger(names, table, event)),
      ...unwanted.map(dropTrigger),
    ],
  };
}

/** Triggers on tables that are no longer watched, and functions that no trigger needs. */
function leftoverSteps(
  existing: Catalog,
  names: Names,
  watched: readonly Table[],
  wanted: ReadonlySet<TriggerEvent>,
): Step[] {
  const triggers = existing.triggers.filter(
    (t) => !watched.some((table) => table.schema === t.schema && table.name === t.table),
  );
  const kept = new Set([
    names.identityFunction.name,
    names.notifyFunction.name,
    ...watched.flatMap((table) =>
      [...wanted].map((event) => names.recordFunction(table.schema, table.name, event).name),
    ),
  ]);
  const hasOriginals = existing.triggers.some((t) => isOriginal(t, names));
  return [
    ...triggers.map((t) => ({ table: locationOf(t.schema, t.table), sql: [dropTrigger(t)] })),
    {
      sql: [
        ...existing.functions.filter(({ name }) => !kept.has(name)).map((f) => dropFunction(names, f)),
        ...(hasOriginals ? [`DROP FUNCTION ${qualify('public', names.originalFunction)}()`] : []),
      ],
    },
  ];
}

const isOriginal = (t: ExistingTrigger, names: Names): boolean =>
  t.functionSchema === 'public' && t.function === names.originalFunction;

const dropTrigger = (t: ExistingTrigger): string =>
  `DROP TRIGGER ${quoteIdentifier(t.trigger)} ON ${qualify(t.schema, t.table)}`;

const dropFunction = (names: Names, f: { name: string; arguments: string }): string =>
  `DROP FUNCTION ${qualify(names.schema, f.name)}(${f.arguments})`;

function unlessCurrent(existing: Catalog, wanted: FunctionText): string[] {
  const found = existing.functions.find((f) => f.name === wanted.name);
  const same =
    found?.body === wanted.body && JSON.stringify(found.settings) === JSON.stringify(wanted.settings);
  return same ? [] : createFunction(wanted);
}

/** SQLSTATEs of a step that may succeed a moment later, with a plan made anew. */
const BUSY: ReadonlySet<string> = new Set([
  '55P03', // lock_not_available: the lock_timeout
  '40P01', // deadlock_detected
  'XX000', // tuple concurrently updated
  '23505', // unique_violation: somebody else made the same object
  '42P06', // duplicate_schema
  '42710', // duplicate_object
  '42P07', // duplicate_table
  '42723', // duplicate_function
  '42P01', // undefined_table: dropped since the plan was made
  '3F000', // invalid_schema_name, likewise
  '42704', // undefined_object, likewise
  '42883', // undefined_function, likewise
  '2BP01', // dependent_objects_still_exist: a trigger whose table was locked still needs the function
]);

const ATTEMPTS = 20;

/**
 * Installs what is missing. Tables that stay locked are left pending.
 * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST
 */
export async function install(
  session: Session,
  settings: Settings,
  names: Names,
  signal?: AbortSignal,
): Promise<Installation> {
  return exclusively(session, names, signal, async () => {
    for (let attempt = 1; ; attempt++) {
      const { steps, watched, unwatchable } = await plan(session, settings, names);
      const { busy, refused } = await applyAll(session, settings, steps);
      if (busy.length === 0 || attempt === ATTEMPTS || signal?.aborted) {
        const internal = busy.find(({ step }) => step.essential);
        if (internal) throw installError(internal.error, settings);
        return {
          watched,
          unwatchable: [...unwatchable, ...refused],
          pending: busy.flatMap(({ step }) => step.table ?? []),
        };
      }
      await delay(20 + Math.random() * 80);
    }
  });
}

/**
 * Removes everything that was installed under this id.
 * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST
 */
export async function uninstall(session: Session, settings: Settings, names: Names): Promise<void> {
  await exclusively(session, names, undefined, async () => {
    for (let attempt = 1; ; attempt++) {
      const steps = removalSteps(await readCatalog(session, names), names);
      const { busy, refused } = await applyAll(session, settings, steps);
      if (busy.length === 0 && refused.length === 0) return;
      if (attempt === ATTEMPTS || refused.length > 0) {
        const tables = [
          ...busy.flatMap(({ step }) => step.table ?? []),
          ...refused.map(({ table }) => table),
        ];
        throw new PostgresInputError(
          'ERR_INSTALL',
          `not everything could be removed: triggers remain on ${tables.join(', ') || 'no table'}; ` +
            'call uninstall() again when the tables are not locked, as a role that owns them',
          { retryable: refused.length === 0 },
        );
      }
      await delay(20 + Math.random() * 80);
    }
  });
}

/** Triggers first, then what they need. */
function removalSteps(existing: Catalog, names: Names): Step[] {
  const triggers = existing.triggers.filter((t) => !isOriginal(t, names));
  const schema = quoteLiteral(quoteIdentifier(names.schema));
  const dropSchema = `
BEGIN
  IF pg_catalog.obj_description(${schema}::pg_catalog.regnamespace, 'pg_namespace') = ${quoteLiteral(SCHEMA_COMMENT)}
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = ${schema}::pg_catalog.regnamespace)
     AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc WHERE pronamespace = ${schema}::pg_catalog.regnamespace) THEN
    DROP SCHEMA ${quoteIdentifier(names.schema)};
  END IF;
END`;
  return [
    ...triggers.map((t) => ({ table: locationOf(t.schema, t.table), sql: [dropTrigger(t)] })),
    {
      essential: true as const,
      sql: [
        ...existing.functions.map((f) => dropFunction(names, f)),
        ...existing.tables.map((name) => `DROP TABLE ${qualify(names.schema, name)}`),
        ...(existing.schemaExists ? [`DO ${quoteLiteral(dropSchema)}`] : []),
      ],
    },
  ].filter(({ sql }) => sql.length > 0);
}

interface Outcome {
  readonly busy: { readonly step: Step; readonly error: Error }[];
  readonly refused: UnwatchableTable[];
}

async function applyAll(session: Session, settings: Settings, steps: readonly Step[]): Promise<Outcome> {
  const outcome: Outcome = { busy: [], refused: [] };
  for (const step of steps) {
    try {
      await apply(session, settings, step);
    } catch (cause) {
      const error = cause as Error & { code?: string };
      if (isConnectionError(error)) throw error;
      if (BUSY.has(error.code ?? '')) outcome.busy.push({ step, error });
      else if (step.essential) throw installError(error, settings);
      else if (step.table !== undefined) outcome.refused.push({ table: step.table, reason: error.message });
    }
  }
  return outcome;
}

const INSTALL_TIMEOUT = 60_000;

async function apply(session: Session, { lockTimeout }: Settings, { sql }: Step): Promise<void> {
  // As one simple query it is one round trip: no lock is held while something is on its way.
  const script = ['BEGIN', `SET LOCAL lock_timeout = ${lockTimeout}`, ...sql, 'COMMIT'].join(';\n');
  try {
    await session.query(script, [], INSTALL_TIMEOUT);
  } catch (error) {
    if (!isConnectionError(error)) await session.query('ROLLBACK');
    throw error;
  }
}

/** Runs `work` while no other node changes the objects. Tries: to wait in the server would hold vacuum back. */
async function exclusively<Result>(
  session: Session,
  names: Names,
  signal: AbortSignal | undefined,
  work: () => Promise<Result>,
): Promise<Result> {
  const deadline = performance.now() + INSTALL_TIMEOUT;
  for (;;) {
    const [row] = await session.query<{ granted: boolean }>(
      'SELECT pg_catalog.pg_try_advisory_lock($1) AS granted',
      [names.installKey],
    );
    if (row?.granted) break;
    signal?.throwIfAborted();
    if (performance.now() > deadline) {
      throw new PostgresInputError(
        'ERR_INSTALL',
        'another node has been installing for a minute: look for its session in pg_stat_activity',
        { retryable: true },
      );
    }
    await delay(10 + Math.random() * 40);
  }
  try {
    return await work();
  } finally {
    await session.query('SELECT pg_catalog.pg_advisory_unlock($1)', [names.installKey]).catch(() => {});
  }
}

const installError = (cause: Error, { internalSchema, target }: Settings): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `installing failed (${cause.message}): the role needs CREATE on the database or on schema ${internalSchema}; ` +
      'or have a DBA run the SQL that `plan` prints, and set the option install to false',
    { cause, secrets: target.secrets },
  );
