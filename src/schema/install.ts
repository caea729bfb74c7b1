/**
 * Brings the database to the wanted state, and back.
 *
 * Each step runs in a transaction of its own, under a short lock_timeout, so that the application does not wait for DDL.
 * A step that could not get its lock is tried again in the next round, by a new plan. Attempts keep a distance from each other
 * (attempt-spacing.ts). The first round waits a millisecond for each table, so that a locked table does not delay the tables after it.
 * Each later round waits longer, up to the option lockTimeout. After the last round, locked tables are left to a later call.
 * A node that holds the lease runs the steps on a further connection; at its start it has nothing yet that could wait.
 */
import { PostgresInputError } from '../api/errors.ts';
import type { Installation, UnwatchableTable } from '../api/installation.ts';
import type { Settings } from '../config/settings.ts';
import type { Session } from '../postgres/session.ts';
import { isBusy, isConnectionError, isTransient } from '../postgres/sqlstates.ts';
import { AttemptSpacing, pause } from './attempt-spacing.ts';
import type { Names } from './names.ts';
import { type Planner, plan } from './plan.ts';
import { planRemoval } from './removal.ts';
import { type Step, summaryOf } from './steps.ts';

/** Which share of lockTimeout an attempt on a table may wait, round by round; a millisecond at least. */
const ROUNDS = [0, 1 / 16, 1 / 4, 1];
const lastRound = ROUNDS.length - 1;

/** How long what nothing works without is tried, and how long rounds after the first may take, in milliseconds. */
const PATIENCE = 10_000;

export interface InstallOptions {
  readonly planner?: Planner | undefined;
  readonly signal?: AbortSignal | undefined;
  /** How long another node's installation is waited for, in milliseconds. Its process may be frozen, and its session goes on holding the key. */
  readonly keyPatience?: number | undefined;
  /** That of earlier calls, which keeps the attempts of this call apart from theirs. */
  readonly spacing?: AttemptSpacing | undefined;
  /** Called after each step, with the reason if the step failed. A step that was locked is tried again. */
  readonly onStep?: ((step: Step, failure: Error | null) => void) | undefined;
  /** Called in the end for each step that concerns no table and was left undone, such as dropping functions that no trigger needs. */
  readonly onUndone?: ((step: Step, failure: Error) => void) | undefined;
}

/**
 * Installs what is missing. Tables that stay locked are left pending.
 * @throws {PostgresInputError} ERR_INSTALL, retryable if the internal tables stayed locked, or the server lacked resources; ERR_CONNECTION_LOST; the reason of
 * `signal` when that aborts first
 */
export async function install(
  session: Session,
  settings: Settings,
  names: Names,
  { planner, signal, keyPatience, spacing = new AttemptSpacing(), onStep, onUndone }: InstallOptions = {},
): Promise<Installation> {
  await spacing.rest(signal);
  return exclusively(session, names, { signal, keyPatience }, async () => {
    const deadline = performance.now() + PATIENCE;
    for (let round = 0; ; round++) {
      const { steps, isInterim, watched, unwatchable, remarks } = await plan(
        session,
        settings,
        names,
        planner,
      );
      const attempts = { round, deadline, spacing, signal, onStep };
      const { busy, refused, undone, failure } = await applyAll(session, settings, steps, attempts);
      if (failure) throw installError(failure, settings);
      const internal = busy.find(({ step }) => step.essential);
      const isOver = spacing.notBefore > deadline;
      if (internal && isOver)
        throw isTransient(internal.error)
          ? stillLocked(internal.error, settings)
          : stillFailing(internal, settings);
      const goesOn = isInterim && refused.length === 0 && round < lastRound;
      if (!internal && ((busy.length === 0 && !goesOn) || round >= lastRound || isOver)) {
        const without = new Set(refused.map(({ table }) => table));
        for (const { step, error } of [...undone, ...busy])
          if (step.table === undefined) onUndone?.(step, error);
        return {
          watched: watched.filter((table) => !without.has(table)),
          unwatchable: [...unwatchable, ...refused],
          pending: busy.flatMap(({ step }) => step.table ?? []),
          ...remarks,
        };
      }
    }
  });
}

