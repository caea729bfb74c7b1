/**
 * The events that pass between a node and its consumer: counted, and published to subscribers. It lasts as long as the input. Each term's
 * delivery tells it when an event is handed out, when the consumer is done with one, and which events were in hand at the term's end.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import type { ProcessMessage } from '../api/diagnostics.ts';
import { channels } from './channels.ts';

export class Traffic {
  readonly #input: string;
  handedOut = 0;
  acknowledged = 0;
  redelivered = 0;
  /** Events that come again although they have not failed, by public sequences: the last term had them in hand at its end, for instance. */
  #unfinished = new Set<string>();

  /** `input`: the input's id. */
  constructor(input: string) {
    this.#input = input;
  }

  onHandOut(event: ChangeEvent): void {
    this.handedOut++;
    // As a rule nothing is unfinished, and nothing is looked up.
    const wasInHand = this.#unfinished.size > 0 && this.#unfinished.delete(event.sequence!);
    if (wasInHand || event.attempt > 1) this.redelivered++;
    if (channels.handOut.hasSubscribers) channels.handOut.publish({ input: this.#input, event });
  }

  /** Runs a handler on the event. */
  process(event: ChangeEvent, handler: () => unknown): unknown {
    const { start, end, asyncStart, asyncEnd, error } = channels.process;
    // Node.js has TracingChannel.hasSubscribers only from 20.13 on.
    const isTraced =
      start.hasSubscribers ||
      end.hasSubscribers ||
      asyncStart.hasSubscribers ||
      asyncEnd.hasSubscribers ||
      error.hasSubscribers;
    if (!isTraced) return handler();
    const message: ProcessMessage = { input: this.#input, event };
    // When the function runs, the subscribers of `start` have the message.
    return channels.process.tracePromise(
      async () => (message.around ? message.around(handler) : handler()),
      message,
    );
  }

  /** `sequence`: the public one. */
  onAcknowledge(sequence: string): void {
    this.acknowledged++;
    if (channels.acknowledge.hasSubscribers) channels.acknowledge.publish({ input: this.#input, sequence });
  }

  /** The event comes again, and has not failed. `sequence`: the public one. */
  onReturn(sequence: string): void {
    this.#unfinished.add(sequence);
  }

  /** To be called when a term ends, with the public sequences of what is in hand. */
  onForget(sequences: Iterable<string>): void {
    this.#unfinished = new Set(sequences);
  }
}
