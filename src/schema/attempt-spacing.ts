/**
 * Keeps attempts to get a lock apart. While a DDL statement waits for a lock, every later writer of that table waits behind the
 * statement. So after an attempt that took some time, the next attempt on any table starts only after REST times as long: together,
 * the attempts of one node hold writers up for less than five percent of the time.
 */
import { setTimeout as delay } from 'node:timers/promises';

const REST = 20;

/** The longest time that a timer can wait. */
const MAX_PAUSE = 2 ** 31 - 1;

export class AttemptSpacing {
  /** When the next attempt may start; in milliseconds of the monotonic clock. */
  #notBefore = 0;

  get notBefore(): number {
    return this.#notBefore;
  }

  /** To be called after an attempt that may have waited for a lock. */
  noteAttempt(began: number): void {
    const now = performance.now();
    this.#notBefore = now + REST * (now - began);
  }

  /** Waits until the next attempt may start. @throws the reason of `signal` when that aborts first */
  async rest(signal?: AbortSignal): Promise<void> {
    // A timer may fire a fraction of a millisecond early.
    for (let left; (left = this.#notBefore - performance.now()) > 0;)
      await pause(Math.min(left, MAX_PAUSE), signal);
  }
}

/** @throws the reason of `signal` when that aborts first */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  signal?.throwIfAborted();
  await delay(ms, undefined, signal ? { signal } : {}).catch((error: unknown) => {
    signal?.throwIfAborted();
    throw error;
  });
}
