import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { WriteRate } from '../../src/capture/write-rate.ts';

const clock = { now: 0 };

beforeEach(() => {
  clock.now = 1000;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => clock.now);
  onTestFinished(() => spy.mockRestore());
});

test('no changes are quiet, and the next pass follows soon', () => {
  const rate = new WriteRate();
  expect([rate.isQuiet, rate.isBusy, rate.pause]).toEqual([true, false, 2]);
});

test('is quiet below 8 changes, busy above 32, and neither in between', () => {
  const rate = new WriteRate();
  rate.add(7);
  expect([rate.isQuiet, rate.isBusy]).toEqual([true, false]);
  rate.add(1);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, false]);
  rate.add(24);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, false]);
  rate.add(1);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, true]);
});

test('changes count less by a factor of e every 50 ms', () => {
  const rate = new WriteRate();
  rate.add(33);
  clock.now += 2;
  expect(rate.isBusy).toBe(false);
  clock.now += 68; // 33 / e^1.4 is 8.1
  expect(rate.isQuiet).toBe(false);
  clock.now += 2;
  expect(rate.isQuiet).toBe(true);
});

test('new changes are added to the decayed count of the earlier ones', () => {
  const rate = new WriteRate();
  rate.add(20 * Math.E);
  clock.now += 50;
  rate.add(12);
  expect(rate.isBusy).toBe(false);
  rate.add(0.1);
  expect(rate.isBusy).toBe(true);
});

test.each([
  [4, 2],
  [40, 10],
  [80, 20],
  [1_000_000, 20],
])('after %i changes at once the next pass waits %i ms', (changes, pause) => {
  const rate = new WriteRate();
  rate.add(changes);
  expect(rate.pause).toBe(pause);
});
