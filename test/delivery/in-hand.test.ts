import { expect, test } from 'vitest';
import { systemClock } from '../../src/delivery/clock.ts';
import { InHand, InHandInOrder } from '../../src/delivery/in-hand.ts';

const never = new AbortController().signal;

function holding(...sequences: string[]): InHand<string, string> {
  const inHand = new InHand<string, string>(systemClock);
  for (const sequence of sequences) inHand.add(sequence, `${sequence}99`);
  return inHand;
}

/** Notes when a promise has resolved. */
function watch(promise: Promise<void>) {
  const watched = { isResolved: false };
  void promise.then(() => (watched.isResolved = true));
  return watched;
}

const turn = () => new Promise(setImmediate);

test('tells whether an event that is removed was in hand', () => {
  const inHand = holding('1', '2');
  expect(inHand.remove('1')).toBe(true);
  expect(inHand.remove('1')).toBe(false);
  expect(inHand.remove('3')).toBe(false);
  expect(inHand.size).toBe(1);
});

test('takes events in order, the oldest first, without those that were removed', () => {
  const inHand = new InHandInOrder(systemClock);
  for (const sequence of ['10', '9', '11', '12']) inHand.add(sequence, `${sequence}99`);
  expect(inHand.remove('9')).toEqual({ sequence: '9', publicSequence: '999' });
  expect(inHand.remove('9')).toBeNull();
  expect([inHand.take()?.sequence, inHand.take()?.publicSequence]).toEqual(['10', '1199']);
  expect(inHand.size).toBe(1);
  expect([inHand.take()?.sequence, inHand.take()]).toEqual(['12', null]);
});

test('a wait ends at once when nothing is in hand', async () => {
  await expect(new InHand<string, string>(systemClock).empty(Infinity, never)).resolves.toBeUndefined();
});

function byKey() {
  const inHand = holding('1', '2');
  return { inHand, remove: () => inHand.remove('2'), forget: () => inHand.forget() };
}

function inOrder() {
  const inHand = new InHandInOrder(systemClock);
  for (const sequence of ['1', '2']) inHand.add(sequence, `${sequence}99`);
  return { inHand, remove: () => inHand.remove('2'), forget: () => inHand.forget() };
}

test.each([
  ['the last is removed', byKey, 'remove'],
  ['all are forgotten', byKey, 'forget'],
  ['the last is removed, in order', inOrder, 'remove'],
  ['all are forgotten, in order', inOrder, 'forget'],
] as const)('is empty when %s, and not before', async (_, make, act) => {
  const made = make();
  const { inHand } = made;
  const empty = watch(inHand.empty(Infinity, never));
  inHand.remove('1');
  await turn();
  expect(empty.isResolved).toBe(false);
  made[act]();
  await turn();
  expect(empty.isResolved).toBe(true);
});

test('is empty when the last is taken, in order, and not before', async () => {
  const { inHand } = inOrder();
  const empty = watch(inHand.empty(Infinity, never));
  inHand.take();
  await turn();
  expect(empty.isResolved).toBe(false);
  inHand.take();
  await turn();
  expect(empty.isResolved).toBe(true);
});

test('a wait ends at its limit, or when the signal aborts', async () => {
  const inHand = holding('1');
  await inHand.empty(5, never);
  await inHand.empty(0, never);
  const abort = new AbortController();
  const empty = inHand.empty(Infinity, abort.signal);
  abort.abort();
  await empty;
  await inHand.empty(Infinity, abort.signal);
  expect(inHand.size).toBe(1);
});

test('a new wait lasts until events that were added later are removed', async () => {
  const inHand = holding('1');
  inHand.remove('1');
  inHand.add('2', '299');
  const empty = watch(inHand.empty(Infinity, never));
  await turn();
  expect(empty.isResolved).toBe(false);
  inHand.remove('2');
  await turn();
  expect(empty.isResolved).toBe(true);
});
