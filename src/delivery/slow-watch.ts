/** Tells of events that the consumer has had in hand for long, each once: forgotten acknowledgements, handlers that hang. */
import type { Clock, Timer } from './clock.ts';
import type { InHand } from './in-hand.ts';
import type { Held } from './lane-delivery.ts';

export class SlowWatch {
  readonly #after: number;
  readonly #tell: (held: Held, duration: number) => void;
  readonly #told = new WeakSet<Held>();
  readonly #clock: Clock;
  #timer: Timer | null = null;

  constructor(clock: Clock, after: number, tell: (held: Held, duration: number) => void) {
    this.#clock = clock;
    this.#after = after;
    this.#tell = tell;
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
        this.#tell(held, now - held.since);
      }
    });
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }
}
