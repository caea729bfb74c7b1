/**
 * What a node's process is told at its start, and what it tells. It tells by lines in a file, written before anything
 * else is done about them, so that no signal can come between; what its parent has to know at once it sends as well.
 * Times are those of Date.now().
 */
import type { ChangeEvent, InputState, LeaseSettings } from '../../src/index.ts';

export interface NodeTask {
  readonly url: string;
  readonly schemas: string[];
  /** Those that differ from the defaults. */
  readonly lease: Partial<LeaseSettings>;
  /** `transaction`: with a client of the consumer's own. */
  readonly ack: 'auto' | 'manual' | 'transaction';
  /** How long the consumer works on an event, at most, in milliseconds. */
  readonly work: number;
  readonly reconnect: { minDelay: number; maxDelay: number };
  /** Where the reports go, one JSON text a line. */
  readonly journal: string;
}

export type Report =
  | { kind: 'state'; state: InputState; token: string | null; at: number }
  /** The consumer has an event in hand. */
  | { kind: 'event'; event: ChangeEvent; at: number }
  /** What `ack(event)` came to; code null: it resolved, and with a client of the consumer's own, the transaction is committed. */
  | { kind: 'ack'; sequence: string; token: string; code: string | null; at: number }
  | { kind: 'reconnecting'; code: string; message: string; at: number }
  /** The process itself got no time. */
  | { kind: 'stall'; from: number; to: number }
  /** handle() threw, or the constructor; the latter is tried again. */
  | { kind: 'failed'; where: 'constructor' | 'handle'; code: string; message: string; at: number }
  | { kind: 'ended' };

export const INPUT_NAME = 'chaos-input';
