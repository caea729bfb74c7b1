/** Rows that tables hold already, as `read` events: exact among the changes, complete, and each once. */
import { expect, test } from 'vitest';
import type { ChangeEvent } from '../../src/index.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { KEYS, TABLES_WITH_KEYS, keyTable } from '../support/keys.ts';
import { setupInputs } from '../support/setup-inputs.ts';

const reads = (events: readonly ChangeEvent[]) => events.filter(({ operation }) => operation === 'read');

test('every row comes once, with its data, also to a node that is asleep', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('INSERT INTO items SELECT n, n * 2 FROM generate_series(1, 5000) n');
  const input = await fixture.input({ rows: 'after' });
  const consumer = new Consumer(input);
  await once(input, 'asleep');
  const backfill = await input.backfill();
  await backfill.done;
  expect(reads(consumer.events).map(({ after }) => after)).toEqual(
    Array.from({ length: 5000 }, (_, i) => ({ id: i + 1, value: (i + 1) * 2 })),
  );
  expect(new Set(consumer.events.map(({ sequence }) => sequence)).size).toBe(5000);
  expect(consumer.events[0]).toMatchObject({
    location: 'items',
    operation: 'read',
    id: '1',
    key: { id: '1' },
    before: null,
    transaction: null,
    attempt: 1,
    sequence: expect.stringMatching(/^\d{48}$/),
  });
  expect(await backfill.progress()).toEqual([
    { table: 'items', done: 5000, estimated: expect.any(Number), state: 'done', error: null },
  ]);
  await database.query('INSERT INTO items VALUES (0, 0)');
  await consumer.count(5001);
  expect(consumer.ids.at(-1)).toBe('0');
});

test('keys of every type are read in their own order, each row once', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query(TABLES_WITH_KEYS);
  for (const [type, values] of Object.entries(KEYS))
    for (const value of values) await database.query(`INSERT INTO ${keyTable(type)} VALUES ($1)`, [value]);
  const input = await fixture.input({ rows: 'after', tables: { exclude: ['items'] } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  const backfill = await input.backfill({ chunk: 1 });
  await backfill.done;
  const found = await backfill.progress();
  const expected = Object.keys(KEYS).map((type) => ({ table: `${type} key`, done: 2, error: null }));
  expect(found.map(({ table, done, error }) => ({ table, done, error }))).toEqual(
    expect.arrayContaining(expected),
  );
  expect(reads(consumer.events).length).toBe(2 * expected.length);
});
