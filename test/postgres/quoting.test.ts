import { expect, test } from 'vitest';
import { qualify, quoteIdentifier, quoteLiteral, unquoteLiteral } from '../../src/postgres/quoting.ts';

test.each([
  ['orders', '"orders"'],
  ['Two Words', '"Two Words"'],
  ['a"b', '"a""b"'],
  ['"; DROP TABLE t; --', '"""; DROP TABLE t; --"'],
])('the identifier %j is quoted as %s', (name, quoted) => {
  expect(quoteIdentifier(name)).toBe(quoted);
});

test('a schema and a name are quoted each on its own', () => {
  expect(qualify('a.b', 'c"d')).toBe('"a.b"."c""d"');
});

test.each([
  ['', "''"],
  ["it's", "'it''s'"],
  ['back\\slash', "E'back\\\\slash'"],
  ["both ' and \\", "E'both '' and \\\\'"],
  ['two\nlines', "'two\nlines'"],
  ["E'", "'E'''"],
])('the literal %j is quoted as %s, and read back', (text, quoted) => {
  expect(quoteLiteral(text)).toBe(quoted);
  expect(unquoteLiteral(quoted)).toBe(text);
});
