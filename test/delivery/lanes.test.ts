/** Lanes against a model: a log in memory, a consumer that fails at random, and a reader that reads again what lanes have dropped. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { expect, onTestFinished, test, vi } from 'vitest';
import { Change } from '../../src/capture/change.ts';
import { systemClock } from '../../src/delivery/clock.ts';
import { Lanes } from '../../src/delivery/lanes.ts';
import type { Ticket } from '../../src/delivery/line.ts';
import { rowOf } from '../../src/delivery/row-order.ts';
import { changeOf, diceOf, inArrival, isBefore, loggedRows } from '../support/generated-log.ts';

test.each<[string, (change: Change) => string, boolean]>([
  ['never two of a key at once, where a key is that of a row', rowOf, true],
  [
    'never two of a key at once, where a key is that of some rows of any table',
    ({ id }) => String(Number(id) % 2),
    true,
  ],
  ['never two of a key at once, where a key is that of all rows', () => 'all', true],
  ['many of a key at once if the consumer acknowledges by hand', rowOf, false],
  [
    'many of a key at once if the consumer acknowledges by hand, where a key is that of some rows of any table',
    ({ id }) => String(Number(id) % 2),
    false,
  ],
])('hands out every change once, after all that it has to wait for, and %s', async (_, keyOf, exclusive) => {
  vi.useFakeTimers();
  const counts = { again: 0, deferred: 0, gone: 0 };
  await fc.assert(
    fc.asyncProperty(
      loggedRows,
      fc.integer({ min: 0, max: 6 }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(0, 0, 3, 10),
      fc.integer({ min: 1, max: 1_000_000 }),
      async (logged, capacity, concurrency, vanishing, seed) => {
        // The consumer's and the reader's moves: from 0 to 99.
        const dice = diceOf(seed);
        const log = logged.map((one, n) => changeOf(one, n));
        const arrival = inArrival(log, dice);
        const lanes = new Lanes({
          clock: systemClock,
          exclusive,
          keyOf,
          capacity,
          changed: () => {},
        });
        const left = new Set(log);
        /** What somebody has deleted from the log. It comes only if it is in memory. */
        const gone = new Set<Change>();
        const inHand = new Set<Ticket>();
        const handedOut: Change[] = [];
        let arrived = 0;
        const handOut = (ticket: Ticket) => {
          for (const other of left) {
            // Of what is taken at once, one that fails comes again behind the others.
            if (
              isBefore(other, ticket.change) &&
              !gone.has(other) &&
              (exclusive || !handedOut.includes(other))
            )
              throw new Error(`${ticket.change.sequence} before ${other.sequence}`);
          }
          if (!left.has(ticket.change)) throw new Error(`${ticket.change.sequence} twice`);
          for (const other of inHand) {
            if (other.change === ticket.change) throw new Error(`${ticket.change.sequence} is in hand`);
            const isTruncation = other.change.id === '*' || ticket.change.id === '*';
            if (exclusive && !isTruncation && keyOf(other.change) === keyOf(ticket.change))
              throw new Error(`two of ${ticket.change.id} at once`);
          }
          handedOut.push(ticket.change);
          inHand.add(ticket);
        };
        let reading = null as { takes: () => void; buffered: number } | null;
        /** Reads a page of the log again: first the statement, then its answer. In between, the reader brings only what it has brought already. */
        const readAgain = (): boolean => {
          if (reading) {
            reading.takes();
            reading = null;
            return true;
          }
          const begun = lanes.beginReading();
          if (!begun) return false;
          counts.again++;
          const buffered = Math.min(log.length, arrived + (dice() % 4));
          const found = log.filter(
            (one) =>
              arrival.indexOf(one) < buffered &&
              left.has(one) &&
              !gone.has(one) &&
              BigInt(one.sequence!) >= begun.from,
          );
          const page = found.slice(0, 1 + (dice() % 8));
          const upto = page.length === found.length ? null : BigInt(page.at(-1)!.sequence!);
          const isTaken = (one: Change) =>
            !left.has(one) ||
            arrival.indexOf(one) >= arrived ||
            [...inHand].some(({ change }) => change === one);
          reading = { takes: () => lanes.takeAgain(begun.lines, page, upto, isTaken), buffered };
          return true;
        };
        const isDone = () =>
          [...left].every((one) => gone.has(one)) &&
          inHand.size + lanes.size + lanes.weight === 0 &&
          !lanes.hasDropped;
        for (let step = 0; !isDone(); step++) {
          const victim = dice() < vanishing ? log[dice() % log.length]! : null;
          if (victim && left.has(victim) && arrival.indexOf(victim) < arrived) gone.add(victim);
          if (step > 20_000)
            throw new Error(
              `stuck with ${left.size} left: ${JSON.stringify({ arrived, left: [...left].map((one) => one.sequence), inHand: inHand.size, weight: lanes.weight, lanes: lanes.size, hungry: lanes.isHungry, deferred: lanes.deferred })}`,
            );
          const roll = dice();
          if (roll < 50 && inHand.size < concurrency) {
            const ticket =
              lanes.takeReady() ??
              (arrived < (reading?.buffered ?? log.length) ? lanes.admit(arrival[arrived++]!) : null);
            // It has failed in an earlier term.
            if (ticket && roll < 10 && !handedOut.includes(ticket.change)) lanes.defer(ticket, dice());
            else if (ticket) handOut(ticket);
          } else if (roll < 60) readAgain();
          else if (roll < 70) vi.advanceTimersByTime(dice());
          else if (inHand.size > 0) {
            const ticket = [...inHand][dice() % inHand.size]!;
            inHand.delete(ticket);
            if (dice() < 25) {
              counts.deferred++;
              lanes.defer(ticket, dice());
            } else {
              left.delete(ticket.change);
              lanes.finish(ticket);
            }
          }
        }
        counts.gone += gone.size;
        expect(log.filter((one) => !gone.has(one) && !handedOut.includes(one))).toEqual([]);
        expect(lanes.takeReady()).toBeNull();
        while (readAgain());
        // Nothing counts as under way any more: neither a truncation nor a change of any statement has to wait.
        const truncations = ['a', 'b'].map((location) => ({
          op: 'delete' as const,
          id: '*',
          location,
          statement: -1,
        }));
        const others = log.map(({ location, transaction }) => ({
          op: 'create' as const,
          id: '1',
          location,
          statement: Number(transaction),
        }));
        for (const [n, one] of [...truncations, ...others].entries()) {
          const ticket = lanes.admit(changeOf(one, log.length + n));
          expect(ticket).not.toBeNull();
          lanes.finish(ticket!);
        }
        expect([
          lanes.size,
          lanes.weight,
          lanes.apart,
          lanes.deferred,
          lanes.heldUp,
          lanes.hasDropped,
        ]).toEqual([0, 0, 0, 0, 0, false]);
        lanes.stop();
      },
    ),
    { numRuns: Number(process.env['LANES_RUNS'] ?? 500) },
  );
  // The model is of use only if it meets what is hard.
  expect(counts.again).toBeGreaterThan(100);
  expect(counts.deferred).toBeGreaterThan(100);
  expect(counts.gone).toBeGreaterThan(100);
  vi.useRealTimers();
});

