/**
 * A delivery with an acknowledgement by hand: several events of a row are in hand, while what was refused is read again in the log. And one with handlers,
 * which makes events ready while others are in hand.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Change, DATA_FACTOR, TEXT_OF_A_CHANGE } from '../../src/capture/change.ts';
import type { ServedTerm } from '../../src/delivery/consumer.ts';
import { CAPACITY } from '../../src/delivery/delivery.ts';
import { EventQueue } from '../../src/delivery/event-queue.ts';
import { LaneDelivery } from '../../src/delivery/lane-delivery.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { FORGETFUL, servedTerm } from '../support/served-term.ts';

/** `text`: of its row, in characters. */
const change = (sequence: string | null, id = '1', text = 0) =>
  new Change(sequence, 'items', 'update', id, 'id', '2026-01-31T12:00:00Z', '1', '', {
    before: null,
    after: 'x'.repeat(text),
    shape: null,
    origin: null,
    context: null,
  });
/** The text of a change of this weight. */
const textOf = (weight: number) => (weight - 1) * (TEXT_OF_A_CHANGE / DATA_FACTOR);
/** It takes all the room that lanes have. */
const FULL = textOf(2000);

function open(): LaneDelivery {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const queue = new EventQueue({
    ack: 'manual',
    maxInFlight: 1000,
    slowAfter: 60_000,
    traffic: new Traffic('test'),
    leave: async () => {},
  });
  const delivery = queue.open(servedTerm()) as LaneDelivery;
  delivery.begin([], null);
  onTestFinished(() => delivery.stop());
  return delivery;
}

/** With handlers, whose events are taken by the test. */
function openForHandlers({
  maxInFlight = 4,
  slowAfter = 60_000,
  ...term
}: Partial<ServedTerm> & { maxInFlight?: number; slowAfter?: number } = {}): LaneDelivery {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const delivery = new LaneDelivery({
    ...servedTerm(term),
    traffic: new Traffic('test'),
    maxInFlight,
    exclusive: true,
    key: null,
    slowAfter,
    ready: () => {},
  });
  onTestFinished(() => delivery.forget());
  return delivery;
}

/** What is known of a change that was in hand at so many deaths. */
const dead = (sequence: string, deaths: number) => ({
  sequence,
  stamp: '',
  attempts: 0,
  error: null,
  delay: 0,
  deaths,
});

/** All that can be handed out now. */
function take(delivery: LaneDelivery): (string | null)[] {
  const sequences: (string | null)[] = [];
  while (delivery.canHandOut) sequences.push(delivery.handOutHeld().ticket.change.sequence);
  return sequences;
}

/** Two events of a row, of which one was refused, found no room to wait in, and is to be read again. */
function dropOne(refused = '1000') {
  const delivery = open();
  const [filler, first, second] = [change('500', '2', FULL), change('1000', '1'), change('2000', '1')];
  delivery.push([filler, first, second]);
  expect(take(delivery)).toEqual(['500', '1000', '2000']);
  void delivery.retry(delivery.find('500')!, 'not now', 10);
  void delivery.retry(delivery.find(refused)!, 'not now', 30);
  vi.advanceTimersByTime(20);
  expect(take(delivery)).toEqual(['500']);
  delivery.settle('500');
  vi.advanceTimersByTime(20);
  return { delivery, log: [first, second] };
}

/** The same, while it is being read again. */
function readAgain(refused = '1000') {
  const { delivery, log } = dropOne(refused);
  return { delivery, log, reading: delivery.dropped.begin()! };
}

test('an event that is acknowledged while the log is read again for another one of its row does not come again', () => {
  const { delivery, log, reading } = readAgain();
  delivery.settle('2000');
  reading.take(log, null);
  expect(take(delivery)).toEqual(['1000']);
  delivery.settle('1000');
  expect(take(delivery)).toEqual([]);
});

test.each([
  ['a later', '1000', '2000'],
  ['an earlier', '2000', '1000'],
])(
  '%s event that is refused while the log is read again for one of its row comes again once, and in order',
  (_, dropped, refused) => {
    const { delivery, log, reading } = readAgain(dropped);
    void delivery.retry(delivery.find(refused)!, 'not now', 10);
    reading.take(log, null);
    const again: (string | null)[] = [];
    for (let turn = 0; turn < 10; turn++) {
      vi.advanceTimersByTime(11);
      const left = log.filter(({ sequence }) => !again.includes(sequence));
      delivery.dropped.begin()?.take(left, null);
      for (const sequence of take(delivery)) {
        again.push(sequence);
        delivery.settle(sequence!);
      }
    }
    expect(again).toEqual(['1000', '2000']);
  },
);

