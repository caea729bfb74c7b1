import { expect, test } from 'vitest';
import type { ChangeEvent } from '../../src/api/change-event.ts';
import { Change } from '../../src/capture/change.ts';
import { EventQueue, type EventQueueOptions } from '../../src/delivery/event-queue.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { servedTerm } from '../support/served-term.ts';

const change = (sequence: string | null) =>
  new Change(sequence, 'items', 'create', sequence ?? 'by hand', null, null, null, '', null);
const changes = (count: number, from = 1) =>
  Array.from({ length: count }, (_, n) => change(String(from + n)));
const ids = (results: readonly IteratorResult<ChangeEvent, undefined>[]) =>
  results.map(({ value }) => value?.id);
const never = new AbortController().signal;
const DONE = { done: true, value: undefined };

/** A queue, and the delivery of its first term. */
function setup(options: Partial<EventQueueOptions> = {}) {
  const acknowledged: string[] = [];
  const bundle = { trusted: true, acknowledged, left: 0 };
  const queue = new EventQueue({
    ack: 'auto',
    maxInFlight: 1000,
    slowAfter: 60_000,
    traffic: new Traffic('test'),
    leave: async () => {
      bundle.left++;
      queue.end();
    },
    ...options,
  });
  const open = (fencingToken: string) =>
    queue.open(
      servedTerm({
        fencingToken,
        mayHandOut: () => bundle.trusted,
        acknowledge: (sequence) => void acknowledged.push(sequence),
      }),
    );
  return { queue, delivery: open('1'), open, bundle };
}

