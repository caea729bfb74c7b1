import type { ChangeEvent } from './change-event.ts';

/** The messages of this package's channels of `node:diagnostics_channel`, by the channel's name. `input` is the input's id. */
export interface DiagnosticsMessages {
  /** An event is being handed to the consumer. */
  'dapper-postgres-input:hand-out': { readonly input: string; readonly event: ChangeEvent };
  /** The consumer is done with an event that it had in hand. */
  'dapper-postgres-input:acknowledge': { readonly input: string; readonly sequence: string };
  /** The lease was claimed, and later either released or lost. */
  'dapper-postgres-input:lease': {
    readonly input: string;
    readonly state: 'claimed' | 'released' | 'lost';
    readonly fencingToken: string;
  };
  /** The reader waits for notifications, or reads the change log. */
  'dapper-postgres-input:reader': { readonly input: string; readonly state: 'asleep' | 'awake' };
}

/**
 * The message of the tracing channel `dapper-postgres-input:process`: a handler's work on one event. Its five channels are named
 * `tracing:dapper-postgres-input:process:start`, and so on with `end`, `asyncStart`, `asyncEnd` and `error`.
 */
export interface ProcessMessage {
  /** The input's id. */
  readonly input: string;
  /** The event that the handler was called with. */
  readonly event: ChangeEvent;
  /** What the handler failed with. */
  error?: unknown;
  /**
   * A subscriber of `start` may put a function here. The function calls the handler and returns the handler's result, in the context of a
   * trace, for instance. A subscriber that finds a function here calls that function within its own.
   */
  around?: (handler: () => unknown) => unknown;
}
