/** What the consumer has in hand: the events that were handed out and are not over yet, as a rule by their changes' numbers. */
import { Wakeup } from '../postgres/wakeup.ts';
import type { Clock } from './clock.ts';

export class InHand<Key, Held> {
  readonly #clock: Clock;
  readonly #held = new Map<Key, Held>();
  readonly #emptied = new Wakeup();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get size(): number {
    return this.#held.size;
  }

  /** The oldest first. */
  values(): Iterable<Held> {
    return this.#held.values();
  }

  add(key: Key, held: Held): void {
    this.#held.set(key, held);
  }

  has(key: Key): boolean {
    return this.#held.has(key);
  }

  /** Undefined if the event is not in hand. */
  get(key: Key): Held | undefined {
    return this.#held.get(key);
  }

  /** Returns whether the event was in hand. */
  remove(key: Key): boolean {
    const wasInHand = this.#held.delete(key);
    if (wasInHand && this.#held.size === 0) this.#emptied.wake();
    return wasInHand;
  }

  /** Gives every event to `each`, the oldest first; then nothing is in hand. */
  removeAll(each: (key: Key, held: Held) => void): void {
    // As a rule there is one, and to clear a map takes several times as long as to delete from it.
    for (const [key, held] of this.#held) {
      this.#held.delete(key);
      each(key, held);
    }
    this.#emptied.wake();
  }

  /** The events come again, here or elsewhere. */
  forget(): void {
    this.#held.clear();
    this.#emptied.wake();
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  async empty(limit: number, signal: AbortSignal): Promise<void> {
    const wait = { isOver: limit <= 0 };
    const timer = Number.isFinite(limit)
      ? this.#clock.after(limit, () => {
          wait.isOver = true;
          this.#emptied.wake();
        })
      : null;
    while (this.#held.size > 0 && !wait.isOver && !signal.aborted) await this.#emptied.wait(Infinity, signal);
    timer?.cancel();
  }
}
