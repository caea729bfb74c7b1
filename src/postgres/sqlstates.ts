/** Sorts the errors of a server and of a connection. Every SQLSTATE that this package knows stands here. */

/** SQLSTATEs after which the connection is gone: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const CONNECTION_SQLSTATES: ReadonlySet<string> = new Set([
  '57P01', // admin_shutdown: also pg_terminate_backend()
  '57P02', // crash_shutdown
  '57P03', // cannot_connect_now: starting up or shutting down
  '57P05', // idle_session_timeout
  '25P03', // idle_in_transaction_session_timeout
  '25P04', // transaction_timeout
]);

const CONNECTION_ERRNOS: ReadonlySet<string> = new Set([
  'ECONNABORTED',
  'ECONNREFUSED',
  'ECONNRESET',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EPIPE',
  'ETIMEDOUT',
]);

/** The errors to which pg and pg-listen give no code. */
const CONNECTION_MESSAGES =
  /Connection terminated|Connection ended|is not queryable|Query read timeout|timeout expired|after connection loss failed/;

/** Whether an error, or one behind it, says that the connection is gone or never came to be. */
export function isConnectionError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error instanceof AggregateError && error.errors.some(isConnectionError)) return true;

  const code = 'code' in error && typeof error.code === 'string' ? error.code : '';
  return (
    (/^08...$/.test(code) && !lacksValue(error)) ||
    CONNECTION_SQLSTATES.has(code) ||
    CONNECTION_ERRNOS.has(code) ||
    code === 'ERR_CONNECT' ||
    code === 'ERR_CONNECTION_LOST' ||
    CONNECTION_MESSAGES.test(error.message) ||
    isConnectionError(error.cause)
  );
}

/**
 * Whether a statement has a parameter for which it got no value. Its SQLSTATE, protocol_violation, is that of connections, and poolers give it to
 * errors of their own.
 */
export const lacksValue = (error: unknown): boolean =>
  sqlstateOf(error) === '08P01' && (error as { routine?: string }).routine === 'exec_bind_message';

/** The SQLSTATE of a login whose password is wrong or missing. */
export const INVALID_PASSWORD = '28P01';

/** The SQLSTATE of a statement that would have had to wait for a lock. */
export const LOCKED = '55P03';

/**
 * The SQLSTATE of a commit whose notifications no longer fit into the server's notification queue. The class says "program limit
 * exceeded", but what fills the queue is some other session.
 */
const QUEUE_FULL = '54000';

/** SQLSTATEs of a step that may succeed a moment later, after planning again. */
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
  '3F000', // invalid_schema_name: dropped since
  '42704', // undefined_object: dropped since
  '42883', // undefined_function: dropped since
  '2BP01', // dependent_objects_still_exist: a trigger whose table was locked still needs the function
]);

/**
 * SQLSTATE classes that say nothing against what is installed: the same statement may succeed another time
 * (https://www.postgresql.org/docs/current/errcodes-appendix.html): transaction rollback, insufficient resources,
 * object not in prerequisite state, operator intervention, system error. Of the class of program limits, a full notification queue.
 */
const TRANSIENT = new RegExp(`^(40|53|${QUEUE_FULL}|55|57|58)`);

/**
 * Whether the server takes no writes. A session begins on a server that does. But behind a pooler, the server can be another one after a failover, and a hot
 * standby for a while.
 */
export const isReadOnly = (error: unknown): boolean =>
  sqlstateOf(error) === '25006' ||
  // That BEGIN ... READ WRITE is refused is feature_not_supported.
  (sqlstateOf(error) === '0A000' && (error as { routine?: string }).routine === 'call_bool_check_hook');

/** Whether the same statement may succeed another time. */
export const isTransient = (error: unknown): boolean =>
  TRANSIENT.test(sqlstateOf(error)) || isReadOnly(error);

const MISSING: ReadonlySet<string> = new Set([
  '42P01', // undefined_table
  '3F000', // invalid_schema_name
]);

const UNDEFINED_COLUMN = '42703';

/** The SQLSTATE of a statement that the role in use may not run. */
const INSUFFICIENT_PRIVILEGE = '42501';

/** The SQLSTATE of a statement that needs an open transaction: no_active_sql_transaction. */
const NO_TRANSACTION = '25P01';

const sqlstateOf = (error: unknown): string => (error as { code?: string } | null)?.code ?? '';

export const isBusy = (error: unknown): boolean => BUSY.has(sqlstateOf(error));

export const isPrivilegeError = (error: unknown): boolean => sqlstateOf(error) === INSUFFICIENT_PRIVILEGE;

export const isQueueFull = (error: unknown): boolean => sqlstateOf(error) === QUEUE_FULL;

export const isOutsideTransaction = (error: unknown): boolean => sqlstateOf(error) === NO_TRANSACTION;

export const isColumnMissing = (error: unknown): boolean => sqlstateOf(error) === UNDEFINED_COLUMN;

/** Whether the table that a statement names is not there. */
export const isMissing = (error: unknown): boolean => MISSING.has(sqlstateOf(error));

/** Whether a statement does not fit the objects that it names: a column is missing, or has another type. */
export const isMisfit = (error: unknown): boolean =>
  sqlstateOf(error).startsWith('42') && !isPrivilegeError(error);