/** A row that a backfill has read. */
const readOf = (id: string, location = 'a'): Change =>
  new Change('1'.padEnd(48, id), location, 'read', id, 'id', 'at 9', null, '', null);

function smallLanes({ capacity = 2, keyOf = rowOf, exclusive = true } = {}) {
  const dropped: string[] = [];
  const lanes = new Lanes({
    clock: systemClock,
    exclusive,
    keyOf,
    capacity,
    changed: () => {},
    dropRead: (sequence) => dropped.push(sequence),
  });
  const update = (n: number, id: string) => changeOf({ op: 'update', id, location: 'a', statement: n }, n);
  const cut = (n: number) => changeOf({ op: 'delete', id: '*', location: 'a', statement: n }, n);
  return { lanes, dropped, update, cut };
}

const redriven = (change: Change): Change =>
  new Change(
    `-${change.sequence}`,
    change.location,
    change.operation,
    change.id,
    change.key,
    change.occurredAt,
    change.transaction,
    '',
    null,
  );

test('a truncation does not wait for a change that was dropped and is gone from the log', () => {
  const { lanes, update, cut } = smallLanes({ capacity: 0 });
  const first = lanes.admit(update(1, '1'))!;
  expect(lanes.admit(update(2, '1'))).toBeNull();
  expect(lanes.admit(update(3, '1'))).toBeNull();
  expect(lanes.admit(cut(4))).toBeNull();
  lanes.finish(first);
  // Both may still be there.
  expect(lanes.takeReady()).toBeNull();
  lanes.takeAgain(lanes.beginReading()!.lines, [update(3, '1')], null, () => false);
  lanes.finish(lanes.takeReady()!);
  expect(lanes.takeReady()!.change.id).toBe('*');
});

