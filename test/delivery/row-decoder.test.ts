import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import pg from 'pg';
import { expect, test } from 'vitest';
import type { TypeParsers } from '../../src/api/options.ts';
import { Change } from '../../src/capture/change.ts';
import type { RowShape } from '../../src/capture/row-shapes.ts';
import { RowDecoder, fieldsOf } from '../../src/delivery/row-decoder.ts';

const TEXT = 25;
const INT4 = 23;

/** The text of a composite, as the function record_out of PostgreSQL writes it. */
const composite = (fields: readonly (string | null)[]): string =>
  `(${fields
    .map((field) => {
      if (field === null) return '';
      if (field !== '' && !/["\\(),\s]/.test(field)) return field;
      return `"${field.replaceAll(/["\\]/g, '$&$&')}"`;
    })
    .join(',')})`;

const change = (
  shape: Change['shape'],
  { before = null, after = null }: { before?: string | null; after?: string | null },
): Change => {
  const made = new Change('1000', 't', 'update', '1', null, null, null, '', {
    before,
    after,
    shape: 's',
    origin: null,
    context: null,
  });
  made.shape = shape;
  return made;
};

const hostile = fc
  .array(
    fc.constantFrom(
      '"',
      '\\',
      ',',
      '(',
      ')',
      '\n',
      '\t',
      ' ',
      '{',
      '}',
      'a',
      '1',
      'é',
      '\u{1F600}',
      '\u2028',
    ),
    {
      maxLength: 12,
    },
  )
  .map((characters) => characters.join(''));
const field = fc.option(fc.oneof(hostile, fc.string({ unit: 'binary' })), { nil: null });

test('cuts a row into the fields that PostgreSQL printed, NULLs and empty texts apart', () => {
  fc.assert(
    fc.property(fc.array(field, { minLength: 1, maxLength: 8 }), (fields) => {
      expect(fieldsOf(composite(fields), fields.length)).toEqual(fields);
    }),
    { numRuns: 1000 },
  );
  expect(fieldsOf('()', 0)).toEqual([]);
  expect(fieldsOf('()', 1)).toEqual([null]);
  expect(fieldsOf('("")', 1)).toEqual(['']);
  const long = ['x'.repeat(5000), 'a"b'.repeat(2000), '', null, 'short'];
  expect(fieldsOf(composite(long), 5)).toEqual(long);
});

test('does not cut a row by the shape of another one', () => {
  fc.assert(
    fc.property(
      fc.array(field, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 7 }),
      (fields, count) => {
        fc.pre(count !== fields.length);
        expect(() => fieldsOf(composite(fields), count)).toThrow();
      },
    ),
  );
  for (const broken of ['', '(', ')', '(a', '("a', '("a)', '(a,', '(a,"b)', 'a,b'])
    expect(() => fieldsOf(broken, 2)).toThrow();
});

test('tells which columns differ, by their texts', () => {
  const shape: RowShape = [
    ['id', INT4],
    ['total', 1700],
    ['note', TEXT],
    ['gone', TEXT],
  ];
  const decoder = new RowDecoder(pg.types);
  const update = { before: '(1,1.0,"",x)', after: '(1,1.00,,x)' };
  expect(decoder.decode(change(shape, update))).toEqual({
    before: { id: 1, total: '1.0', note: '', gone: 'x' },
    after: { id: 1, total: '1.00', note: null, gone: 'x' },
    changed: ['total', 'note'],
    dataOmitted: null,
  });
  expect(decoder.decode(change(shape, { after: update.after }))).toMatchObject({
    before: null,
    changed: null,
  });
  expect(decoder.decode(change(shape, { before: update.before }))).toMatchObject({
    after: null,
    changed: null,
  });
});

test('keeps a column whose name is __proto__ or a number, as node-postgres does', () => {
  const shape: RowShape = [
    ['__proto__', TEXT],
    ['1', INT4],
    ['constructor', TEXT],
  ];
  const { after } = new RowDecoder(pg.types).decode(change(shape, { after: '(polluted,2,x)' }));
  expect(Object.entries(after!)).toEqual([
    ['1', 2],
    ['__proto__', 'polluted'],
    ['constructor', 'x'],
  ]);
  expect(Object.getPrototypeOf(after)).toBe(Object.prototype);
  expect('polluted' in {}).toBe(false);
});

test('parses by the parsers of the user, those that are in force when the event is handed out', async () => {
  const parsers = new Map([[INT4, (text: string): unknown => BigInt(text)]]);
  const types: TypeParsers = { getTypeParser: (oid) => parsers.get(oid) ?? ((text) => text.length) };
  const decoder = new RowDecoder(types);
  const shape: RowShape = [
    ['id', INT4],
    ['name', TEXT],
  ];
  const made = change(shape, { after: '(7,seven)' });
  expect(decoder.decode(made).after).toEqual({ id: 7n, name: 5 });
  parsers.set(INT4, Number);
  // They are looked up once in a turn of the event loop.
  await setImmediate();
  expect(decoder.decode(made).after).toEqual({ id: 7, name: 5 });
});

test('says that data is missing where it was left out, where a shape does not fit, and where a parser throws', () => {
  const none = { before: null, after: null, changed: null };
  const failing: TypeParsers = {
    getTypeParser: () => () => {
      throw new Error('a parser of the user');
    },
  };
  const shape: RowShape = [['id', INT4]];
  const decoder = new RowDecoder(pg.types);
  expect(decoder.decode(change(null, {}))).toEqual({ ...none, dataOmitted: null });
  expect(decoder.decode(change('too-large', {}))).toEqual({ ...none, dataOmitted: 'too-large' });
  expect(decoder.decode(change('unreadable', {}))).toEqual({ ...none, dataOmitted: 'unreadable' });
  expect(decoder.decode(change(shape, { after: '(1,2)' }))).toEqual({ ...none, dataOmitted: 'unreadable' });
  expect(new RowDecoder(failing).decode(change(shape, { before: '(1)', after: '()' }))).toEqual({
    ...none,
    dataOmitted: 'unreadable',
  });
});
