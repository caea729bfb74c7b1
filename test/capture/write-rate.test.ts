import { beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { WriteRate } from '../../src/capture/write-rate.ts';

const clock = { now: 0 };

beforeEach(() => {
  clock.now = 1000;
  const spy = vi.spyOn(performance, 'now').mockImplementation(() => clock.now);
  onTestFinished(() => spy.mockRestore());
});

test('no changes are quiet, and the next pass follows soon', () => {
  const rate = new WriteRate();
  expect([rate.isQuiet, rate.isBusy, rate.pause]).toEqual([true, false, 1]);
});

test('is quiet below 60 changes, busy above 75, and neither in between', () => {
  const rate = new WriteRate();
  rate.add(59);
  expect([rate.isQuiet, rate.isBusy]).toEqual([true, false]);
  rate.add(1);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, false]);
  rate.add(15);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, false]);
  rate.add(1);
  expect([rate.isQuiet, rate.isBusy]).toEqual([false, true]);
});

test('changes count less by a factor of e every 50 ms', () => {
  const rate = new WriteRate();
  rate.add(76);
  clock.now += 2;
  expect(rate.isBusy).toBe(false);
  clock.now += 8; // 76 / e^0.2 is 62.2
  expect(rate.isQuiet).toBe(false);
  clock.now += 2;
  expect(rate.isQuiet).toBe(true);
});

test('new changes are added to the decayed count of the earlier ones', () => {
  const rate = new WriteRate();
  rate.add(50 * Math.E);
  clock.now += 50;
  rate.add(25);
  expect(rate.isBusy).toBe(false);
  rate.add(0.1);
  expect(rate.isBusy).toBe(true);
});

test('a pause is as long as the last passes took, between 1 and 20 ms', () => {
  const rate = new WriteRate();
  const pauseAfter = (passTime: number) => {
    for (let n = 0; n < 100; n++) rate.took(passTime);
    return Math.round(rate.pause * 100) / 100;
  };
  expect([0.2, 3, 9, 500, 0.2].map(pauseAfter)).toEqual([1, 3, 9, 20, 1]);
  rate.took(3);
  expect(rate.pause).toBeLessThan(2);
  // A pass that waited for a slow consumer is soon forgotten.
  rate.took(60_000);
  for (let n = 0; n < 10; n++) rate.took(0.2);
  expect(rate.pause).toBeLessThan(2);
});

describe('transactions that wait for each other', () => {
  /** A transaction every 10 ms; of four, `crowded` found another one about to notify. */
  function notify(rate: WriteRate, milliseconds: number, crowded: number): void {
    for (let n = 0; n < milliseconds / 10; n++) {
      rate.addNotified(1, n % 4 < crowded);
      clock.now += 10;
    }
  }

  test('wake the reader when most of them do for 300 ms', () => {
    const rate = new WriteRate();
    notify(rate, 300, 3);
    expect(rate.isBusy).toBe(false);
    notify(rate, 100, 4);
    expect(rate.isBusy).toBe(true);
  });

  test('do not when they are half of all, few, or soon over', () => {
    const rate = new WriteRate();
    notify(rate, 2000, 2);
    for (let n = 0; n < 10; n++) {
      notify(rate, 200, 4);
      notify(rate, 200, 0);
    }
    for (let n = 0; n < 100; n++) {
      rate.addNotified(1, true);
      clock.now += 50;
    }
    expect(rate.isQuiet).toBe(true);
  });

  test('make the reader wary for a quarter of a second, and for longer if it happens again', () => {
    const rate = new WriteRate();
    const isWary = () => {
      rate.add(40);
      const { isQuiet } = rate;
      clock.now += 125;
      return !isQuiet;
    };
    const wary = () => Array.from({ length: 6 }, isWary);
    notify(rate, 400, 4);
    expect(wary()).toEqual([true, true, false, false, false, false]);
    clock.now -= 375;
    notify(rate, 400, 4);
    expect(wary()).toEqual([true, true, true, true, false, false]);
    clock.now += 10_000;
    notify(rate, 400, 4);
    expect(wary()).toEqual([true, true, false, false, false, false]);
  });
});
