import { getEventListeners } from 'node:events';
import { expect, test, vi } from 'vitest';
import { Wakeup } from '../../src/postgres/wakeup.ts';

const never = new AbortController().signal;

test('a wait ends when it is woken', async () => {
  const wakeup = new Wakeup();
  const waiting = wakeup.wait(Infinity, never);
  wakeup.wake();
  await expect(waiting).resolves.toBeUndefined();
});

test('a wait ends after its time, and not before', async () => {
  vi.useFakeTimers();
  try {
    let isOver = false;
    const waiting = new Wakeup().wait(1000, never).then(() => (isOver = true));
    await vi.advanceTimersByTimeAsync(999);
    expect(isOver).toBe(false);
    await vi.advanceTimersByTimeAsync(1);
    await waiting;
  } finally {
    vi.useRealTimers();
  }
});

test('a wait ends without an error when its signal aborts, and leaves no listener', async () => {
  const stop = new AbortController();
  const waiting = new Wakeup().wait(Infinity, stop.signal);
  stop.abort(new Error('enough'));
  await waiting;
  expect(getEventListeners(stop.signal, 'abort')).toEqual([]);
});

test('a call of wake that comes before the wait is not lost, and counts once', async () => {
  const wakeup = new Wakeup();
  wakeup.wake();
  await wakeup.wait(Infinity, never);
  let isOver = false;
  const stop = new AbortController();
  const waiting = wakeup.wait(Infinity, stop.signal).then(() => (isOver = true));
  await new Promise(setImmediate);
  expect(isOver).toBe(false);
  stop.abort();
  await waiting;
});
