/**
 * How busy the writers are: the number of changes in about the last fifty milliseconds. A change counts less the longer
 * ago it was. Above BUSY the reader wakes up, below QUIET it may fall asleep, and in between it stays as it is.
 */
const WINDOW = 50;
const BUSY = 32;
const QUIET = 8;

/** A pass waits a millisecond for so many changes in the window. */
const CHANGES_PER_MILLISECOND = 4;
const PAUSE = { min: 2, max: 20 };

export class WriteRate {
  #level = 0;
  #at = performance.now();

  add(changes: number): void {
    this.#level = this.#now() + changes;
    this.#at = performance.now();
  }

  get isBusy(): boolean {
    return this.#now() > BUSY;
  }

  get isQuiet(): boolean {
    return this.#now() < QUIET;
  }

  /**
   * Milliseconds until the next pass over the log. The busier the writers are, the longer the pause, so that a pass finds
   * many changes: a pass and its acknowledgement cost as much as the reading of some hundred changes, and take that from
   * the writers.
   */
  get pause(): number {
    return Math.min(Math.max(this.#now() / CHANGES_PER_MILLISECOND, PAUSE.min), PAUSE.max);
  }

  #now(): number {
    return this.#level * Math.exp((this.#at - performance.now()) / WINDOW);
  }
}
