/**
 * Every name this package gives to something in the database, derived from the input's id.
 *
 * PostgreSQL cuts identifiers at 63 bytes, silently, so that two long names can become one
 * (https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS): a longer name is
 * shortened here, with a hash of the whole in place of its end.
 */
import { createHash } from 'node:crypto';
import { qualify } from '../postgres/quoting.ts';

const MAX_BYTES = 63;

/** What a trigger of ours can fire on. */
export const TRIGGER_EVENTS = ['insert', 'update', 'delete', 'truncate'] as const;
export type TriggerEvent = (typeof TRIGGER_EVENTS)[number];

/** An object in the internal schema: its bare name, and its quoted, schema-qualified form for SQL. */
export interface ObjectName {
  readonly name: string;
  readonly sql: string;
}

export interface Names {
  /** The input's. */
  readonly id: string;
  /** The internal schema. */
  readonly schema: string;
  readonly lockTable: ObjectName;
  readonly logTable: ObjectName;
  /** Numbers the rows of the log. */
  readonly logSequence: ObjectName;
  readonly secretTable: ObjectName;
  /** Signs and sends a notification. */
  readonly notifyFunction: ObjectName;
  /** Tells what identifies a row of a table, as SQL expressions. */
  readonly identityFunction: ObjectName;
  /** Tells whether columns still bear their names. */
  readonly guardFunction: ObjectName;
  /** Carries changes, ours and those announced by hand. */
  readonly channel: string;
  /** Carries what the nodes tell each other: a released lease, a marker. */
  readonly nodeChannel: string;
  /** The advisory lock that the active node holds while it is asleep. */
  readonly sleepKey: string;
  /** Of the advisory lock that a transaction holds from its first notification to its end. */
  readonly notifyingKey: string;
  /** Of the advisory lock that callers' transactions share from an acknowledgement to their end. */
  readonly acknowledgingKey: string;
  /** The advisory lock under which the database's objects are changed. */
  readonly installKey: string;
  /** The function of the original's triggers, in schema public. */
  readonly originalFunction: string;
  recordFunction(schema: string, table: string, event: TriggerEvent): ObjectName;
  trigger(table: string, event: TriggerEvent): string;
}

/** Tables that belong to an input, whichever: they are never watched. A PostgreSQL regular expression. */
export const INTERNAL_TABLES = '^(lock|log|secret)_postgres_input_';

/** The column `resource` of the lock table's only row, the lease. */
export const LEASE_RESOURCE = 1;

/** The location of an event: the table's name, with its schema unless that is `public`. */
export const locationOf = (schema: string, table: string): string =>
  schema === 'public' ? table : `${schema}.${table}`;

export function namesOf(id: string, schema: string): Names {
  const object = (name: string): ObjectName => ({ name, sql: qualify(schema, name) });
  return {
    id,
    schema,
    lockTable: object(shorten(`lock_postgres_input_${id}`)),
    logTable: object(shorten(`log_postgres_input_${id}`)),
    logSequence: object(shorten(`sequence_postgres_input_${id}`)),
    secretTable: object(shorten(`secret_postgres_input_${id}`)),
    notifyFunction: object(shorten(`notify_postgres_input_${id}`)),
    identityFunction: object(shorten(`identity_postgres_input_${id}`)),
    guardFunction: object(shorten(`guard_postgres_input_${id}`)),
    channel: shorten(id),
    nodeChannel: shorten(`nodes_postgres_input_${id}`),
    sleepKey: advisoryKey('sleep', schema, id),
    notifyingKey: advisoryKey('notifying', schema, id),
    acknowledgingKey: advisoryKey('acknowledging', schema, id),
    installKey: advisoryKey('install', schema),
    originalFunction: shorten(`process_record_${id}`),
    // Always with a hash: input `a` and table `b_c` must not meet input `a_b` and table `c`.
    recordFunction: (tableSchema, table, event) => {
      const ends = hash(JSON.stringify([id, tableSchema, table, event]));
      return object(shorten(`process_record_${id}_${table}_${event}`, ends));
    },
    trigger: (table, event) => shorten(`${table}_${id}_${event}_trigger`),
  };
}

const hash = (text: string): string => createHash('sha256').update(text).digest('hex').slice(0, 10);

/** `name`, with a hash of itself for an end where it is too long; always with `suffix`, if one is given. */
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
