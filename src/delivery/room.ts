/** How much waits in lanes, by its weight, and whether there is room for more. */
import type { Change } from '../capture/change.ts';
import { isInOrder } from './row-order.ts';

export class Room {
  readonly capacity: number;
  #weight = 0;
  #apart = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  /** The weight of what waits and can be read again in the log: in line, for its time, for DELETEs, or ready. */
  get weight(): number {
    return this.#weight;
  }

  /** The weight of all else that waits: what is redriven, was read by a backfill, or was announced by hand. */
  get apart(): number {
    return this.#apart;
  }

  has({ weight }: Change): boolean {
    return this.#weight + weight <= this.capacity;
  }

  take(change: Change): void {
    if (isInOrder(change)) this.#weight += change.weight;
    else this.#apart += change.weight;
  }

  free(change: Change): void {
    if (isInOrder(change)) this.#weight -= change.weight;
    else this.#apart -= change.weight;
  }

  clear(): void {
    this.#weight = 0;
    this.#apart = 0;
  }
}