test('a change does not wait for a DELETE of its statement that was dropped and is gone from the log, although its own lane has no room for it', () => {
  const { lanes, update } = smallLanes({ capacity: 0, keyOf: () => 'all' });
  const create = changeOf({ op: 'create', id: '2', location: 'a', statement: 7 }, 8);
  const first = lanes.admit(update(1, '1'))!;
  expect(lanes.admit(changeOf({ op: 'delete', id: '1', location: 'a', statement: 7 }, 7))).toBeNull();
  expect(lanes.admit(create)).toBeNull();
  lanes.finish(first);
  lanes.takeAgain(lanes.beginReading()!.lines, [create], null, () => false);
  expect([lanes.heldUp, lanes.isHungry]).toEqual([0, true]);
  lanes.takeAgain(lanes.beginReading()!.lines, [create], null, () => false);
  expect(lanes.takeReady()!.change).toBe(create);
});

test('a row that was read waits for a truncation of its table, and a truncation for the row', () => {
  const { lanes, update, cut } = smallLanes();
  const first = lanes.admit(update(1, '1'))!;
  expect(lanes.admit(cut(2))).toBeNull();
  const read = readOf('5');
  expect(lanes.admit(read)).toBeNull();
  lanes.finish(first);
  const truncation = lanes.takeReady()!;
  expect(truncation.change.id).toBe('*');
  expect(lanes.takeReady()).toBeNull();
  lanes.finish(truncation);
  const ticket = lanes.takeReady()!;
  expect(ticket.change).toBe(read);
  expect(lanes.admit(cut(3))).toBeNull();
  lanes.finish(ticket);
  expect(lanes.takeReady()!.change.id).toBe('*');
});

test('a row that was read never overtakes what its lane has dropped: it is read anew', () => {
  const { lanes, dropped, update } = smallLanes();
  const first = lanes.admit(update(1, '1'))!;
  const early = readOf('1');
  expect(lanes.admit(early)).toBeNull();
  for (let n = 2; n < 6; n++) expect(lanes.admit(update(n, '1'))).toBeNull();
  expect(lanes.hasDropped).toBe(true);
  const late = new Change('2'.padEnd(48, '1'), 'a', 'read', '1', 'id', 'at 9', null, '', null);
  expect(lanes.admit(late)).toBeNull();
  expect(dropped).toEqual([late.sequence]);
  expect(lanes.admit(readOf('2'))).not.toBeNull();
  // The first one fails and finds no room: all that waits behind it is dropped.
  lanes.defer(first, 60_000);
  expect(dropped).toEqual([late.sequence, early.sequence]);
  lanes.stop();
});

