/** The room that is left for the reader, whatever waits in lanes. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { systemClock } from '../../src/delivery/clock.ts';
import { LaneBuffer } from '../../src/delivery/lane-buffer.ts';
import { rowOf } from '../../src/delivery/row-order.ts';

/** What the reader wants before it reads. */
const PAGE = 2000;
const never = new AbortController().signal;

function setup() {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const buffer = new LaneBuffer({
    clock: systemClock,
    exclusive: true,
    keyOf: rowOf,
    ready: () => {},
    beginTaking: () => ({ isHeld: () => false, end: () => {} }),
    readAgain: () => {},
  });
  onTestFinished(() => buffer.stop());
  return buffer;
}

/** `text`: of its row, in characters. */
const change = (sequence: string, id = '1', text = 0): Change =>
  new Change(sequence, 'items', 'update', id, 'id', 'at 1', '1', '', {
    before: null,
    after: 'x'.repeat(text),
    shape: null,
    origin: null,
    context: null,
  });

test('has room again when the one change that took it all is handed out', async () => {
  const buffer = setup();
  const large = change('1000', '1', 1_500_000);
  buffer.push([large]);
  // It fails, and finds no room to wait in: it is read again when its time has come.
  buffer.defer(buffer.take()!, 10);
  vi.advanceTimersByTime(10);
  buffer.dropped.begin()!.take([large], null);
  expect(buffer.room).toBeLessThan(PAGE);
  let hasRoom = false;
  const room = buffer.dropped.waitForRoomOrWanted(PAGE, never).then(() => (hasRoom = true));
  await new Promise(setImmediate);
  expect(hasRoom).toBe(false);
  expect(buffer.take()!.change).toBe(large);
  await new Promise(setImmediate);
  expect(hasRoom).toBe(true);
  await room;
});

test.each([
  ['redriven changes', (n: number) => change(`-${n + 1}000`)],
  ['rows that a backfill has read', (n: number) => change('1'.padEnd(48, String(n + 1).padStart(8, '0')))],
  [
    'events that were announced by hand',
    () => new Change(null, 'items', 'update', '1', null, null, null, '', null),
  ],
])('has room for the log although thousands of %s wait for one key', (_, make) => {
  const buffer = setup();
  buffer.push(Array.from({ length: 5000 }, (_each, n) => make(n)));
  expect(buffer.take()).not.toBeNull();
  expect(buffer.take()).toBeNull();
  expect(buffer.room).toBeGreaterThanOrEqual(PAGE);
  expect(buffer.roomApart).toBeLessThan(0);
});

test('has room for the log although a redriven change with much text waits for its next attempt', () => {
  const buffer = setup();
  buffer.push([change('-1000', '1', 1_500_000)]);
  buffer.defer(buffer.take()!, 60_000);
  expect(buffer.room).toBeGreaterThanOrEqual(PAGE);
});

test('has room for the log although a DELETE of a large UPDATE of keys does not end', () => {
  const buffer = setup();
  const statement = Array.from(
    { length: 5001 },
    (_, n) =>
      new Change(
        `${n + 1}000`,
        'items',
        n === 0 ? 'delete' : 'create',
        String(n),
        'id',
        'at 1',
        '1',
        '',
        null,
      ),
  );
  buffer.push(statement);
  expect(buffer.take()!.change).toBe(statement[0]);
  expect(buffer.take()).toBeNull();
  expect(buffer.room).toBeGreaterThanOrEqual(PAGE);
});
