import type { PostgresInputError } from './errors.ts';
import type { Installation, OptionDifference } from './installation.ts';

/** Which event has failed, and with what error. */
export interface FailedEvent {
  /** The event's `sequence`; null if it was announced by hand. */
  sequence: string | null;
  /** The table. */
  location: string;
  /** The row's id. */
  id: string;
  /** What the handler failed with, or what `nack` or `park` was given. */
  error: unknown;
}

/** What an input tells of its life: listeners get these arguments. */
export interface LifecycleEvents {
  /** It waits for the lease: for the first time, again, or after `reconnecting`. */
  standby: [];
  /** It has connected, and polls: as the option `wakeup` says, or because a pooler is in the way. Told again after `reconnecting`. */
  polling: [];
  /** It holds the lease, under this token. */
  active: [lease: { fencingToken: string }];
  /** Its `handle()` has ended. */
  idle: [];
  /** It has been closed. */
  closed: [];
  /** The reader waits for notifications. */
  asleep: [];
  /** The reader reads the change log. */
  awake: [];
  /**
   * The server's notification queue has come above the level at which the reader stays awake, so that writers do not notify, or is below it
   * again. `usage` is the share of the queue that is in use. Some session that listens has had a transaction open for long: when
   * the queue is full, every commit in the cluster that notifies fails.
   */
  notificationQueue: [queue: { usage: number; isFilling: boolean }];
  /**
   * Somebody has set the sequence of the change log back, or to its end. Until it is put right, statements of the application may fail.
   * `repaired`: the node has put it right, or finds that somebody else has. Otherwise its role may not: doctor tells how to.
   */
  sequenceReset: [sequence: { repaired: boolean }];
  /** The triggers have been looked after: which tables are watched, and which are not, and why. */
  installed: [installation: Installation];
  /**
   * Another node of this input installed with other options, for instance in a rolling deployment. The node that starts last, and then the
   * one whose term begins, has the say. A node that is active leaves what the other one installed in place.
   */
  optionsDiffer: [differences: readonly OptionDifference[]];
  /** Looking after the triggers failed; it is tried again. What is in place goes on working. */
  discoveryFailed: [error: unknown];
  /**
   * With `reconnect`: the connection was lost, or garbage arrived on the channel. The lease is given up if it was held, and the node
   * connects again after `delay` milliseconds. `standby` tells when it has joined again.
   */
  reconnecting: [attempt: { error: PostgresInputError; attempt: number; delay: number }];
  /** An event has failed, and comes again after `delay` milliseconds as the next attempt. `attempt` is the one that failed. */
  retrying: [failure: FailedEvent & { attempt: number; delay: number }];
  /**
   * An event is out of the way until it is redriven or discarded: its attempts are exhausted, its handler killed its process each time, or
   * `park` was called. An event that was announced by hand has no sequence, and is not kept.
   */
  parked: [failure: FailedEvent & { attempts: number }];
  /**
   * An event has been in hand for longer than `slowAfter`, and still is: for `duration` milliseconds. A handler hangs, or an acknowledgement was
   * forgotten. Each event is told of once.
   */
  slow: [event: { sequence: string | null; location: string; id: string; duration: number }];
  /**
   * The condition `when` of a table has failed: the changes of such a statement are events in any case. A table is told of once a minute at
   * most; `statements` counts those that this node has read since it was last told of. `doctor` tells the error.
   */
  conditionFailed: [condition: { table: string; statements: number }];
  /**
   * A table can't be read, so its backfill is over, and the rows that were not read yet do not come: `initial: 'read'` does not ask for them
   * again. `backfill` is the id of the backfill. Each table of a backfill is told of once. If the connection is lost at that moment, it may be told of again, or
   * although the next term reads on; if the process dies then, `progress()` alone tells. `error` says why, and never quotes a row.
   */
  backfillFailed: [failure: { backfill: string; table: string; error: PostgresInputError }];
  /** A notification that claims to be of our triggers and is not was skipped. */
  forged: [];
  /** A notification that is not of our triggers was skipped: `foreignNotifications: 'ignore'`. */
  ignored: [];
}

/** One lifecycle event as a tuple: its name, then what its listeners get. */
export type LifecycleNotice = {
  [Name in keyof LifecycleEvents]: [name: Name, ...args: LifecycleEvents[Name]];
}[keyof LifecycleEvents];

/** What the input hears. No listener is told that all events of a table's backfill are acknowledged: the health has to know it. */
export type Notice = LifecycleNotice | [name: 'backfillDone', done: { backfill: string; table: string }];

/** How every part of a node tells the input what happens. */
export type Notify = (...notice: Notice) => void;