test('an event that is refused before the log is read again for another one of its row comes again once, behind that one', () => {
  const { delivery, log } = dropOne();
  void delivery.retry(delivery.find('2000')!, 'not now', 10);
  const again: (string | null)[] = [];
  for (let turn = 0; turn < 10; turn++) {
    delivery.dropped.begin()?.take(
      log.filter(({ sequence }) => !again.includes(sequence)),
      null,
    );
    vi.advanceTimersByTime(11);
    const taken = take(delivery);
    for (const sequence of taken) delivery.settle(sequence!);
    again.push(...taken);
  }
  expect(again).toEqual(['1000', '2000']);
});

test('an event that is next while the log is read again for another one of its row comes once', async () => {
  const delivery = open();
  const ofOther = (sequence: string, operation: 'delete' | 'update', id: string, text = 0) =>
    Object.assign(change(sequence, id, text), { location: 'others', operation, key: null });
  const [truncation, filler] = [ofOther('500', 'delete', '*'), ofOther('600', 'update', '1', FULL)];
  const [first, second] = [change('1000'), change('2000')];
  // What comes after the truncation takes all the room. It is dropped when the truncation is over, as what had no room was before.
  delivery.push([truncation, filler, ofOther('700', 'update', '1', FULL), first, second]);
  for (const sequence of ['500', '1000']) {
    expect(delivery.canHandOut).toBe(true);
    expect(delivery.handOutHeld().ticket.change.sequence).toBe(sequence);
  }
  expect(delivery.canHandOut).toBe(true);
  void delivery.retry(delivery.find('1000')!, 'not now', 10);
  delivery.settle('500');
  await turn();
  vi.advanceTimersByTime(11);
  delivery.dropped.begin()!.take([first, second], null);
  const again: (string | null)[] = [];
  for (let turn = 0; turn < 3; turn++) {
    const taken = take(delivery);
    for (const sequence of taken) delivery.settle(sequence!);
    again.push(...taken);
  }
  expect(again).toEqual(['2000', '1000']);
});

test('an event that was announced by hand does not hold up its row, of which it waited for a change', () => {
  const delivery = open();
  delivery.push([change('1000')]);
  expect(take(delivery)).toEqual(['1000']);
  void delivery.retry(delivery.find('1000')!, 'not now', 10);
  delivery.push([change(null), change('2000')]);
  expect(take(delivery)).toEqual([]);
  vi.advanceTimersByTime(11);
  expect(take(delivery)).toEqual(['1000']);
  delivery.settle('1000');
  expect(take(delivery)).toEqual([null, '2000']);
});

test.each([
  ['than may be in hand', 1, 4],
  ['than an eighth of the room, and the event that goes beyond it', CAPACITY / 20, 3],
])('no more is made ready %s', async (_, weight, ready) => {
  const delivery = openForHandlers({ maxInFlight: 4 });
  delivery.begin([], null);
  delivery.push(Array.from({ length: 10 }, (__, n) => change(`${n + 1}000`, `${n}`, textOf(weight))));
  expect(delivery.canHandOut).toBe(true);
  delivery.acknowledge(delivery.handOutHeld());
  await turn();
  // What is ready takes no room.
  expect(delivery.room).toBe(CAPACITY - (10 - 1 - ready) * weight);
});

test('nothing is quiet while what is over may let something be read again', () => {
  const delivery = openForHandlers();
  delivery.begin([], null);
  delivery.push([change('500', '2', FULL)]);
  expect(delivery.canHandOut).toBe(true);
  void delivery.retry(delivery.handOutHeld(), 'not now', 10);
  delivery.push([change('1000'), change('2000')]);
  expect(take(delivery)).toEqual(['1000']);
  // The second one has found no room, and is read again when the first one is over.
  delivery.acknowledge(delivery.find('1000')!);
  expect([delivery.dropped.areWanted, delivery.isQuiet]).toEqual([false, false]);
});

test('an event that is parked since processes have died is slow only when its parking takes long', () => {
  const slow: unknown[] = [];
  const delivery = openForHandlers({
    slowAfter: 100,
    failures: () => ({ ...FORGETFUL, park: () => new Promise(() => {}) }),
    notify: (...[name, told]) => void (name === 'slow' && slow.push(told)),
  });
  delivery.begin([dead('2000', 5)], 0);
  vi.advanceTimersByTime(1000);
  delivery.push([change('1000', '1')]);
  expect(take(delivery)).toEqual(['1000']);
  vi.advanceTimersByTime(60);
  delivery.push([change('2000', '2')]);
  expect(take(delivery)).toEqual([]);
  vi.advanceTimersByTime(40);
  expect(slow).toMatchObject([{ id: '1', duration: 100 }]);
  vi.advanceTimersByTime(60);
  expect(slow).toMatchObject([
    { id: '1', duration: 100 },
    { id: '2', duration: 100 },
  ]);
});
