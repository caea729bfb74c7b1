import type { Change } from './change.ts';

/** Where the changes go, in the order in which they are to be handed out. */
export interface Sink {
  push(changes: readonly Change[]): void;
  /** For changes of which weight there is room; negative if more were pushed. */
  readonly room: number;
  /** Resolves when there is room for changes of that weight, or when `signal` aborts. */
  waitForRoom(weight: number, signal: AbortSignal): Promise<void>;
}