/**
 * Removes everything that was installed under this id. Unless it `mayLose` changes, the log has to be empty once the triggers are
 * gone: dropping a trigger waits for the transactions that wrote to its table, so nothing writes to the log afterwards.
 * @throws {PostgresInputError} ERR_INSTALL, ERR_CONNECTION_LOST
 */
export async function uninstall(
  session: Session,
  settings: Settings,
  names: Names,
  { mayLose = true }: { readonly mayLose?: boolean } = {},
): Promise<void> {
  await exclusively(session, names, {}, async () => {
    const spacing = new AttemptSpacing();
    const deadline = performance.now() + PATIENCE;
    for (let round = 0; ; round++) {
      const { triggerSteps, objectSteps, hasLog } = await planRemoval(session, names);
      const attempts = { round, deadline, spacing };
      let outcome = await applyAll(session, settings, triggerSteps, attempts);
      if (isWhole(outcome)) {
        if (!mayLose && hasLog && (await holdsChanges(session, names))) throw changesArrived(settings);
        outcome = await applyAll(session, settings, objectSteps, attempts);
      }
      const { busy, refused, failure } = outcome;
      if (failure) throw removalError(failure, settings);
      if (busy.length === 0 && refused.length === 0) return;
      if (spacing.notBefore > deadline || refused.length > 0) {
        const tables = [
          ...busy.flatMap(({ step }) => step.table ?? []),
          ...refused.map(({ table }) => table),
        ];
        const rest = busy.find(({ step }) => step.table === undefined);
        const what =
          tables.length === 0 && rest
            ? `${rest.error.message}; call uninstall() again when nothing is in the way`
            : `triggers remain on ${tables.join(', ')}; ` +
              'call uninstall() again when the tables are not locked, as a role that owns them';
        throw new PostgresInputError('ERR_INSTALL', `not everything could be removed: ${what}`, {
          cause: rest?.error,
          retryable: refused.length === 0,
          secrets: settings.target.secrets,
        });
      }
    }
  });
}

interface Attempts extends Pick<InstallOptions, 'signal' | 'onStep'> {
  readonly round: number;
  /** After it, only the first round goes on. */
  readonly deadline: number;
  readonly spacing: AttemptSpacing;
}

interface FailedStep {
  readonly step: Step;
  readonly error: Error;
}

interface Outcome {
  readonly busy: FailedStep[];
  readonly refused: UnwatchableTable[];
  /** Refused steps that concern no table, and that one can do without. */
  readonly undone: FailedStep[];
  /** Why an essential step can't succeed. */
  failure: Error | null;
}

const isWhole = ({ busy, refused, failure }: Outcome): boolean =>
  busy.length === 0 && refused.length === 0 && failure === null;

