/**
 * How busy the database is: the number of changes in about the last fifty milliseconds, older ones counting less and
 * less. Between quiet and busy the reader stays as it is, asleep or awake.
 */
const WINDOW = 50;
const BUSY = 32;
const QUIET = 8;

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

  #now(): number {
    return this.#level * Math.exp((this.#at - performance.now()) / WINDOW);
  }
}