test('a row that was read comes again before the changes that came after it, with an acknowledgement by hand', () => {
  const { lanes, update } = smallLanes({ capacity: 10, exclusive: false });
  vi.useFakeTimers();
  const read = lanes.admit(readOf('1'))!;
  const first = lanes.admit(update(1, '1'))!;
  lanes.defer(first, 10);
  expect(lanes.admit(update(2, '1'))).toBeNull();
  lanes.defer(read, 10);
  vi.advanceTimersByTime(10);
  const order = Array.from({ length: 3 }, () => {
    const ticket = lanes.takeReady()!;
    lanes.finish(ticket);
    return ticket.change.sequence;
  });
  vi.useRealTimers();
  expect(order).toEqual([readOf('1').sequence, '2000', '3000']);
});

test('a row that was read comes again before a change that came after it and was dropped meanwhile, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes, update } = smallLanes({ capacity: 1, exclusive: false });
  const [other, read, later] = [update(0, '2'), readOf('1'), update(1, '1')].map((one) => lanes.admit(one)!);
  lanes.defer(other!, 10);
  lanes.defer(later!, 10);
  vi.advanceTimersByTime(10);
  lanes.finish(lanes.takeReady()!);
  lanes.takeAgain(lanes.beginReading()!.lines, [later!.change], null, () => false);
  lanes.defer(lanes.takeReady()!, 10);
  lanes.defer(read!, 10);
  vi.advanceTimersByTime(10);
  const first = lanes.takeReady()!;
  lanes.finish(first);
  expect([first.change, lanes.takeReady()!.change]).toEqual([read!.change, later!.change]);
});

test('a lane is not read again for while a change of it waits in memory, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes, update } = smallLanes({ capacity: 1, exclusive: false, keyOf: () => 'all' });
  const [late, other, kept, dropped] = [50, 100, 150, 200].map((n) => update(n, String(n)));
  const [first, second] = [lanes.admit(other!)!, lanes.admit(kept!)!];
  lanes.defer(first, 10);
  expect(lanes.admit(dropped!)).toBeNull();
  vi.advanceTimersByTime(10);
  lanes.finish(lanes.takeReady()!);
  const reading = lanes.beginReading()!;
  lanes.defer(second, 10);
  expect(lanes.admit(late!)).toBeNull();
  lanes.takeAgain(reading.lines, [dropped!], null, () => false);
  expect(lanes.beginReading()).toBeNull();
  vi.advanceTimersByTime(10);
  const again = lanes.takeReady()!;
  expect(again.change).toBe(kept);
  lanes.finish(again);
  lanes.takeAgain(lanes.beginReading()!.lines, [late!, dropped!], null, () => false);
  expect(lanes.takeReady()!.change).toBe(late);
});

test('a redriven change does not wait for what its lane has dropped', () => {
  const { lanes, update } = smallLanes({ capacity: 0 });
  const first = lanes.admit(update(1, '1'))!;
  const second = update(2, '1');
  expect(lanes.admit(second)).toBeNull();
  lanes.finish(first);
  expect(lanes.isHungry).toBe(true);
  const ticket = lanes.admit(redriven(update(0, '1')))!;
  expect(ticket).not.toBeNull();
  lanes.finish(ticket);
  lanes.takeAgain(lanes.beginReading()!.lines, [second], null, () => false);
  expect(lanes.takeReady()!.change).toBe(second);
});

test('a redriven change of a key that is held up does not wait for what was dropped, with an acknowledgement by hand', () => {
  const { lanes, update } = smallLanes({ capacity: 0, exclusive: false });
  vi.useFakeTimers();
  lanes.defer(lanes.admit(update(1, '1'))!, 10);
  vi.advanceTimersByTime(10);
  vi.useRealTimers();
  expect(lanes.isHungry).toBe(true);
  expect(lanes.admit(redriven(update(0, '1')))).not.toBeNull();
});

