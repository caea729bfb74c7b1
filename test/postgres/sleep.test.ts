import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { sleep } from '../../src/postgres/sleep.ts';

const A_DAY = 86_400_000;

/** How many timers keep the process alive. */
const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;

test('lasts for the given time', async () => {
  const began = performance.now();
  await sleep(20, new AbortController().signal);
  // A timer may fire up to a millisecond early.
  expect(performance.now() - began).toBeGreaterThan(18);
});

test('ends early when the signal aborts, without an error, and leaves neither timer nor listener', async () => {
  const before = timers();
  const abort = new AbortController();
  const sleeping = sleep(A_DAY, abort.signal);
  expect(timers()).toBe(before + 1);
  abort.abort(new Error('enough'));
  await expect(sleeping).resolves.toBeUndefined();
  expect(timers()).toBe(before);
  expect(getEventListeners(abort.signal, 'abort')).toEqual([]);
});

test('leaves no listener on a signal that does not abort', async () => {
  const { signal } = new AbortController();
  await sleep(1, signal);
  expect(getEventListeners(signal, 'abort')).toEqual([]);
});

test('does not begin when the signal has aborted before', async () => {
  await expect(sleep(A_DAY, AbortSignal.abort())).resolves.toBeUndefined();
});
