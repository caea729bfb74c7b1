/** A clock that stands still until it is advanced. */
import { setImmediate } from 'node:timers/promises';
import type { Clock, Timer } from '../delivery/clock.ts';

interface Waiting {
  readonly due: number;
  readonly task: () => void;
}

export class VirtualClock implements Clock {
  readonly #onTimer: () => void;
  readonly #waiting = new Set<Waiting>();
  /** When it stood at zero, in milliseconds since 1970. */
  readonly #began = Date.now();
  #now = 0;
  /** When all that it is being advanced by has passed. */
  #end = 0;

  /** `onTimer` is called whenever something begins to wait. */
  constructor(onTimer: () => void) {
    this.#onTimer = onTimer;
  }

  now(): number {
    return this.#now;
  }

  /** ISO 8601, to the microsecond. */
  get time(): string {
    return new Date(this.#began + this.#now).toISOString().replace('Z', '000Z');
  }

  after(milliseconds: number, task: () => void): Timer {
    const waiting = { due: this.#now + milliseconds, task };
    this.#waiting.add(waiting);
    this.#onTimer();
    return { cancel: () => void this.#waiting.delete(waiting) };
  }

  /** What has begun goes on between two tasks: a task may lead to another one that is due before the end. */
  async advance(milliseconds: number): Promise<void> {
    const end = (this.#end += milliseconds);
    for (;;) {
      await setImmediate();
      const next = [...this.#waiting].toSorted((a, b) => a.due - b.due)[0];
      if (!next || next.due > end) break;
      this.#waiting.delete(next);
      this.#now = Math.max(this.#now, next.due);
      next.task();
    }
    this.#now = Math.max(this.#now, end);
  }
}