test('a redriven change does not wait for a DELETE of its statement that comes again behind it', () => {
  const { lanes, update } = smallLanes({ capacity: 0 });
  const of = (op: 'create' | 'delete', n: number) =>
    changeOf({ op, id: '1', location: 'a', statement: 7 }, n);
  const first = lanes.admit(update(1, '1'))!;
  expect(lanes.admit(of('delete', 2))).toBeNull();
  lanes.finish(first);
  expect(lanes.admit(redriven(of('create', 3)))).not.toBeNull();
});

test('a change that is dropped below what is being read again is read again too', () => {
  const { lanes, update } = smallLanes({ capacity: 0 });
  const [first, second, third, fourth] = [1, 2, 3, 4].map((n) => update(n, '1')) as [
    Change,
    Change,
    Change,
    Change,
  ];
  const ticket = lanes.admit(first)!;
  expect(lanes.admit(second)).toBeNull();
  lanes.finish(ticket);
  // A page with the third, which is in the buffer and so is left out.
  lanes.takeAgain(
    lanes.beginReading()!.lines,
    [second, third],
    BigInt(third.sequence!),
    (change) => change === third,
  );
  lanes.finish(lanes.takeReady()!);
  const reading = lanes.beginReading()!;
  expect(lanes.admit(third)).toBeNull();
  expect(lanes.admit(fourth)).toBeNull();
  lanes.takeAgain(reading.lines, [fourth], null, () => false);
  expect(lanes.takeReady()).toBeNull();
  const again = lanes.beginReading()!;
  expect(again.from).toBe(BigInt(third.sequence!));
  lanes.takeAgain(again.lines, [third, fourth], null, () => false);
  expect(lanes.takeReady()!.change).toBe(third);
});

test('a truncation whose key is that of a lane is not read again for the lane', () => {
  const { lanes, update, cut } = smallLanes({ capacity: 0, keyOf: () => 'all' });
  const second = update(2, '1');
  const first = lanes.admit(update(1, '1'))!;
  expect(lanes.admit(second)).toBeNull();
  expect(lanes.admit(cut(3))).toBeNull();
  lanes.finish(first);
  lanes.takeAgain(lanes.beginReading()!.lines, [second], BigInt(second.sequence!), () => false);
  lanes.finish(lanes.takeReady()!);
  const truncation = lanes.takeReady()!;
  expect(truncation.change.id).toBe('*');
  const reading = lanes.beginReading()!;
  lanes.finish(truncation);
  lanes.takeAgain(reading.lines, [cut(3)], null, () => false);
  expect(lanes.takeReady()).toBeNull();
});

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Two UPDATEs that exchange keys between two lanes: each is a DELETE, and the change that waits for it in the other lane. */
function exchange() {
  const rows = [
    { op: 'delete', id: 'a1', statement: 1 },
    { op: 'create', id: 'b1', statement: 1 },
    { op: 'delete', id: 'b2', statement: 2 },
    { op: 'create', id: 'a2', statement: 2 },
  ] as const;
  return rows.map((one, n) => changeOf({ ...one, location: 'a' }, n)) as [Change, Change, Change, Change];
}

/** Hands out all that is left, as a consumer that takes one at a time, with a reader. */
function drain(lanes: Lanes, log: readonly Change[]): string[] {
  const over = new Set<Change>();
  const handedOut: string[] = [];
  for (let turn = 0; turn < 100; turn++) {
    const reading = lanes.beginReading();
    if (reading)
      lanes.takeAgain(
        reading.lines,
        log.filter((change) => !over.has(change) && BigInt(change.sequence!) >= reading.from),
        null,
        () => false,
      );
    const ticket = lanes.takeReady();
    if (!ticket) continue;
    handedOut.push(ticket.change.id);
    over.add(ticket.change);
    lanes.finish(ticket);
  }
  return handedOut;
}

