import { expect, test } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { systemClock } from '../../src/delivery/clock.ts';
import { CAPACITY } from '../../src/delivery/delivery.ts';
import type { KnownFailures } from '../../src/delivery/known-failures.ts';
import type { LaneBuffer } from '../../src/delivery/lane-buffer.ts';
import { Ticket } from '../../src/delivery/line.ts';
import { TurnOrder } from '../../src/delivery/turn-order.ts';
import { FORGETFUL } from '../support/served-term.ts';

test('keeps no more suspects back than there would be room for', () => {
  const details = { before: null, after: 'x'.repeat(50_000), shape: '[]', origin: null, context: null };
  let weight = 0;
  const take = () => {
    const change = new Change('1'.repeat(48), 'items', 'read', '1', 'id', null, null, '', details);
    weight += change.weight;
    if (weight > 10 * CAPACITY) return null;
    return new Ticket(change, null, null, null);
  };
  const order = new TurnOrder({
    clock: systemClock,
    waiting: { take } as Partial<LaneBuffer> as LaneBuffer,
    known: { of: () => ({ attempts: 0, deaths: 1, due: 0 }) } as Partial<KnownFailures> as KnownFailures,
    isInHand: () => false,
    condemn: () => {},
  });
  order.suspect({
    concurrency: 1,
    first: 1,
    failures: FORGETFUL,
    written: async () => {},
    ready: () => {},
    fail: () => {},
  });
  // A reader would bring more and more.
  expect(order.next()).toBeNull();
  expect(weight).toBeLessThan(2 * CAPACITY);
});
