/** Tells of events that the consumer has had in hand for long, each once: forgotten acknowledgements, handlers that hang. */
import type { Notify } from '../api/lifecycle-events.ts';
import type { Held } from './lane-delivery.ts';

export class SlowWatch {
  readonly #after: number;
  readonly #notify: Notify;
  readonly #told = new WeakSet<Held>();
  #timer: NodeJS.Timeout | null = null;

  constructor(after: number, notify: Notify) {
    this.#after = after;
    this.#notify = notify;
  }

  /** Watches what is in hand, the oldest first. */
  watch(inHand: ReadonlyMap<unknown, Held>, delay = this.#after): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      const now = performance.now();
      for (const held of inHand.values()) {
        if (this.#told.has(held)) continue;
        const left = held.since + this.#after - now;
        if (left > 0) return this.watch(inHand, left);
        this.#told.add(held);
        const { sequence, location, id } = held.event;
        this.#notify('slow', { sequence, location, id, duration: now - held.since });
      }
    }, delay);
    this.#timer.unref();
  }

  stop(): void {
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
