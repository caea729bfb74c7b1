/** A consumer that never waits would keep timers and sockets waiting, and so lose the lease: the event loop has to turn. */

/** For how many milliseconds events may be handed out before the event loop has to turn. */
const TURN = 20;

export class Turn {
  readonly #next: () => void;
  /** When the first event was handed out since the event loop last turned. */
  #began: number | null = null;

  /** `next` is called in the next turn. */
  constructor(next: () => void) {
    this.#next = next;
  }

  /** Whether the rest has to wait for the next turn. */
  get isOver(): boolean {
    const now = performance.now();
    if (this.#began === null) {
      this.#began = now;
      setImmediate(() => {
        this.#began = null;
        this.#next();
      });
    }
    return now - this.#began > TURN;
  }
}
