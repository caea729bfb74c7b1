/** A pause that somebody can cut short. A call of `wake` that comes before the pause is not lost. For one waiter at a time. */
export class Wakeup {
  #called = false;
  #waiting: (() => void) | undefined;

  wake(): void {
    this.#called = true;
    this.#waiting?.();
  }

  /** Resolves after `ms`, when `wake` is called or was called since the last `wait`, or when `signal` aborts. */
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
