/** What the consumer has in hand: the events that were handed out and are not over yet. */
import { Wakeup } from '../postgres/wakeup.ts';
import type { Clock } from './clock.ts';

/** Events that are found by their keys, as a rule their changes' numbers. */
export class InHand<Key, Held> {
  readonly #held = new Map<Key, Held>();
  readonly #emptied: Emptied;

  constructor(clock: Clock) {
    this.#emptied = new Emptied(clock, () => this.size);
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
    if (wasInHand) this.#emptied.check();
    return wasInHand;
  }

  /** The events come again, here or elsewhere. */
  forget(): void {
    this.#held.clear();
    this.#emptied.check();
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  empty(limit: number, signal: AbortSignal): Promise<void> {
    return this.#emptied.wait(limit, signal);
  }
}

/** An event by the number of its change, and by its public sequence. */
interface Named {
  readonly sequence: string;
  readonly publicSequence: string;
}

/**
 * Events that are taken in the order in which they were added. As a rule there is one: to add it to a map and to delete it costs several times as
 * much.
 */
export class InHandInOrder {
  readonly #held: Named[] = [];
  readonly #emptied: Emptied;

  constructor(clock: Clock) {
    this.#emptied = new Emptied(clock, () => this.size);
  }

  get size(): number {
    return this.#held.length;
  }

  /** The oldest first. */
  values(): Iterable<Named> {
    return this.#held;
  }

  add(sequence: string, publicSequence: string): void {
    this.#held.push({ sequence, publicSequence });
  }

  /** Takes the oldest event; null if there is none. */
  take(): Named | null {
    const held = this.#held.shift() ?? null;
    if (held) this.#emptied.check();
    return held;
  }

  /** Takes the event of this change; null if it is not in hand. */
  remove(sequence: string): Named | null {
    const at = this.#held.findIndex((each) => each.sequence === sequence);
    if (at === -1) return null;
    const [held] = this.#held.splice(at, 1);
    this.#emptied.check();
    return held!;
  }

  /** The events come again, here or elsewhere. */
  forget(): void {
    this.#held.length = 0;
    this.#emptied.check();
  }

  /** Resolves when nothing is in hand, after `limit` milliseconds, or when `signal` aborts. */
  empty(limit: number, signal: AbortSignal): Promise<void> {
    return this.#emptied.wait(limit, signal);
  }
}

/** Tells when nothing is in hand any more. */
class Emptied {
  readonly #clock: Clock;
  readonly #size: () => number;
  readonly #wakeup = new Wakeup();

  constructor(clock: Clock, size: () => number) {
    this.#clock = clock;
    this.#size = size;
  }

  /** To be called when there is less in hand than before. */
  check(): void {
    if (this.#size() === 0) this.#wakeup.wake();
  }

  async wait(limit: number, signal: AbortSignal): Promise<void> {
    const wait = { isOver: limit <= 0 };
    const timer = Number.isFinite(limit)
      ? this.#clock.after(limit, () => {
          wait.isOver = true;
          this.#wakeup.wake();
        })
      : null;
    while (this.#size() > 0 && !wait.isOver && !signal.aborted) await this.#wakeup.wait(Infinity, signal);
    timer?.cancel();
  }
}
