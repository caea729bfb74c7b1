import type { Notify } from '../api/lifecycle-events.ts';
import type { Failures } from '../capture/failures.ts';
import type { Clock } from './clock.ts';
import type { Delivery } from './delivery.ts';
import type { LaneDelivery } from './lane-delivery.ts';
import type { Decoder } from './row-decoder.ts';

/** What a term gives to the consumer of its events. */
export interface ServedTerm {
  /** The id of the input. */
  readonly trigger: string;
  readonly fencingToken: string;
  readonly clock: Clock;
  readonly decoder: Decoder;
  /** Asked before every event that is handed out. */
  readonly mayHandOut: () => boolean;
  /** Acknowledges a change, soon. */
  readonly acknowledge: (sequence: string) => void;
  readonly failures: () => Failures;
  /** Resolves when what was acknowledged is gone from the log, but for what callers' open transactions hold. */
  readonly written: () => Promise<void>;
  /** What is acknowledged and may still be in the log. */
  readonly pending: () => ReadonlySet<string>;
  /** Whether a change that a transaction of the consumer's has acknowledged is gone from the log, once that transaction has ended. */
  readonly isGone: (sequence: string) => Promise<boolean>;
  /** Whether the term has the lease, as the database says now. */
  readonly isLeaseHeld: () => Promise<boolean>;
  /** Called when the log has to be read again for changes that were dropped. */
  readonly readAgain: () => void;
  /** Called for a row that a backfill has read, and that has to be read anew. */
  readonly dropRead: (sequence: string) => void;
  readonly notify: Notify;
  /** Called when something can't be written although the lease is held. */
  readonly fail: (error: unknown) => void;
}

/** Who gets the events of one term after the other: the iterator of `handle()`, or the handler of `process()`. */
export interface Consumer {
  /** How many events it has in hand that are waited for. */
  readonly inHand: number;
  /** How many keys are held up by an event that waits for its next attempt. */
  readonly blockedKeys: number;
  /** For how long a term that ends waits for what is in hand, in milliseconds; null: for the lease's duration. */
  readonly drainTimeout: number | null;
  /** How many events its handlers have at once; null if it has none, and nobody is suspected. */
  readonly concurrency: number | null;
  /** Whether a call of close() inside the consumer is to return, because what is in hand waits for the consumer's next pull. */
  readonly mustPull: boolean;
  /** Begins with what a new term brings. */
  open(term: ServedTerm): Delivery | LaneDelivery;
  /** Hands out what there is. To be called when `mayHandOut` may have changed its mind. */
  serve(): void;
  /** The iteration has ended: with an error, which may be undefined, or without. */
  end(failure?: { readonly error: unknown }): void;
}
