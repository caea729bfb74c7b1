/** What the consumer has in hand: the sequences of the events that were handed out and are not acknowledged yet. */
import { Wakeup } from '../postgres/wakeup.ts';

export class InHand {
  readonly #sequences = new Set<string>();
  readonly #emptied = new Wakeup();

  get size(): number {
    return this.#sequences.size;
  }

  add(sequence: string): void {
    this.#sequences.add(sequence);
  }

  /** Returns whether the event was in hand. */
  remove(sequence: string): boolean {
    const wasInHand = this.#sequences.delete(sequence);
    if (wasInHand && this.#sequences.size === 0) this.#emptied.wake();
    return wasInHand;
  }

  /** Gives every sequence to `each`, the oldest first; then nothing is in hand. */
  removeAll(each: (sequence: string) => void): void {
    for (const sequence of this.#sequences) each(sequence);
    this.forget();
  }

  /** The events come again, here or elsewhere. */
  forget(): void {
    this.#sequences.clear();
    this.#emptied.wake();
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  async empty(limit: number, signal: AbortSignal): Promise<void> {
    const deadline = performance.now() + limit;
    while (this.#sequences.size > 0 && !signal.aborted) {
      const left = deadline - performance.now();
      if (left <= 0) return;
      await this.#emptied.wait(left, signal);
    }
  }
}