/** Whether a promise has settled by now. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const marker = {};
  await new Promise(setImmediate);
  return (await Promise.race([promise.catch(() => {}), Promise.resolve(marker)])) !== marker;
}

test('hands out events in order, to pulls that wait and to later pulls', async () => {
  const { queue, delivery } = setup();
  const early = [queue.next(), queue.next(), queue.next()];
  delivery.push(changes(2));
  delivery.push(changes(2, 3));
  expect(ids(await Promise.all([...early, queue.next()]))).toEqual(['1', '2', '3', '4']);
});

test('acknowledges the events in hand once, with the next pull', async () => {
  const { queue, delivery, bundle } = setup();
  const first = queue.next();
  const second = queue.next();
  delivery.push([...changes(2), change(null), ...changes(1, 3)]);
  await Promise.all([first, second]);
  expect(queue.inHand).toBe(2);
  expect(bundle.acknowledged).toEqual([]);
  await queue.next();
  expect(bundle.acknowledged).toEqual(['1', '2']);
  expect(queue.inHand).toBe(0); // one by hand is in no log
  await queue.next();
  void queue.next();
  expect(bundle.acknowledged).toEqual(['1', '2', '3']);
});

test('answers all concurrent pulls with automatic acknowledgement', async () => {
  const { queue, delivery, bundle } = setup({ maxInFlight: 2 });
  const pulls = Array.from({ length: 5 }, () => queue.next());
  delivery.push(changes(5));
  expect(ids(await Promise.all(pulls))).toEqual(['1', '2', '3', '4', '5']);
  expect(queue.inHand).toBe(5);
  void queue.next();
  expect(bundle.acknowledged).toEqual(['1', '2', '3', '4', '5']);
});

test('acknowledges nothing by itself in manual mode, and bounds the events in hand', async () => {
  const { queue, delivery, bundle } = setup({ ack: 'manual', maxInFlight: 2 });
  delivery.push(changes(4));
  const pulls = [queue.next(), queue.next(), queue.next(), queue.next()];
  await Promise.all(pulls.slice(0, 2));
  expect(await isSettled(pulls[2]!)).toBe(false);
  expect(delivery.settle('2')).toBe(true);
  expect(delivery.settle('2')).toBe(false);
  expect(ids([await pulls[2]!])).toEqual(['3']);
  expect(await isSettled(pulls[3]!)).toBe(false);
  expect(queue.inHand).toBe(2);
  delivery.settle('1');
  expect(ids([await pulls[3]!])).toEqual(['4']);
  expect(bundle.acknowledged).toEqual([]);
});

test('hands out nothing while paused, and goes on afterwards', async () => {
  const { queue, delivery, bundle } = setup();
  bundle.trusted = false;
  delivery.push(changes(1));
  const pull = queue.next();
  expect(await isSettled(pull)).toBe(false);
  bundle.trusted = true;
  queue.serve();
  expect(ids([await pull])).toEqual(['1']);
});

test('signals room when enough events are taken', async () => {
  const { queue, delivery } = setup();
  const capacity = delivery.room;
  delivery.push(changes(capacity));
  expect(delivery.room).toBe(0);
  for (let taken = 0; taken < capacity; taken += 2000) {
    const room = delivery.waitForRoom(2000, never);
    for (let n = 1; n < 2000; n++) await queue.next();
    expect(await isSettled(room)).toBe(false);
    await queue.next();
    await room;
    delivery.push(changes(delivery.room));
  }
});

test('counts long texts as more changes, and has room again once they are taken', async () => {
  const { queue, delivery } = setup();
  const capacity = delivery.room;
  const long = (sequence: string) =>
    new Change(
      sequence,
      'items',
      'create',
      'x'.repeat(400_000),
      { id: 'y'.repeat(9600) },
      null,
      null,
      '',
      null,
    );
  delivery.push([long('1'), long('2'), change('3')]);
  expect(delivery.room).toBe(capacity - 2 * 101 - 1);
  for (let n = 0; n < 3; n++) await queue.next();
  expect(delivery.room).toBe(capacity);
  // What was handed out is let go long before as many changes were.
  delivery.push(Array.from({ length: 20 }, (_, n) => long(String(n))));
  const room = delivery.waitForRoom(capacity - 1100, never);
  for (let n = 0; n < 8; n++) await queue.next();
  expect(await isSettled(room)).toBe(false);
  for (let n = 0; n < 2; n++) await queue.next();
  await room;
});

test('signals room as soon as it is empty', async () => {
  for (const length of [1, 999, 1000, 1001, 2001, 2999]) {
    const { queue, delivery } = setup({ maxInFlight: 1, ack: 'manual' });
    delivery.push(changes(length));
    const room = delivery.waitForRoom(4000, never);
    for (let n = 0; n < length; n++) delivery.settle((await queue.next()).value!.sequence!);
    await room;
    expect(delivery.room).toBe(4000);
  }
});

test('stops waiting for room, or for events in hand, when the signal aborts', async () => {
  const { queue, delivery } = setup();
  delivery.push(changes(delivery.room));
  const stop = new AbortController();
  const room = delivery.waitForRoom(1, stop.signal);
  stop.abort();
  await room;
  await queue.next();
  await delivery.settled(60_000, stop.signal);
  expect(queue.inHand).toBe(1);
});

test('waits until nothing is in hand, at most for the given time', async () => {
  const { queue, delivery } = setup();
  await delivery.settled(60_000, never);
  delivery.push(changes(1));
  await queue.next();
  await delivery.settled(10, never);
  expect(queue.inHand).toBe(1);
  const settled = delivery.settled(60_000, never);
  expect(await isSettled(settled)).toBe(false);
  void queue.next();
  await settled;
});

test('a stopped delivery hands out nothing, and the events in hand can still be acknowledged', async () => {
  const { queue, delivery, bundle } = setup();
  delivery.push(changes(2));
  await queue.next();
  delivery.stop();
  delivery.push(changes(1, 3));
  const pull = queue.next();
  expect(bundle.acknowledged).toEqual(['1']);
  expect(await isSettled(pull)).toBe(false);
  queue.end();
  expect(await pull).toEqual(DONE);
});

test('a delivery that forgot its events neither waits for them nor acknowledges them with the next pull', async () => {
  const { queue, delivery, bundle } = setup();
  delivery.push(changes(3));
  await queue.next();
  const settled = delivery.settled(60_000, never);
  delivery.forget();
  await settled;
  const pull = queue.next();
  expect(await isSettled(pull)).toBe(false);
  expect(queue.inHand).toBe(0);
  expect(bundle.acknowledged).toEqual([]);
});

test('a new term has a delivery of its own, with no event of the last term', async () => {
  const { queue, delivery, open, bundle } = setup();
  delivery.push(changes(2));
  await queue.next();
  delivery.forget();
  const pull = queue.next();
  const later = open('2');
  delivery.push(changes(1, 5));
  expect(await isSettled(pull)).toBe(false);
  later.push(changes(1, 7));
  expect((await pull).value).toMatchObject({ id: '7', fencingToken: '2' });
  expect(queue.inHand).toBe(1);
  expect(bundle.acknowledged).toEqual([]);
});

test('pulls wait before the first term and between two terms', async () => {
  const queue = new EventQueue({
    ack: 'auto',
    maxInFlight: 1,
    slowAfter: 60_000,
    traffic: new Traffic('test'),
    leave: async () => {},
  });
  const pull = queue.next();
  expect(await isSettled(pull)).toBe(false);
  expect(queue.inHand).toBe(0);
  queue.end();
  expect(await pull).toEqual(DONE);
});

test('ends all waiting pulls, and all later ones', async () => {
  const { queue, delivery } = setup();
  const early = [queue.next(), queue.next()];
  queue.end();
  queue.end({ error: new Error('too late') });
  delivery.push(changes(1));
  expect(await Promise.all([...early, queue.next()])).toEqual([DONE, DONE, DONE]);
});

test.each([
  ['who waits', true],
  ['who asks', false],
])('throws an error once, at the first %s', async (_, early) => {
  const { queue } = setup();
  const error = new Error('the end');
  const pulls = early ? [queue.next(), queue.next()] : [];
  for (const pull of pulls) pull.catch(() => {});
  queue.end({ error });
  if (!early) pulls.push(queue.next(), queue.next());
  await expect(pulls[0]).rejects.toBe(error);
  expect(await pulls[1]).toEqual(DONE);
});

test('ends on return, also while a pull waits', async () => {
  const { queue, bundle } = setup();
  const pull = queue.next();
  expect(await queue.return()).toEqual(DONE);
  expect(await pull).toEqual(DONE);
  expect(await queue.next()).toEqual(DONE);
  expect(await queue.return()).toEqual(DONE);
  expect(bundle.left).toBeGreaterThan(0);
});

test('throws no error after return', async () => {
  const { queue } = setup();
  queue.end({ error: new Error('meanwhile') });
  expect(await queue.return()).toEqual(DONE);
  expect(await queue.next()).toEqual(DONE);
});

test('ends on throw, and rejects with its error', async () => {
  const { queue, bundle } = setup();
  const error = new Error('out');
  await expect(queue.throw(error)).rejects.toBe(error);
  expect(bundle.left).toBe(1);
  expect(await queue.next()).toEqual(DONE);
});

test('lets the event loop turn, however busy the consumer is', async () => {
  const { queue, delivery } = setup();
  delivery.push(changes(100));
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  for (let n = 0; n < 100; n++) {
    await queue.next();
    const done = performance.now() + 2;
    while (performance.now() < done);
  }
  clearInterval(timer);
  expect(turns).toBeGreaterThan(4);
});

test('is its own iterator', () => {
  const { queue } = setup();
  expect(queue[Symbol.asyncIterator]()).toBe(queue);
});
