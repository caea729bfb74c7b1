/**
 * Every name this package gives to something in the database, derived from the input's id.
 *
 * PostgreSQL silently cuts identifiers at 63 bytes, so that two long names can become one
 * (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS). A longer name is shortened here: its
 * end is replaced by a hash of the whole name.
 */
import { createHash } from 'node:crypto';
import { qualify } from '../postgres/quoting.ts';

const MAX_BYTES = 63;

/** The events on which our triggers fire. */
export const TRIGGER_EVENTS = ['insert', 'update', 'delete', 'truncate'] as const;
export type TriggerEvent = (typeof TRIGGER_EVENTS)[number];

/** An object in the internal schema: its bare name, and its quoted, schema-qualified form for SQL. */
export interface ObjectName {
  readonly name: string;
  readonly sql: string;
}

export interface Names {
  /** The input's id, from which all these names are derived. */
  readonly id: string;
  /** The internal schema. */
  readonly schema: string;
  readonly lockTable: ObjectName;
  readonly logTable: ObjectName;
  /** Numbers the rows of the log. */
  readonly logSequence: ObjectName;
  readonly secretTable: ObjectName;
  /** The shapes that rows of the log name, where the input asks for rows. */
  readonly shapeTable: ObjectName;
  /** What is known of changes that failed. */
  readonly failedTable: ObjectName;
  /** Changes that were taken out of the log since they failed. */
  readonly parkedTable: ObjectName;
  /** The backfills that were asked for, how far they are, and which of their events a caller's transaction has acknowledged. */
  readonly backfillTable: ObjectName;
  /** Signs and sends a notification. */
  readonly notifyFunction: ObjectName;
  /** Returns what identifies a row of a table, as SQL expressions. */
  readonly identityFunction: ObjectName;
  /** Returns the location of a table. */
  readonly locationFunction: ObjectName;
  /** Returns a statement that logs changes, for what is rare. */
  readonly statementFunction: ObjectName;
  /** Announces a single change to a sleeping reader. */
  readonly announceFunction: ObjectName;
  /** Returns whether columns still have their names. */
  readonly guardFunction: ObjectName;
  /** Returns whether all columns that are logged still have their names. */
  readonly columnsFunction: ObjectName;
  /** Returns a shape: names, and the types of a row of NULLs. */
  readonly shapeFunction: ObjectName;
  /** Returns the columns that a table has now, as SQL expressions. */
  readonly presentFunction: ObjectName;
  /** Returns the length of a text without reading it. */
  readonly lengthFunction: ObjectName;
  /** Prints a row, and catches errors. */
  readonly printFunction: ObjectName;
  /** The channel for changes: those that our triggers announce, and those that somebody announces by hand. */
  readonly channel: string;
  /** The channel on which nodes send messages to each other and to themselves: a released lease, a marker. */
  readonly nodeChannel: string;
  /** The setting in which a transaction remembers what it has truncated. */
  readonly truncationsSetting: string;
  /** The setting by which a condition `when` that has failed tells the trigger function of its statement. */
  readonly failedConditionSetting: string;
  /** The advisory lock that the active node holds while it is asleep. */
  readonly sleepKey: string;
  /** The advisory lock that a transaction holds from its first notification to its end. */
  readonly notifyingKey: string;
  /** The advisory lock that a session holds while it installs or uninstalls. */
  readonly installKey: string;
  /** The function of the original's triggers, in schema public. */
  readonly originalFunction: string;
  recordFunction(schema: string, table: string, event: TriggerEvent): ObjectName;
  /** Evaluates the condition under which changes of a table are wanted. */
  whenFunction(schema: string, table: string): ObjectName;
  trigger(table: string, event: TriggerEvent): string;
}

/** The name of every lock table begins with this. */
export const LOCK_TABLE_PREFIX = 'lock_postgres_input_';

/** Matches the name of every trigger function and of every function that evaluates a condition, of all inputs. A PostgreSQL regular expression. */
export const RECORD_FUNCTIONS = '^process_record_.*_[0-9a-f]{10}$';

/** Matches the names of the internal tables of all inputs, which are never watched. A PostgreSQL regular expression. */
export const INTERNAL_TABLES = '^(lock|log|secret|failed|parked|shape|backfill)_postgres_input_';

