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
  readonly consumer: ConsumerKind;
  /** Whether it was started when all is to be well: see {@link Calm}. */
  readonly calm: boolean;
  /** How long the consumer works on an event, at most, in milliseconds. */
  readonly work: number;
  readonly reconnect: { minDelay: number; maxDelay: number };
  readonly wakeup?: 'notify' | 'poll';
  /** Where the reports go, one JSON text a line. */
  readonly journal: string;
}

/**
 * How a node consumes: with `handle()`, acknowledging by the next pull (`auto`), by `ack` (`manual`), or in a transaction of the consumer's own
 * (`transaction`); or with `process()`, with a handler that is done (`process`) or acknowledges in its own transaction (`processTransaction`). The
 * handlers fail, hang, and kill their process.
 */
export const CONSUMERS = ['auto', 'manual', 'transaction', 'process', 'processTransaction'] as const;
export type ConsumerKind = (typeof CONSUMERS)[number];

/** What a node is sent when all is to be well: from then on, handlers fail only for events that are doomed. */
export type Calm = 'calm';

/** How often handlers of `process` fail before an event is parked. */
export const ATTEMPTS = 4;

export type Report =
  | { kind: 'state'; state: InputState; token: string | null; at: number }
  /** The consumer has an event in hand. */
  | { kind: 'event'; event: ChangeEvent; at: number }
  /** What `ack(event)` came to; code null: it resolved, and with a client of the consumer's own, the transaction is committed. */
  | { kind: 'ack'; sequence: string; token: string; code: string | null; at: number }
  /** The handler of process() has ended. `error`: how it failed. `isCounted`: whether that is a failure of the event. */
  | {
      kind: 'handled';
      sequence: string;
      token: string;
      attempt: number;
      error: string | null;
      isCounted: boolean;
      at: number;
    }
  /** The handler takes longer than the node may take to end. */
  | { kind: 'hangs'; sequence: string; token: string; at: number }
  /** The handler kills the process. */
  | { kind: 'dies'; at: number }
  | { kind: 'calm' }
  | { kind: 'reconnecting'; code: string; message: string; at: number }
  /** The process itself got no time. */
  | { kind: 'stall'; from: number; to: number }
  /** handle() threw, or the constructor; the latter is tried again. */
  | { kind: 'failed'; where: 'constructor' | 'handle'; code: string; message: string; at: number }
  | { kind: 'ended' };

export const INPUT_NAME = 'chaos-input';
