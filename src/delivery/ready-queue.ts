/** What may be handed out now, in the order in which it became ready: changes that had to wait, or events that are made of them. */
import type { Change } from '../capture/change.ts';

/** How many taken ones may still take up space. */
const SLACK = 1000;

export class ReadyQueue<Item> {
  readonly #changeOf: (item: Item) => Change;
  #items: Item[] = [];
  #next = 0;
  #weight = 0;

  constructor(changeOf: (item: Item) => Change) {
    this.#changeOf = changeOf;
  }

  get size(): number {
    return this.#items.length - this.#next;
  }

  /** The weight of the changes. */
  get weight(): number {
    return this.#weight;
  }

  push(item: Item): void {
    this.#items.push(item);
    this.#weight += this.#changeOf(item).weight;
  }

  take(): Item | null {
    if (this.size === 0) return null;
    const item = this.#items[this.#next++]!;
    this.#weight -= this.#changeOf(item).weight;
    if (this.size === 0 || this.#next > SLACK) {
      this.#items = this.#items.slice(this.#next);
      this.#next = 0;
    }
    return item;
  }

  has(sequence: string): boolean {
    // Taken ones may still be in the array.
    return this.#items.some((item, n) => n >= this.#next && this.#changeOf(item).sequence === sequence);
  }

  clear(): void {
    this.#items = [];
    this.#next = 0;
    this.#weight = 0;
  }
}
