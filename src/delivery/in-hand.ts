/** What the consumer has in hand: the events that were handed out and are not acknowledged yet, by their changes' numbers. */
import { Wakeup } from '../postgres/wakeup.ts';

export class InHand {
  /** From the number in the log to the public sequence. */
  readonly #sequences = new Map<string, string>();
  readonly #emptied = new Wakeup();

  get size(): number {
    return this.#sequences.size;
  }

  /** The public sequences. */
  get publicSequences(): Iterable<string> {
    return this.#sequences.values();
  }

  add(sequence: string, publicSequence: string): void {
    this.#sequences.set(sequence, publicSequence);
  }

  /** Undefined if the event is not in hand. */
  publicSequence(sequence: string): string | undefined {
    return this.#sequences.get(sequence);
  }

  /** Returns whether the event was in hand. */
  remove(sequence: string): boolean {
    const wasInHand = this.#sequences.delete(sequence);
    if (wasInHand && this.#sequences.size === 0) this.#emptied.wake();
    return wasInHand;
  }

  /** Gives every event to `each`, the oldest first; then nothing is in hand. */
  removeAll(each: (sequence: string, publicSequence: string) => void): void {
    for (const [sequence, publicSequence] of this.#sequences) each(sequence, publicSequence);
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
