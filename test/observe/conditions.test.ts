/** A condition `when` that fails: the change comes, is counted, and somebody is told. */
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import { ConditionErrors } from '../../src/observe/condition-errors.ts';
import { Consumer, once } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

describe.each(['none', 'both'] as const)('with rows: %s', (rows) => {
  test.each(['1 / after.value > 0', 'abs(1 / after.value) > 0'])(
    'statements for which %s fails are counted, and no other one',
    async (when) => {
      const fixture = await setupInputs();
      onTestFinished(() => fixture[Symbol.asyncDispose]());
      const { database } = fixture;
      const input = await fixture.input({ rows, watch: { items: { when } } });
      const told: unknown[] = [];
      input.on('conditionFailed', (condition) => void told.push(condition));
      const asleep = once(input, 'asleep');
      const consumer = new Consumer(input);
      await asleep;
      const counted = async () => (await input.metrics()).conditionErrors;

      await database.query('INSERT INTO items VALUES (1, 1), (2, 2)');
      await consumer.count(1);
      expect(await counted()).toBe(0);
      expect(told).toEqual([]);

      await database.query('INSERT INTO items VALUES (3, 0)');
      await consumer.count(2);
      expect(told).toEqual([{ table: 'items', statements: 1 }]);
      expect(input.health().checks).toContainEqual({
        name: 'conditions',
        status: 'warn',
        message: expect.stringMatching(/^when of items failed for 1 statements, the last \S+ s ago: /),
      });

      // Of a transaction, only the statement for which it fails; none that is rolled back; of many rows in one statement, one.
      await database.query(`
        BEGIN;
        SAVEPOINT before;
        INSERT INTO items VALUES (4, 0);
        ROLLBACK TO before;
        INSERT INTO items VALUES (5, 1);
        UPDATE items SET value = 0 WHERE id = 5;
        INSERT INTO items VALUES (6, 1);
        DELETE FROM items WHERE id = 2;
        COMMIT;
        INSERT INTO items VALUES (7, 1);
        INSERT INTO items SELECT n, (n <> 50)::int FROM generate_series(10, 209) n;
        INSERT INTO items VALUES (8, 1)`);
      await until(() => consumer.ids.includes('8'));
      expect(await counted()).toBe(3);
      expect(consumer.ids).toEqual(expect.arrayContaining(['3', '5', '6', '7', '50']));
      expect(consumer.ids).not.toContain('4');
      expect(told).toHaveLength(1);
    },
  );
});

describe('how often it is told', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
  afterEach(() => void vi.useRealTimers());

  test('each table once a minute, with the statements since then', () => {
    const errors = new ConditionErrors();
    const add = (table: string) => errors.add({ table, statements: 1 });
    expect(add('a')).toEqual({ table: 'a', statements: 1 });
    expect(add('b')).toEqual({ table: 'b', statements: 1 });
    expect([add('a'), add('a')]).toEqual([null, null]);
    vi.advanceTimersByTime(60_000);
    expect(add('a')).toEqual({ table: 'a', statements: 3 });
    expect(add('a')).toBe(null);
    expect(errors.total).toBe(6);
  });
});
