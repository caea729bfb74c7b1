import type { Change } from './change.ts';

/** Where the changes go, in the order in which they are to be handed out. */
export interface Sink {
  push(changes: readonly Change[]): void;
  /** For how many changes there is room; negative if more were pushed. */
  readonly room: number;
  /** Resolves when there is room for `count` changes, or when `signal` aborts. */
  waitForRoom(count: number, signal: AbortSignal): Promise<void>;
}
