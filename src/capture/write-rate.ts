/**
 * How busy the database is: the number of changes in about the last fifty milliseconds, older ones counting less and
 * less. Between quiet and busy the reader stays as it is, asleep or awake.
 */
const WINDOW = 50;
const BUSY = 32;
const QUIET = 8;

/** Between passes of the log: a millisecond for so many changes in the window. More would wait, and be dearer one by one. */
const PER_MILLISECOND = 4;
const PAUSE = { min: 2, max: 20 };

export class Load {
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
   * Milliseconds until the next look at the log: the busier, the longer, so that a pass finds many changes. A pass and
   * its acknowledgement cost as much as the reading of some hundred changes, and take that from the writers.
   */
  get pause(): number {
    return Math.min(Math.max(this.#now() / PER_MILLISECOND, PAUSE.min), PAUSE.max);
  }

  #now(): number {
    return this.#level * Math.exp((this.#at - performance.now()) / WINDOW);
  }
}
