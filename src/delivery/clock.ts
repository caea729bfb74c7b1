/** The time by which delivery goes: the delays of retries, what is slow, and how long an ending waits. The test input has a clock of its own. */

export interface Clock {
  /** Milliseconds; they never go back. */
  now(): number;
  /** Calls `task` after so many milliseconds, unless that is cancelled. Keeps no process alive. */
  after(milliseconds: number, task: () => void): Timer;
}

export interface Timer {
  cancel(): void;
}

/** The longest time that a timer can wait. */
const MAX_DELAY = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  after: (milliseconds, task) => {
    const timer = setTimeout(task, Math.min(milliseconds, MAX_DELAY)).unref();
    return { cancel: () => clearTimeout(timer) };
  },
};
