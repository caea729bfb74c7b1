/** A pause that can be cut short, without losing a call to do so that comes before the pause. */
export class Wakeup {
  #called = false;
  #waiting: (() => void) | undefined;

  wake(): void {
    this.#called = true;
    this.#waiting?.();
  }

  /** Resolves after `ms`, at once when `wake` has been called since the last time, or when `signal` aborts. */
  async wait(ms: number, signal: AbortSignal): Promise<void> {
    if (!this.#called && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          this.#waiting = undefined;
          resolve();
        };
        const timer = Number.isFinite(ms) ? setTimeout(done, ms) : undefined;
        signal.addEventListener('abort', done);
        this.#waiting = done;
      });
    }
    this.#called = false;
  }
}
