/** Tells of events that the consumer has had in hand for long, each once: forgotten acknowledgements, handlers that hang. */
import type { Notify } from '../api/lifecycle-events.ts';
import type { Clock, Timer } from './clock.ts';
import type { InHand } from './in-hand.ts';
import type { Held } from './lane-delivery.ts';

export class SlowWatch {
  readonly #after: number;
  readonly #notify: Notify;
  readonly #told = new WeakSet<Held>();
  readonly #clock: Clock;
  #timer: Timer | null = null;

  constructor(clock: Clock, after: number, notify: Notify) {
    this.#clock = clock;
    this.#after = after;
    this.#notify = notify;
  }

  /** Watches what is in hand, the oldest first. */
  watch(inHand: InHand<unknown, Held>, delay = this.#after): void {
    if (this.#timer) return;
    this.#timer = this.#clock.after(delay, () => {
      this.#timer = null;
      const now = this.#clock.now();
      for (const held of inHand.values()) {
        if (this.#told.has(held)) continue;
        const left = held.since + this.#after - now;
        if (left > 0) return this.watch(inHand, left);
        this.#told.add(held);
        const { sequence, location, id } = held.event;
        this.#notify('slow', { sequence, location, id, duration: now - held.since });
      }
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
