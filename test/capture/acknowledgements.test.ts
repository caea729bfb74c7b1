import { setImmediate } from 'node:timers/promises';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import { takeUnfinished, withWholeRows } from '../../src/capture/named-rows.ts';
import type { Session } from '../../src/postgres/session.ts';
import { namesOf } from '../../src/schema/names.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
});

/** A session that has deleted after so many turns of the event loop. */
function setup(duration = 0) {
  const deleted: string[][] = [];
  const query = async (_statement: unknown, values: string[]) => {
    const [each, , , , rows, sizes] = values.map((array) => array.slice(1, -1).split(',').filter(Boolean));
    deleted.push([...each!, ...rows!.map((row, n) => `${sizes![n]} of ${row}`)]);
    await turns(duration);
    return [{ found: each!.length + sizes!.reduce((sum, size) => sum + Number(size), 0) }];
  };
  const hold = { holder: 'node', token: '1' };
  const session = { query } as unknown as Session;
  const fail = (error: unknown) => {
    throw error;
  };
  const acknowledgements = new Acknowledgements(session, namesOf('test', 'postgres_input'), hold, fail);
  const turns = async (n: number) => {
    for (let i = 0; i < n; i++) await setImmediate();
  };
  const acknowledge = async (from: number, to: number) => {
    for (let n = from; n <= to; n++) {
      acknowledgements.acknowledgeSoon(`${n}`);
      await turns(3);
    }
  };
  return { deleted, acknowledgements, acknowledge, turns };
}

test('the first change is deleted at once, and few that follow it together, after 10 ms', async () => {
  const { deleted, acknowledge, turns } = setup();
  await acknowledge(1, 5);
  expect(deleted).toEqual([['1']]);
  vi.advanceTimersByTime(10);
  await turns(3);
  expect(deleted).toEqual([['1'], ['2', '3', '4', '5']]);
});

test('five hundred are enough', async () => {
  const { deleted, acknowledge } = setup();
  await acknowledge(1, 500);
  expect(deleted).toHaveLength(1);
  await acknowledge(501, 501);
  expect(deleted.map((batch) => batch.length)).toEqual([1, 500]);
});

test('nobody who waits for a change, or for all of them, waits for others to come', async () => {
  const { deleted, acknowledge, acknowledgements } = setup();
  await acknowledge(1, 2);
  await acknowledgements.flush();
  expect(deleted).toEqual([['1'], ['2']]);
  await acknowledge(3, 3);
  await acknowledgements.acknowledge('4');
  expect(deleted).toEqual([['1'], ['2'], ['3', '4']]);
});

/** Changes `from` to `to` of a packed row. */
const ofRow = (row: number, from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, n) => String(row * 1000 + from + n));

test.each<[string, string[], string[], [row: string, size: string][]]>([
  ['single rows', ['1000', '2000'], ['1000', '2000'], []],
  ['a full row', ofRow(1, 1, 100), [], [['1000', '100']]],
  ['a row that others follow', [...ofRow(1, 1, 7), '2000'], ['2000'], [['1000', '7']]],
  ['a row that may go on', ofRow(1, 1, 99), ofRow(1, 1, 99), []],
  ['a row from its second change on', [...ofRow(1, 2, 9), '2000'], [...ofRow(1, 2, 9), '2000'], []],
  [
    'a row with a gap',
    [...ofRow(1, 1, 3), ...ofRow(1, 5, 9), '2000'],
    [...ofRow(1, 1, 3), ...ofRow(1, 5, 9), '2000'],
    [],
  ],
  ['a change alone', [...ofRow(1, 1, 1), '2000'], ['1001', '2000'], []],
  ['a change twice', ['1001', '1001', '1002', '2000'], ['1001', '2000'], [['1000', '2']]],
  [
    'rows that follow each other',
    [...ofRow(1, 1, 2), ...ofRow(2, 1, 3), ...ofRow(3, 1, 4)],
    ofRow(3, 1, 4),
    [
      ['1000', '2'],
      ['2000', '3'],
    ],
  ],
])('names %s', (_, sequences, each, rows) => {
  const named = withWholeRows(sequences);
  expect(named.each).toEqual(each);
  expect(named.rows.map((row, n) => [row, named.sizes[n]])).toEqual(rows);
});

test.each<[string, string[], number]>([
  ['nothing', [], 0],
  ['single rows', ['1000', '2000'], 0],
  ['a full row', [...ofRow(1, 1, 2), ...ofRow(2, 1, 100)], 0],
  ['a row that may go on', [...ofRow(1, 1, 2), ...ofRow(2, 1, 60)], 60],
  ['a row that may go on, and nothing else', ofRow(2, 1, 60), 0],
  ['the end of a row', ['1000', ...ofRow(2, 30, 60)], 0],
])('waits for others of the last row: %s', (_, sequences, count) => {
  const left = [...sequences];
  const taken = takeUnfinished(left);
  expect(taken).toHaveLength(count);
  expect([...left, ...taken]).toEqual(sequences);
});

test('the first changes of a packed row wait for the next DELETE, with which the others may go, and no longer', async () => {
  const { deleted, acknowledgements, turns } = setup(3);
  const acknowledge = async (sequences: string[]) => {
    for (const sequence of sequences) acknowledgements.acknowledgeSoon(sequence);
    await turns(2);
  };
  await acknowledge([...ofRow(1, 1, 100), ...ofRow(2, 1, 30)]);
  await acknowledge([...ofRow(2, 31, 100), ...ofRow(3, 1, 2)]);
  for (let n = 0; n < 2; n++) {
    vi.advanceTimersByTime(10);
    await turns(10);
  }
  expect(deleted).toEqual([['100 of 1000'], ['100 of 2000'], ['3001', '3002']]);
  await acknowledge([...ofRow(4, 1, 100), ...ofRow(5, 1, 30)]);
  await acknowledgements.flush();
  expect(new Set(deleted.slice(3).flat())).toEqual(new Set(['100 of 4000', ...ofRow(5, 1, 30)]));
});

test('what gathers is pending', async () => {
  const { acknowledge, acknowledgements } = setup();
  await acknowledge(1, 3);
  expect([...acknowledgements.pending]).toEqual(['2', '3']);
});

test('eleven inputs may gather at once without a warning of listeners', async () => {
  const warn = vi.spyOn(process, 'emitWarning').mockReturnValue();
  onTestFinished(() => warn.mockRestore());
  await Promise.all(Array.from({ length: 11 }, () => setup().acknowledge(1, 2)));
  expect(warn).not.toHaveBeenCalled();
});
