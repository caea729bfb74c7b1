import type { AnyTables, ChangeEvent, RowsByLocation } from './change-event.ts';
import type { InputConfig, Operation } from './orchestrator.ts';

/** The options of this package. Every default that is named here is set in `config/settings.ts`. */

/** Where an input connects to, and its name. `type` is for registries, which find the function by it: a direct call needs none. */
export interface PostgresInputConfig extends Omit<InputConfig, 'type'> {
  type?: string;
}

/** How the nodes agree on which of them is active. */
export interface LeaseSettings {
  /** How long a lease lasts without renewal, in milliseconds. Default: 5000. */
  duration: number;
  /** The time between two renewals by the holder, in milliseconds. Default: 1000. */
  renewInterval: number;
  /** How long before its end the holder stops trusting the lease, in milliseconds. Default: 1000. */
  margin: number;
  /** The time between two looks of a standby at the lease, in milliseconds. Default: 250. */
  pollInterval: number;
}

/** Chooses the function that parses the text of a value, by the oid of its type. `pg.types` is one. */
export interface TypeParsers {
  /** Returns the function that turns the text of a value of this type into what events have. */
  getTypeParser(oid: number, format: 'text'): (text: string) => unknown;
}

/**
 * Takes lines of a log: the fields first, then a sentence, as pino takes them. `console` is a logger too. A logger that takes the sentence first,
 * such as winston's, takes four functions: `{ info: (fields, text) => winston.info(text, fields), ... }`.
 */
export interface Logger {
  /** Gets what helps to follow the node step by step: the reader falls asleep or wakes up. */
  debug(fields: object, text: string): unknown;
  /** Gets the node's ordinary life: it stands by, holds the lease, has installed, is closed. */
  info(fields: object, text: string): unknown;
  /** Gets troubles that the node copes with by itself: an event comes again, the connection was lost. */
  warn(fields: object, text: string): unknown;
  /** Gets what somebody has to act upon: an event was parked, or the log's sequence cannot be put right. */
  error(fields: object, text: string): unknown;
}

/** What is wanted of one table's changes. Every option is optional. */
export interface TableOptions {
  /** The operations that become events. Default: those of the config. */
  operations?: Operation[];
  /** What of the row an event carries. Default: the option `rows` of the input. */
  rows?: 'none' | 'after' | 'both';
  /** The columns of `before` and `after`: these, or all but these. The key is in `key` in any case. Default: all. */
  columns?: string[] | { exclude: string[] };
  /**
   * An UPDATE is an event only if it changed the value of one of these columns. The values are compared byte by byte. An UPDATE that changes the
   * key is a delete and a create, to which this does not apply. Default: none, every UPDATE is an event.
   */
  changed?: string[];
  /**
   * A condition in SQL over the rows `before` and `after`, such as `after.status = 'shipped'`. A change is an event only if it is true. The fields of
   * `before` are NULL for a create, those of `after` for a delete. If evaluating the condition fails, the change is an event. Functions and
   * operators that are not in pg_catalog have to be written with their schema, and values of types that are not PostgreSQL's own are text.
   * Default: none, every change is an event.
   */
  when?: string;
}

/** The options beyond the config that all inputs share. Every one is optional. */
export interface PostgresInputOptions {
  /**
   * How long connecting may take, in milliseconds. Default: 500, unless the connection string has a `connect_timeout`,
   * which is in seconds.
   */
  connectTimeout?: number;
  /** The schemas whose tables are watched. Default: `['public']`. */
  schemas?: string[];
  /**
   * Which tables of those schemas are watched: names or globs, `table` or `schema.table`. A table that both lists match is
   * not watched, and an empty `include` stands for all tables. Default: `{ include: [], exclude: [] }`.
   */
  tables?: { include?: string[]; exclude?: string[] };
  /**
   * What of the row an event carries: nothing; the row as it is after a create or update; or also the row as it was before an update or
   * delete, and which columns differ. Default: `'none'`.
   */
  rows?: 'none' | 'after' | 'both';
  /**
   * Which tables are watched, and what is wanted of each: by name or glob, `table` or `schema.table`. Of several that match a table, the exact name
   * counts, otherwise the glob that comes first. Excludes `tables.include`. Default: none, all tables are watched alike.
   */
  watch?: Record<string, TableOptions>;
  /**
   * Whether an UPDATE is no event if it leaves the values of all `columns` as they are. A table's `changed` takes its place. Default: `false`.
   */
  skipUnchanged?: boolean;
  /**
   * The changes of transactions that say to be of one of these origins are not logged. `'self'` stands for the input's id, the origin that
   * `tag` sets. Default: `[]`.
   */
  ignoreOrigins?: string[];
  /**
   * How many bytes one side of a row may have as text. The event of a longer row comes without data, and says so in `dataOmitted`.
   * Default: 1000000.
   */
  maxRowBytes?: number;
  /**
   * What becomes of the rows that a table held before it was watched. With `'read'`, they come as `read` events, once: at the input's first
   * installation those of all tables, later those of each table that is found. The role of the nodes needs SELECT on the tables. Default: `'none'`.
   */
  initial?: 'none' | 'read';
  /** Parses values in `before` and `after`, as the option `types` of a client of node-postgres does. Default: none, which stands for `pg.types`. */
  types?: TypeParsers;
  /** The schema for this package's own tables and functions. Default: `'postgres_input'`. */
  internalSchema?: string;
  /** Whether to install what is missing. Default: `true`. Set it to `false` if a DBA has run what `plan` prints. */
  install?: boolean;
  /** The time between two looks for new tables, in milliseconds. Default: 5000. */
  discoveryInterval?: number;
  /** How long installation may wait for a lock before it gives up and retries, in milliseconds. Default: 100. */
  lockTimeout?: number;
  /** How the nodes agree on which of them is active. */
  lease?: Partial<LeaseSettings>;
  /** How many events may be handed out without being acknowledged, with `ack: 'manual'`. Default: 1000. */
  maxInFlight?: number;
  /**
   * What to do with notifications that this package's triggers did not send. With `'accept'`, valid ones become events and
   * garbage throws `ERR_PAYLOAD_INVALID`. With `'ignore'`, they are skipped and counted in `status()`. Default: `'accept'`.
   */
  foreignNotifications?: 'accept' | 'ignore';
  /**
   * What the triggers notify of while the reader is asleep. With `'changes'`, a notification has the changes of a statement, with the
   * tables' names and the rows' keys, and every role that may connect can hear them. With `'bare'`, it says only that there are changes, and
   * the active node reads them in the log: one query more for each. Default: `'changes'`.
   */
  notifications?: 'changes' | 'bare';
  /**
   * How a node finds out about changes. With `'notify'`, notifications wake it up, which takes a connection that keeps its session. With `'poll'`, it looks
   * by itself, at least once a second, and uses nothing of a session: that works through a pooler in transaction mode. With `'auto'`, it polls if
   * the connection goes through such a pooler. Default: `'notify'`, such a pooler is refused.
   */
  wakeup?: 'auto' | 'notify' | 'poll';
  /**
   * A way to the same database that keeps its session, such as around the pooler to which `connectionString` leads: for the two connections of
   * a node that handles. Default: none, everything goes by `connectionString`.
   */
  listenConnectionString?: string;
  /**
   * Gets the lifecycle events as plain sentences with fields: `{ input, fencingToken }, 'holds the lease: this node is active'`. An error is in the
   * field `err`. Nothing that is logged shows a password. Default: none, nothing is logged.
   */
  logger?: Logger;
}