/** Whether a change waits in the log, of whatever version the log is. */
async function holdsChanges(session: Session, { logTable }: Names): Promise<boolean> {
  const [row] = await session.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM ${logTable.sql}) AS found`,
    [],
    INSTALL_TIMEOUT,
  );
  return row!.found;
}

/** Nothing follows an essential step that has not succeeded, and such a step follows only where all has succeeded. */
async function applyAll(
  session: Session,
  settings: Settings,
  steps: readonly Step[],
  { round, deadline, spacing, signal, onStep }: Attempts,
): Promise<Outcome> {
  const outcome: Outcome = { busy: [], refused: [], undone: [], failure: null };
  const { busy, refused, undone } = outcome;
  for (const step of steps) {
    if (step.essential && busy.length + refused.length > 0) break;
    signal?.throwIfAborted();
    if (round > 0 && spacing.notBefore > deadline) {
      busy.push({ step, error: new Error('its turn did not come') });
      continue;
    }
    await spacing.rest(signal);
    const began = performance.now();
    const share = ROUNDS[step.essential ? lastRound : Math.min(round, lastRound)]!;
    try {
      await apply(session, step, Math.max(1, Math.round(share * settings.lockTimeout)));
      // Later rounds concern tables that were locked.
      if (round > 0) spacing.noteAttempt(began);
      onStep?.(step, null);
    } catch (cause) {
      const error = cause as Error;
      if (isConnectionError(error)) throw error;
      if (isBusy(error)) spacing.noteAttempt(began);
      onStep?.(step, error);
      if (isBusy(error)) busy.push({ step, error });
      else if (step.essential) outcome.failure = error;
      else if (step.table !== undefined) refused.push({ table: step.table, reason: error.message });
      else undone.push({ step, error });
      if (step.essential) break;
    }
  }
  return outcome;
}

const INSTALL_TIMEOUT = 60_000;

const apply = (session: Session, { sql }: Step, lockTimeout: number): Promise<void> =>
  session.script([`SET LOCAL lock_timeout = ${lockTimeout}`, ...sql], INSTALL_TIMEOUT);

/**
 * Runs `work` while no other node changes the objects. Tries: to wait in the server would hold vacuum back. A pooled session can't keep the key
 * beyond a transaction, and goes without: two nodes that install at once do no harm. So does a node that has waited for long.
 */
async function exclusively<Result>(
  session: Session,
  names: Names,
  { signal, keyPatience = INSTALL_TIMEOUT }: Pick<InstallOptions, 'signal' | 'keyPatience'>,
  work: () => Promise<Result>,
): Promise<Result> {
  if (session.isPooled) return work();
  const deadline = performance.now() + keyPatience;
  for (;;) {
    const [row] = await session.query<{ granted: boolean }>('SELECT pg_try_advisory_lock($1) AS granted', [
      names.installKey,
    ]);
    if (row?.granted || !(await isHeldByInstaller(session, names))) break;
    signal?.throwIfAborted();
    if (performance.now() > deadline) break;
    await pause(10 + Math.random() * 40, signal);
  }
  try {
    return await work();
  } finally {
    await session.query('SELECT pg_advisory_unlock($1)', [names.installKey]).catch(() => {});
  }
}

/**
 * Whether a session has the install key whose role could install. Anybody who can connect can take the key, and would keep every node
 * from starting. Two nodes that install at once do no harm: what one of them has made meets the other as a step that is tried again.
 */
async function isHeldByInstaller(session: Session, { installKey, schema }: Names): Promise<boolean> {
  const held = await session.query(
    `SELECT FROM pg_locks l
     JOIN pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
       AND ((l.classid::bigint << 32) | l.objid::bigint) = $1
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND (has_database_privilege(a.usesysid, l.database, 'CREATE')
         OR EXISTS (SELECT FROM pg_namespace WHERE nspname = $2 AND has_schema_privilege(a.usesysid, oid, 'CREATE')))`,
    [installKey, schema],
  );
  return held.length > 0;
}

const changesArrived = ({ id }: Settings): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `the triggers of input ${id} are removed, and changes arrived meanwhile, which are kept: start a node, which puts the triggers ` +
      'back and takes the changes; or run uninstall with --yes',
  );

const removalError = (cause: Error, { id, target }: Settings): PostgresInputError => {
  const retryable = isTransient(cause);
  return new PostgresInputError(
    'ERR_INSTALL',
    `removing the functions and tables of input ${id} failed (${cause.message}): what is left is removed by another call, ` +
      (retryable ? RESOURCES : 'as the role that owns them'),
    { cause, retryable, secrets: target.secrets },
  );
};

const RESOURCES =
  'when the server has resources again; if its lock table is full (53200), raise max_locks_per_transaction, or end transactions that ' +
  'hold many locks';

const stillLocked = (cause: Error, { target, id }: Settings): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `the internal tables of input ${id} are locked by another transaction (${cause.message}): try again when it has ended; ` +
      'pg_stat_activity shows it by its xact_start',
    { cause, retryable: true, secrets: target.secrets },
  );

/** What two installations at once do to each other is over by now. */
const stillFailing = ({ step, error }: FailedStep, { id, target }: Settings): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `installing input ${id} failed at the step "${summaryOf(step)}" (${error.message}), however often it was tried: put right what ` +
      'the server names, and install again; `plan` prints the SQL of the step',
    { cause: error, secrets: target.secrets },
  );

const installError = (cause: Error, { internalSchema, target }: Settings): PostgresInputError =>
  new PostgresInputError(
    'ERR_INSTALL',
    `installing failed (${cause.message}): the role needs CREATE on the database or on schema ${internalSchema}; ` +
      'or have a DBA run the SQL that `plan` prints, and set the option install to false',
    { cause, retryable: isTransient(cause), secrets: target.secrets },
  );
