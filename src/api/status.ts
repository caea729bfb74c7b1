import type { Installation } from './installation.ts';

/**
 * What an input is doing. `idle`: not handling, or not joined yet. `standby`: it waits for the lease. `active`: it hands out events.
 * `reconnecting`: the database is away, and the node tries to join again. `closed`: for good.
 */
export type InputState = 'idle' | 'standby' | 'active' | 'reconnecting' | 'closed';

/** The part of the status that any node can read. */
export interface SharedStatus {
  /** Who holds the lease, and since when; null when nobody does. */
  readonly lease: {
    /** A random name that the holder gave itself. */
    readonly holder: string;
    /** The token of this term, which is greater than that of every term before. */
    readonly fencingToken: string;
    /** ISO 8601, as the database tells the time. */
    readonly acquiredAt: string;
  } | null;
  /** Changes that are not acknowledged. */
  readonly backlog: number;
  /** When the oldest of them was written, ISO 8601; null when there is none. */
  readonly oldestChangeAt: string | null;
}

/** How an input stands. */
export interface InputStatus extends SharedStatus, Installation {
  /** The input's id. */
  readonly id: string;
  /** What this node is doing. */
  readonly state: InputState;
  /** Events handed out and not yet acknowledged. */
  readonly inFlight: number;
  /** Notifications that claimed to be of our triggers and were not. */
  readonly forgedNotifications: number;
  /** Notifications that were skipped because of `foreignNotifications: 'ignore'`. */
  readonly ignoredNotifications: number;
}

/** One thing that `health()` looks at. */
export interface HealthCheck {
  /** Stable, for alerts and dashboards. Where `doctor` has a check of the same matter, the name is the same. */
  readonly name:
    | 'node'
    | 'connection'
    | 'wakeup'
    | 'installation'
    | 'tables'
    | 'conditions'
    | 'backfills'
    | 'options'
    | 'backlog'
    | 'parked'
    | 'sequence'
    | 'notification queue'
    | 'publications';
  /** `ok`: nothing to do. `warn`: somebody should look. `error`: the node takes no part. */
  readonly status: 'ok' | 'warn' | 'error';
  /** How it stands; and unless that is `ok`, what to do. */
  readonly message: string;
}

/** How a node does. Every check is listed, also one that is `ok`. */
export interface Health {
  /** The worst status of the checks. `error`: the node takes no part, and is not ready. `warn`: it does, and somebody should look. */
  readonly status: 'ok' | 'warn' | 'error';
  /** All checks, in the order of the names of {@link HealthCheck}. */
  readonly checks: readonly HealthCheck[];
}

/** The part of the metrics that the nodes of an input share: read from the database. */
export interface SharedMetrics {
  /** Changes that are not acknowledged. */
  readonly backlog: number;
  /** The age of the oldest of them, by the database's clock; null when there is none. */
  readonly oldestAgeSeconds: number | null;
  /** Events that have failed and come again. */
  readonly retrying: number;
  /** Events that were parked and are neither redriven nor discarded. */
  readonly parked: number;
}

/** Numbers for monitoring. Counters count what this node did since the input was made; they never fall. */
export interface Metrics extends SharedMetrics {
  /** A gauge: events that this node's consumer has in hand. */
  readonly inFlight: number;
  /** A counter: events that were handed out, also those that came again. */
  readonly handedOut: number;
  /** A counter: events that the consumer has acknowledged. */
  readonly acknowledged: number;
  /** A counter: events among those handed out that had failed before, or that this node had handed out before. */
  readonly redelivered: number;
  /** A counter: statements for which the condition `when` of their table has failed, as this node read them. */
  readonly conditionErrors: number;
  /** A gauge: keys that are held up here by an event that has failed and waits for its next attempt. */
  readonly blockedKeys: number;
}
