/** The changes that a term has read and that wait for the consumer, in the order in which they came. */
import type { Change } from '../capture/change.ts';
import { Wakeup } from '../postgres/wakeup.ts';

/** The weight of changes that were taken and may still take up space. */
const SLACK = 1000;

export class ChangeBuffer {
  #changes: Change[] = [];
  #next = 0;
  #taken = 0;
  /** The weight of the changes that wait. */
  weight = 0;
  /** Called when there is room again. */
  readonly roomMade = new Wakeup();

  get isEmpty(): boolean {
    return this.#next === this.#changes.length;
  }

  push(changes: readonly Change[]): void {
    for (const change of changes) {
      this.#changes.push(change);
      this.weight += change.weight;
    }
  }

  take(): Change {
    const change = this.#changes[this.#next++]!;
    const { weight } = change;
    this.weight -= weight;
    this.#taken += weight;
    if (this.isEmpty || this.#taken >= SLACK) {
      this.#changes = this.#changes.slice(this.#next);
      this.#next = 0;
      this.#taken = 0;
      this.roomMade.wake();
    }
    return change;
  }

  sequences(): Set<string | null> {
    return new Set(this.#changes.slice(this.#next).map(({ sequence }) => sequence));
  }

  clear(): void {
    this.#changes = [];
    this.#next = 0;
    this.#taken = 0;
    this.weight = 0;
    this.roomMade.wake();
  }
}