test.each([
  ['dropped', 0],
  ['kept', 100],
])(
  'two UPDATEs of keys that come out of order do not wait for each other where a key joins their rows, and a DELETE is %s',
  (_, capacity) => {
    const { lanes, update } = smallLanes({ capacity, keyOf: ({ id }) => id[0]! });
    const [firstDelete, firstCreate, secondDelete, secondCreate] = exchange();
    const busy = lanes.admit(update(9, 'b9'))!;
    // The second statement comes first. Its DELETE waits in one lane, and its other change is held up in the other.
    expect(lanes.admit(secondDelete)).toBeNull();
    expect(lanes.admit(secondCreate)).toBeNull();
    expect(lanes.admit(firstDelete)).toBeNull();
    expect(lanes.admit(firstCreate)).toBeNull();
    lanes.finish(busy);
    const log = [firstDelete, firstCreate, secondDelete, secondCreate];
    expect(drain(lanes, log).toSorted()).toEqual(['a1', 'a2', 'b1', 'b2']);
    expect([lanes.size, lanes.weight, lanes.heldUp, lanes.hasDropped]).toEqual([0, 0, 0, false]);
  },
);

test.each([
  ['was dropped', 1],
  ['waits behind it', 2],
])(
  'a change whose turn has come is not held up while an earlier one of its lane %s, where a key joins their rows',
  (_, capacity) => {
    const { lanes, update } = smallLanes({ capacity, keyOf: ({ id }) => id[0]! });
    const [firstDelete, firstCreate, secondDelete, secondCreate] = exchange();
    const dropped = update(9, 'b9');
    const busy = ['a', 'b', 'c'].map((id) => lanes.admit(update(8, id))!);
    for (let n = 0; n < capacity; n++) expect(lanes.admit(update(8, 'c'))).toBeNull();
    expect(lanes.admit(dropped)).toBeNull();
    lanes.finish(busy.pop()!);
    for (let n = 0; n < capacity; n++) lanes.finish(lanes.takeReady()!);
    // There is room again, but the lane of `b` has dropped something, and drops all that comes after it.
    for (const change of [secondDelete, secondCreate, firstDelete, firstCreate])
      expect(lanes.admit(change)).toBeNull();
    expect(lanes.weight).toBe(capacity);
    for (const ticket of busy) lanes.finish(ticket);
    const log = [firstDelete, firstCreate, secondDelete, secondCreate, dropped];
    expect(drain(lanes, log).toSorted()).toEqual(['a1', 'a2', 'b1', 'b2', 'b9']);
    expect([lanes.size, lanes.weight, lanes.heldUp, lanes.hasDropped]).toEqual([0, 0, 0, false]);
  },
);

/** Rows 1 and 2 change their keys: `a` to `b`, then `b` to `a`. */
function thereAndBack() {
  const rows = [
    { op: 'create', id: 'b', statement: 0 },
    { op: 'delete', id: 'a', statement: 1 },
    { op: 'create', id: 'b', statement: 1 },
    { op: 'delete', id: 'b', statement: 2 },
    { op: 'create', id: 'a', statement: 2 },
  ] as const;
  return rows.map((one, n) => changeOf({ ...one, location: 't' }, n));
}

test('a change of keys waits for the old key, of which a change comes again, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes } = smallLanes({ capacity: 10, exclusive: false });
  const [failed, , , ...change] = thereAndBack();
  lanes.defer(lanes.admit(failed!)!, 10);
  for (const one of change) expect(lanes.admit(one)).toBeNull();
  vi.advanceTimersByTime(10);
  expect(drain(lanes, [])).toEqual(['b', 'b', 'a']);
  expect([lanes.size, lanes.weight, lanes.heldUp, lanes.hasDropped]).toEqual([0, 0, 0, false]);
});

