import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/quoting.ts';
import { INTERNAL_TABLES, TRIGGER_EVENTS, type Names, locationOf, namesOf } from '../../src/schema/names.ts';
import { setupApplication } from '../support/setup-installation.ts';

/** Everything that an input gives a name, and what that name must be told apart from. */
const allOf = (names: Names, tables: readonly (readonly [schema: string, table: string])[]): string[] => [
  ...[names.lockTable, names.logTable, names.logSequence, names.secretTable].map(
    ({ name }) => `relation ${name}`,
  ),
  ...[names.notifyFunction, names.identityFunction, names.guardFunction].map(
    ({ name }) => `function ${name}`,
  ),
  ...[names.channel, names.nodeChannel].map((name) => `channel ${name}`),
  ...[names.sleepKey].map((key) => `lock ${key}`),
  ...tables.flatMap(([schema, table]) =>
    TRIGGER_EVENTS.flatMap((event) => [
      `function ${names.recordFunction(schema, table, event).name}`,
      `trigger on ${schema} ${table} ${names.trigger(table, event)}`,
    ]),
  ),
];
const nameIn = (what: string) => what.slice(what.lastIndexOf(' ') + 1);

describe('names', () => {
  test('are as documented, where there is room', () => {
    const names = namesOf('orders', 'postgres_input');
    expect(names.lockTable).toEqual({
      name: 'lock_postgres_input_orders',
      sql: '"postgres_input"."lock_postgres_input_orders"',
    });
    expect(names.logTable.name).toBe('log_postgres_input_orders');
    expect(names.channel).toBe('orders');
    expect(names.originalFunction).toBe('process_record_orders');
    expect(names.recordFunction('public', 'item', 'update').name).toMatch(
      /^process_record_orders_item_update_\w{10}$/,
    );
    expect(names.trigger('item', 'update')).toBe('item_orders_update_trigger');
    expect(locationOf('public', 'item')).toBe('item');
    expect(locationOf('app', 'item')).toBe('app.item');
  });

  test('are never cut by PostgreSQL, and never shared by two inputs or two tables', () => {
    // Few letters and long common beginnings, so that they meet.
    const short = fc.string({
      unit: fc.constantFrom('a', '_', 'b', 'é', '😀', '"'),
      minLength: 1,
      maxLength: 4,
    });
    const long = fc
      .tuple(fc.constantFrom('x'.repeat(59), '表'.repeat(20), 'x'.repeat(197)), short)
      .map((parts) => parts.join(''));
    const name = fc.oneof(short, long);
    const tableName = name.filter((text) => Buffer.byteLength(text) <= 63);
    const table = fc.tuple(tableName, tableName);
    fc.assert(
      fc.property(
        fc.uniqueArray(name, { minLength: 1, maxLength: 4 }),
        fc.uniqueArray(table, { minLength: 1, maxLength: 4, selector: JSON.stringify }),
        (ids, tables) => {
          const all = ids.flatMap((id) => allOf(namesOf(id, 'postgres_input'), tables));
          expect(new Set(all).size).toBe(all.length);
          for (const one of all.map(nameIn)) {
            expect(Buffer.byteLength(one)).toBeLessThanOrEqual(63);
            expect(Buffer.from(one).toString()).toBe(one);
          }
        },
      ),
    );
  });

  test('do not depend on the moment: other processes, and later versions, find the same', () => {
    const long = 'a'.repeat(70);
    expect(namesOf(long, 'postgres_input').channel).toBe(`${'a'.repeat(52)}_6bd5e50348`);
    expect(namesOf('a', 'postgres_input').recordFunction('public', 't', 'insert').name).toBe(
      'process_record_a_t_insert_8eefe1b51c',
    );
    expect(namesOf('a', 'postgres_input').sleepKey).toBe('9163888985342718728');
    expect(namesOf('a', 'postgres_input').installKey).toBe('-5020700046085407012');
  });

  test('of internal tables are recognised', () => {
    for (const id of ['a', 'x'.repeat(200), '表'.repeat(63)]) {
      const { lockTable, logTable, secretTable } = namesOf(id, 'postgres_input');
      for (const { name } of [lockTable, logTable, secretTable])
        expect(name).toMatch(new RegExp(INTERNAL_TABLES));
    }
  });
});

test('quoted names are read back by PostgreSQL unchanged', async () => {
  const database = await setupApplication();
  const texts = fc.sample(
    fc.string({
      unit: fc.constantFrom('a', "'", '"', '\\', '$', '%', '\n', '☃'),
      minLength: 1,
      maxLength: 8,
    }),
    50,
  );
  for (const setting of ['on', 'off']) {
    const client = await database.client();
    await client.query(`SET standard_conforming_strings = ${setting}`);
    for (const text of texts) {
      const { rows } = await client.query(`SELECT ${quoteLiteral(text)} AS ${quoteIdentifier(text)}`);
      expect(rows).toEqual([{ [text]: text }]);
    }
  }
});
