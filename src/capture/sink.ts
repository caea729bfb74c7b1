import type { Change } from './change.ts';

/**
 * How many events of rows that a backfill has read may be in chunks that are not over. After the death of a node at most these come
 * again.
 */
export const MAX_READS_OUT = 10_000;

/** Where the changes go, in the order in which they are to be handed out. */
export interface Sink {
  push(changes: readonly Change[]): void;
  /** For changes of which weight there is room; negative if more were pushed. */
  readonly room: number;
  /** The same for changes that no pass of the log brings: what was redriven, read by a backfill, or announced by hand. */
  readonly roomApart: number;
  /** Resolves when there is room for changes of that weight, or when `signal` aborts. */
  waitForRoom(weight: number, signal: AbortSignal): Promise<void>;
  /** Set if the sink may drop changes, and has the log read again for them. */
  readonly dropped?: DroppedChanges;
}

export interface DroppedChanges {
  /** Whether there are any. The reader stays awake: it can read again only what a pass has read. */
  readonly any: boolean;
  /** Whether some of them are wanted now. */
  readonly areWanted: boolean;
  /** Resolves when some are wanted, when there is room for changes of that weight, or when `signal` aborts. */
  waitForRoomOrWanted(weight: number, signal: AbortSignal): Promise<void>;
  /** Begins to read again from this sequence on; null if none are wanted. */
  begin(): Rereading | null;
}

export interface Rereading {
  readonly from: bigint;
  /** Takes what was read: all changes up to a sequence; null: all that have been pushed. */
  take(changes: readonly Change[], upto: bigint | null): void;
}
