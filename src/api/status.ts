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
  readonly id: string;
  readonly state: InputState;
  /** Events handed out and not yet acknowledged. */
  readonly inFlight: number;
  /** Notifications that claimed to be of our triggers and were not. */
  readonly forgedNotifications: number;
  /** Notifications that were skipped because of `foreignNotifications: 'ignore'`. */
  readonly ignoredNotifications: number;
}
