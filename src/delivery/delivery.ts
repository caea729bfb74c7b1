/**
 * What one term has to hand out, and what of it the consumer has in hand.
 *
 *   open --stop()--> stopped --forget()--> over
 *
 * A delivery belongs to one term and never opens again: the next term has a delivery of its own, and nothing of an ended term has
 * to be taken back. Open, it takes changes and hands them out. Stopped, it hands out nothing more; its buffer is empty, since the
 * log has the changes, and what is in hand can still be acknowledged. Over, nothing is in hand any more: what the consumer has comes
 * again, here or elsewhere.
 */
import type { ChangeEvent } from '../api/change-event.ts';
import type { Change } from '../capture/change.ts';
import type { Sink } from '../capture/sink.ts';
import type { Traffic } from '../observe/traffic.ts';
import { ChangeBuffer } from './change-buffer.ts';
import type { Clock } from './clock.ts';
import { eventOf } from './event.ts';
import { InHandInOrder } from './in-hand.ts';
import type { Decoder } from './row-decoder.ts';

export interface DeliveryOptions {
  /** The id of the input. */
  readonly trigger: string;
  readonly fencingToken: string;
  readonly maxInFlight: number;
  readonly clock: Clock;
  readonly decoder: Decoder;
  readonly traffic: Traffic;
  /** Asked before every event that is handed out. */
  readonly mayHandOut: () => boolean;
  /** Called when the consumer asked for the next event and so is done with this one; with `ack: 'auto'` only. */
  readonly acknowledge: (sequence: string) => void;
  /** Called when there may be something to hand out. */
  readonly ready: () => void;
}

/** The weight of changes that may wait for the consumer. */
export const CAPACITY = 4000;

export class Delivery implements Sink {
  readonly #options: DeliveryOptions;
  readonly #inHand: InHandInOrder;
  readonly #buffer = new ChangeBuffer();
  #isStopped = false;

  constructor(options: DeliveryOptions) {
    this.#options = options;
    this.#inHand = new InHandInOrder(options.clock);
  }

  get room(): number {
    return CAPACITY - this.#buffer.weight;
  }

  get roomApart(): number {
    return this.room;
  }

  /** How many events the consumer has in hand. */
  get inHand(): number {
    return this.#inHand.size;
  }

  /** No event of it can fail. */
  readonly blockedKeys = 0;

  push(changes: readonly Change[]): void {
    if (this.#isStopped) return;
    this.#buffer.push(changes);
    this.#options.ready();
  }

  async waitForRoom(weight: number, signal: AbortSignal): Promise<void> {
    while (this.room < weight && !signal.aborted) await this.#buffer.roomMade.wait(Infinity, signal);
  }

  /** Whether an event can be handed out at this moment. */
  get canHandOut(): boolean {
    return (
      !this.#buffer.isEmpty && this.#inHand.size < this.#options.maxInFlight && this.#options.mayHandOut()
    );
  }

  /** Whether nothing is in hand, and nothing can be handed out. */
  get isQuiet(): boolean {
    return this.#inHand.size === 0 && !this.canHandOut;
  }

  /** Hands the next event out. To be called when `canHandOut`. */
  handOut(): ChangeEvent {
    const { trigger, fencingToken, decoder, traffic } = this.#options;
    const change = this.#buffer.take();
    const event = eventOf(change, trigger, fencingToken, decoder);
    if (change.sequence !== null) this.#inHand.add(change.sequence, event.sequence!);
    traffic.onHandOut(event);
    return event;
  }

  /** The consumer is done with all that it has in hand. */
  acknowledgeInHand(): void {
    const { acknowledge, traffic } = this.#options;
    for (let held = this.#inHand.take(); held; held = this.#inHand.take()) {
      acknowledge(held.sequence);
      traffic.onAcknowledge(held.publicSequence);
    }
  }

  /** The consumer is done with this event. Returns whether it was in hand. */
  settle(sequence: string): boolean {
    const held = this.#inHand.remove(sequence);
    if (held) this.#options.traffic.onAcknowledge(held.publicSequence);
    this.#options.ready();
    return held !== null;
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  settled(limit: number, signal: AbortSignal): Promise<void> {
    return this.#inHand.empty(limit, signal);
  }

  /** Hands out nothing more. */
  stop(): void {
    this.#isStopped = true;
    this.#buffer.clear();
  }

  /** Hands out nothing more, and neither waits for what is in hand nor acknowledges it. */
  forget(): void {
    this.stop();
    if (this.#inHand.size > 0)
      this.#options.traffic.onForget([...this.#inHand.values()].map(({ publicSequence }) => publicSequence));
    this.#inHand.forget();
  }
}
