import { setImmediate } from 'node:timers/promises';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { Acknowledgements } from '../../src/capture/acknowledgements.ts';
import type { Session } from '../../src/postgres/session.ts';
import { namesOf } from '../../src/schema/names.ts';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
});

/** A session that has deleted at once. */
function setup() {
  const deleted: string[][] = [];
  const query = async (_statement: unknown, [sequences]: string[]) => {
    const list = sequences!.slice(1, -1).split(',').filter(Boolean);
    deleted.push(list);
    return [{ found: list.length }];
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

test('twenty are enough', async () => {
  const { deleted, acknowledge } = setup();
  await acknowledge(1, 20);
  expect(deleted).toHaveLength(1);
  await acknowledge(21, 21);
  expect(deleted.map((batch) => batch.length)).toEqual([1, 20]);
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