test('a change that fails behind a later one goes before it, and each waits for its own time, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes, update } = smallLanes({ capacity: 10, exclusive: false });
  const [first, second] = [lanes.admit(update(1, '1'))!, lanes.admit(update(2, '1'))!];
  lanes.defer(second, 50);
  lanes.defer(first, 10);
  vi.advanceTimersByTime(10);
  const again = lanes.takeReady()!;
  expect(again.change).toBe(first.change);
  lanes.finish(again);
  expect(lanes.takeReady()).toBeNull();
  vi.advanceTimersByTime(40);
  expect(lanes.takeReady()!.change).toBe(second.change);
});

test('a truncation waits for changes that come again, and later changes for the truncation, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes, update, cut } = smallLanes({ capacity: 10, exclusive: false });
  const [failed, inHand] = [lanes.admit(update(1, '1'))!, lanes.admit(update(2, '2'))!];
  lanes.defer(failed, 10);
  expect(lanes.admit(cut(3))).toBeNull();
  expect(lanes.admit(update(4, '2'))).toBeNull();
  vi.advanceTimersByTime(10);
  lanes.finish(lanes.takeReady()!);
  const truncation = lanes.takeReady()!;
  expect(truncation.change.id).toBe('*');
  lanes.defer(truncation, 10);
  expect(lanes.takeReady()).toBeNull();
  vi.advanceTimersByTime(10);
  expect(drain(lanes, [])).toEqual(['*', '2']);
  lanes.finish(inHand);
  expect([lanes.size, lanes.weight, lanes.deferred, lanes.hasDropped]).toEqual([0, 0, 0, false]);
});

test('a DELETE that comes again goes before a later change of its key that is held up, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes } = smallLanes({ capacity: 10, exclusive: false });
  const log = thereAndBack();
  const [failed, first, ...others] = log;
  lanes.defer(lanes.admit(failed!)!, 10);
  const inHand = lanes.admit(first!)!;
  for (const one of others) expect(lanes.admit(one)).toBeNull();
  // Held up by the second DELETE, which is behind a change that the first one is about to hold up.
  lanes.defer(inHand, 10);
  expect(lanes.hasDropped).toBe(true);
  vi.advanceTimersByTime(10);
  expect(drain(lanes, log).toSorted()).toEqual(['a', 'a', 'b', 'b', 'b']);
  expect([lanes.size, lanes.weight, lanes.heldUp, lanes.hasDropped]).toEqual([0, 0, 0, false]);
});

test('a change that fails behind one that was dropped comes again once, and behind it, with an acknowledgement by hand', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { lanes, update } = smallLanes({ capacity: 3, exclusive: false, keyOf: ({ id }) => id[0]! });
  const log = [update(1, 'a1'), update(2, 'a2')];
  const [first, second] = log.map((change) => lanes.admit(change)!);
  for (const id of ['b', 'c', 'd']) lanes.defer(lanes.admit(update(3, id))!, 10);
  lanes.defer(first!, 10);
  expect(lanes.hasDropped).toBe(true);
  vi.advanceTimersByTime(10);
  for (let n = 0; n < 3; n++) lanes.finish(lanes.takeReady()!);
  // There is room now, and the log has not been read yet.
  expect([lanes.weight, lanes.isHungry]).toEqual([0, true]);
  lanes.defer(second!, 10);
  vi.advanceTimersByTime(10);
  expect(drain(lanes, log)).toEqual(['a1', 'a2']);
  expect([lanes.size, lanes.weight, lanes.deferred, lanes.hasDropped]).toEqual([0, 0, 0, false]);
});

test('changes that wait for the DELETEs of their statement take no more room than there is', () => {
  const { lanes } = smallLanes({ capacity: 3 });
  const statement = Array.from({ length: 10 }, (_, n) =>
    changeOf({ op: n === 0 ? 'delete' : 'create', id: String(n), location: 'a', statement: 1 }, n),
  );
  const [first, ...others] = statement as [Change, ...Change[]];
  const ticket = lanes.admit(first)!;
  for (const other of others) expect(lanes.admit(other)).toBeNull();
  expect([lanes.weight, lanes.heldUp, lanes.isHungry]).toEqual([3, 9, false]);
  lanes.finish(ticket);
  expect(drain(lanes, others).toSorted()).toEqual(others.map(({ id }) => id));
});