/** What a transaction says of itself, in the events of all its changes. */
export interface Tags {
  /** Who writes. Default: the input's id. At most 256 bytes. */
  origin?: string;
  /**
   * Anything that can be written as JSON, in at most 8192 bytes. Null takes back what the transaction said before. Default: it stays as it is.
   */
  context?: unknown;
}

/** The options of `handle`. Every one is optional. */
export interface HandleOptions {
  /** Ends the iteration, which rejects with the signal's reason after the lease is released. Default: none. */
  signal?: AbortSignal;
  /**
   * How events are acknowledged. With `'auto'`, asking for the next event acknowledges the previous one. With `'manual'`,
   * `ack` acknowledges each one, in any order. Default: `'auto'`.
   */
  ack?: 'auto' | 'manual';
  /**
   * Whether to rejoin as a standby after an error that is retryable and after garbage on the channel, for ever, with growing, jittered
   * delays of at least `minDelay` and at most `maxDelay` milliseconds. `true` stands for `{ minDelay: 100, maxDelay: 10000 }`. Default: `false`.
   */
  reconnect?: boolean | { minDelay?: number; maxDelay?: number };
  /** After how long in hand, with `ack: 'manual'`, an event is told of by the lifecycle event `slow`, in milliseconds. Default: 60000. */
  slowAfter?: number;
}

/** The options of `process`. Every one is optional. */
export interface ProcessOptions<Tables extends RowsByLocation<Tables> = AnyTables> {
  /** Ends the processing as `close()` does: handlers that run may finish, then the lease is released. Default: none. */
  signal?: AbortSignal;
  /** Whether to rejoin after an error, as the option of `handle` of this name. Default: `true`. */
  reconnect?: boolean | { minDelay?: number; maxDelay?: number };
  /** How many events are handled at once. Those of one key are handled one after the other, in order. Default: 1. */
  concurrency?: number;
  /**
   * Events of one key are handled in order. It may join what the default keeps apart, and must keep together what is of one row; it
   * must say the same of the same event. Default: the location with the key; with the id where there is no key.
   */
  key?: (event: ChangeEvent<Tables>) => string;
  /**
   * How often and when an event comes again whose handler has failed. `attempts`: how often it is tried in all. Default: `Infinity`. The delay is at least
   * half of `minDelay`, doubles with every failure, is jittered, and is at most `maxDelay`; milliseconds. Default: 1000 and 180000. A delay that has begun
   * stays as it is when the options change.
   */
  retry?: { attempts?: number; minDelay?: number; maxDelay?: number };
  /**
   * What happens when the attempts are exhausted. With `'park'`, the event is put out of the way, and its key goes on. With `'stop'`, `process` rejects with
   * the handler's error, and the event stays unacknowledged. Default: `'park'`.
   */
  exhausted?: 'park' | 'stop';
  /** How long handlers may take to finish at the end, in milliseconds; then their `signal` aborts. Default: the lease's duration. */
  drainTimeout?: number;
  /** After how long in hand an event is told of by the lifecycle event `slow`, in milliseconds. Default: 60000. */
  slowAfter?: number;
}

/** The options of `nack`. Every one is optional. */
export interface NackOptions {
  /** After how many milliseconds the event comes again. Default: 1000, doubled with every failure up to 180000, and jittered. */
  delay?: number;
  /** Why it failed: an error, or a text. Default: no reason. */
  error?: unknown;
}