/** The column `resource` of the lock table's only row, the lease. */
export const LEASE_RESOURCE = 1;

/** The location of an event: the table's name, with its schema unless that is `public`. */
export const locationOf = (schema: string, table: string): string =>
  schema === 'public' ? table : `${schema}.${table}`;

/** SQL: the same of two expressions. */
export const locationByNames = (schema: string, table: string): string =>
  `CASE ${schema} WHEN 'public' THEN ${table} ELSE ${schema} || '.' || ${table} END`;

export function namesOf(id: string, schema: string): Names {
  const object = (name: string): ObjectName => ({ name, sql: qualify(schema, name) });
  return {
    id,
    schema,
    lockTable: object(shorten(`${LOCK_TABLE_PREFIX}${id}`)),
    logTable: object(shorten(`log_postgres_input_${id}`)),
    logSequence: object(shorten(`sequence_postgres_input_${id}`)),
    secretTable: object(shorten(`secret_postgres_input_${id}`)),
    shapeTable: object(shorten(`shape_postgres_input_${id}`)),
    failedTable: object(shorten(`failed_postgres_input_${id}`)),
    parkedTable: object(shorten(`parked_postgres_input_${id}`)),
    backfillTable: object(shorten(`backfill_postgres_input_${id}`)),
    notifyFunction: object(shorten(`notify_postgres_input_${id}`)),
    identityFunction: object(shorten(`identity_postgres_input_${id}`)),
    locationFunction: object(shorten(`location_postgres_input_${id}`)),
    statementFunction: object(shorten(`statement_postgres_input_${id}`)),
    announceFunction: object(shorten(`announce_postgres_input_${id}`)),
    guardFunction: object(shorten(`guard_postgres_input_${id}`)),
    columnsFunction: object(shorten(`columns_postgres_input_${id}`)),
    shapeFunction: object(shorten(`shape_of_postgres_input_${id}`)),
    presentFunction: object(shorten(`present_postgres_input_${id}`)),
    lengthFunction: object(shorten(`length_postgres_input_${id}`)),
    printFunction: object(shorten(`print_postgres_input_${id}`)),
    channel: shorten(id),
    nodeChannel: shorten(`nodes_postgres_input_${id}`),
    truncationsSetting: `postgres_input.truncations_${hash(JSON.stringify([schema, id]))}`,
    failedConditionSetting: `postgres_input.failed_condition_${hash(JSON.stringify([schema, id]))}`,
    sleepKey: advisoryKey('sleep', schema, id),
    notifyingKey: advisoryKey('notifying', schema, id),
    installKey: advisoryKey('install', schema),
    originalFunction: shorten(`process_record_${id}`),
    // The name always ends with a hash: without it, input `a` with table `b_c` and input `a_b` with table `c` would share a name.
    recordFunction: (tableSchema, table, event) => {
      const ends = hash(JSON.stringify([id, tableSchema, table, event]));
      return object(shorten(`process_record_${id}_${table}_${event}`, ends));
    },
    whenFunction: (tableSchema, table) => {
      const ends = hash(JSON.stringify([id, tableSchema, table, 'when']));
      return object(shorten(`process_record_${id}_${table}_when`, ends));
    },
    trigger: (table, event) => shorten(`${table}_${id}_${event}_trigger`),
  };
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 10);

/** `name` with `suffix`, if one is given. A name that is too long ends with `suffix`, or with a hash of itself. */
function shorten(name: string, suffix?: string): string {
  const whole = suffix === undefined ? name : `${name}_${suffix}`;
  if (Buffer.byteLength(whole) <= MAX_BYTES) return whole;
  const end = `_${suffix ?? hash(name)}`;
  let cut = '';
  for (const character of name) {
    if (Buffer.byteLength(cut + character) > MAX_BYTES - end.length) break;
    cut += character;
  }
  return cut + end;
}

function advisoryKey(...parts: string[]): string {
  const digest = createHash('sha256').update(JSON.stringify(['dapper-postgres-input', ...parts]));
  return digest.digest().readBigInt64BE().toString();
}