/** References to changes that lanes without room have dropped: one has failed, one waits for the DELETE of its statement. */
function dropTwo(lanes: Lanes): WeakRef<Change>[] {
  const [remove, create] = exchange();
  const failed = changeOf({ op: 'update', id: 'c', location: 'a', statement: 9 }, 9);
  expect(lanes.admit(remove)).not.toBeNull();
  expect(lanes.admit(create)).toBeNull();
  lanes.defer(lanes.admit(failed)!, 60_000);
  return [failed, create].map((change) => new WeakRef(change));
}

test('a change that was dropped is not in memory while its lane waits', async () => {
  const { lanes } = smallLanes({ capacity: 0 });
  onTestFinished(() => lanes.stop());
  const dropped = dropTwo(lanes);
  // A reference that was just made keeps its change until the event loop turns.
  await new Promise(setImmediate);
  collectGarbage();
  expect(dropped.map((change) => change.deref())).toEqual([undefined, undefined]);
  expect([lanes.deferred, lanes.heldUp]).toEqual([1, 1]);
});

test('however many changes are due at once, no more than a page of them comes to memory', () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const [keys, page] = [100, 20];
  const { lanes, update } = smallLanes({ capacity: 10 });
  const log = Array.from({ length: keys }, (_, n) => update(n, String(n)));
  for (const change of log) lanes.defer(lanes.admit(change)!, 10);
  vi.advanceTimersByTime(10);
  const handedOut = new Set<Change>();
  let most = 0;
  while (handedOut.size < keys) {
    const reading = lanes.isHungry ? lanes.beginReading() : null;
    if (reading) {
      const found = log.filter(
        (change) => BigInt(change.sequence!) >= reading.from && !handedOut.has(change),
      );
      const read = found.slice(0, page);
      const upto = read.length === found.length ? null : BigInt(read.at(-1)!.sequence!);
      lanes.takeAgain(reading.lines, read, upto, () => false);
    }
    most = Math.max(most, lanes.weight);
    const ticket = lanes.takeReady()!;
    handedOut.add(ticket.change);
    lanes.finish(ticket);
  }
  expect(most).toBeLessThanOrEqual(10 + page);
});

test.each([
  ['fails', 4],
  ['hangs', 4],
  ['hangs', 0],
])(
  'a row that %s does not stop the others of its table after a truncation, with room for %i',
  (how, capacity) => {
    const { lanes, update, cut } = smallLanes({ capacity });
    const truncation = lanes.admit(cut(0))!;
    const log = Array.from({ length: 20 }, (_, n) => update(n + 1, n < 15 ? '1' : String(n)));
    for (const change of log) expect(lanes.admit(change)).toBeNull();
    lanes.finish(truncation);
    const over = new Set<Change>();
    const handedOut: string[] = [];
    let slow: Ticket | null = null;
    for (let turn = 0; turn < 100; turn++) {
      const reading = lanes.beginReading();
      const left = log.filter(
        (change) => !over.has(change) && BigInt(change.sequence!) >= (reading?.from ?? 0n),
      );
      if (reading) lanes.takeAgain(reading.lines, left, null, (change) => change === slow?.change);
      const ticket = lanes.takeReady();
      if (!ticket) continue;
      handedOut.push(ticket.change.id);
      if (ticket.change.id === '1') {
        slow = how === 'hangs' ? ticket : null;
        if (how === 'fails') lanes.defer(ticket, 60_000);
        continue;
      }
      over.add(ticket.change);
      lanes.finish(ticket);
    }
    expect(handedOut).toEqual(['1', '15', '16', '17', '18', '19']);
    lanes.stop();
  },
);
