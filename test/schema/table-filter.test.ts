import { expect, test } from 'vitest';
import { passes, unmatched } from '../../src/schema/table-filter.ts';

test.each([
  ['orders', 'orders', true],
  ['orders', 'order', false],
  ['orders', 'Orders', false],
  ['order', 'orders', false],
  ['*', 'orders', true],
  ['*', '', true],
  ['order*', 'order', true],
  ['order*', 'order_lines', true],
  ['*lines', 'order_lines', true],
  ['*lines', 'order_lines_2', false],
  ['o*_*s', 'order_old_lines', true],
  ['*ab', 'aab', true],
  ['**', 'orders', true],
  ['log_?', 'log_1', true],
  ['log_?', 'log_', false],
  ['log_?', 'log_12', false],
  ['log_?', 'log_💡', true],
  ['a.c', 'abc', false],
  ['[ab]', 'a', false],
  ['[ab]', '[ab]', true],
  ['', 'orders', false],
  ['public.orders', 'orders', true],
  ['app.orders', 'orders', false],
  ['pub*.ord*', 'orders', true],
  ['public.*', 'orders', true],
])('the pattern %j for the table %j of schema public: %j', (pattern, table, matches) => {
  expect(passes({ include: [pattern], exclude: [] }, 'public', table)).toBe(matches);
  expect(passes({ include: [], exclude: [pattern] }, 'public', table)).toBe(!matches);
});

test('a filter without patterns lets every table pass', () => {
  expect(passes({ include: [], exclude: [] }, 'public', 'orders')).toBe(true);
});

test('a table that is included and excluded does not pass', () => {
  const filter = { include: ['order*', 'items'], exclude: ['*_old'] };
  expect(
    ['orders', 'items', 'orders_old', 'other'].filter((table) => passes(filter, 'public', table)),
  ).toEqual(['orders', 'items']);
});

test('a pattern of many stars is compared in a moment', () => {
  // By trying every share of the characters for every star, this comparison would not end within a lifetime.
  const pattern = `${'a*'.repeat(40)}b`;
  expect(passes({ include: [pattern], exclude: [] }, 'public', 'a'.repeat(63))).toBe(false);
});

test('finds the patterns that name no table, by either of its names', () => {
  const tables = [
    { schema: 'public', table: 'orders' },
    { schema: 'app', table: 'lines' },
  ];
  const filter = { include: ['orders', 'app.lin*', 'order', 'public.lines'], exclude: ['*', 'x*'] };
  expect(unmatched(filter, tables)).toEqual([
    { option: 'include', pattern: 'order' },
    { option: 'include', pattern: 'public.lines' },
    { option: 'exclude', pattern: 'x*' },
  ]);
  expect(unmatched({ include: [], exclude: [] }, [])).toEqual([]);
});
