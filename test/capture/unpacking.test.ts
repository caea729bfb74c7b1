import { expect, test } from 'vitest';
import { Unpacking } from '../../src/capture/unpacking.ts';
import type { Session } from '../../src/postgres/session.ts';
import { namesOf } from '../../src/schema/names.ts';

/** Sessions that keep each statement until it is released. */
function setup() {
  const asked: { rows: string; release: (error?: Error) => void }[] = [];
  const query = (_statement: unknown, [, rows]: string[]) =>
    new Promise((resolve, reject) =>
      asked.push({ rows: rows!, release: (error) => (error ? reject(error) : resolve([])) }),
    );
  const session = { query } as unknown as Session;
  const unpacking = new Unpacking(namesOf('test', 'postgres_input'), (task) => task(session));
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  return { asked, unpacking, turn };
}

test('all rows that are wanted while a session is at work are unpacked together by the next one', async () => {
  const { asked, unpacking, turn } = setup();
  const first = unpacking.unpack('100');
  await turn();
  const others = ['200', '300', '200'].map((row) => unpacking.unpack(row));
  await turn();
  expect(asked.map(({ rows }) => rows)).toEqual(['{100}']);
  asked[0]!.release();
  await first;
  await turn();
  expect(asked.map(({ rows }) => rows)).toEqual(['{100}', '{200,300}']);
  asked[1]!.release();
  await Promise.all(others);
});

test('who asks for a row while it is being unpacked waits for a session that begins after that', async () => {
  const { asked, unpacking, turn } = setup();
  const first = unpacking.unpack('100');
  await turn();
  // The first session may have begun before the row was there.
  const second = unpacking.unpack('100');
  asked[0]!.release();
  await first;
  await turn();
  expect(asked).toHaveLength(2);
  asked[1]!.release();
  await second;
});

test('a session that fails fails those that waited for it, and nobody after them', async () => {
  const { asked, unpacking, turn } = setup();
  const first = unpacking.unpack('100');
  await turn();
  const second = unpacking.unpack('200');
  asked[0]!.release(new Error('lost'));
  await expect(first).rejects.toThrow('lost');
  await turn();
  asked[1]!.release();
  await second;
});
