import { createHmac } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readPayload } from '../../src/capture/notification.ts';

const secret = Buffer.from('the secret of our triggers, 32 b');
const database = '16384@1769860800123456';
const read = (text: string) => readPayload(text, { secret, database });
const signedByVersion1 = (body: string, key = secret) =>
  `[{"mac":"${createHmac('sha256', key).update(body).digest('hex')}"},${body}]`;
const signed = (changes: string, key = secret, origin = database) =>
  signedByVersion1(`{"database":"${origin}"},${changes}`, key);

const change = {
  seq: '9007199254740993',
  xid: '757',
  at: '2026-01-31T12:00:00.123456',
  tbl: 'items',
  id: '7',
  op: 'UPDATE',
  key: 'id',
  version: 3,
};

test('a key column called __proto__ is told like every other column', () => {
  const key = '{"__proto__":"1","constructor":"2"}';
  const body = JSON.stringify(change).replace('"key":"id"', `"key":${key}`);
  const payload = read(signed(body));
  expect(payload.kind).toBe('changes');
  const [told] = payload.kind === 'changes' ? payload.changes : [];
  expect(JSON.stringify(told?.key)).toBe(key);
});

describe('a payload made by hand', () => {
  test.each([
    ['INSERT', 'create'],
    ['update', 'update'],
    ['Remove', 'delete'],
    ['read', 'read'],
  ])('with the operation %s is a change', (op, operation) => {
    expect(read(JSON.stringify({ tbl: 'items', id: '1', op }))).toEqual({
      kind: 'foreign',
      change: {
        sequence: null,
        location: 'items',
        operation,
        id: '1',
        key: null,
        occurredAt: null,
        transaction: null,
        stamp: '',
        details: null,
        shape: null,
      },
    });
  });

  test.each([
    ['"a b"', 'a b'],
    ['""', ''],
    ['null', ''],
    ['0', '0'],
    ['-7', '-7'],
    ['1000000', '1000000'],
    ['9007199254740993', '9007199254740993'],
    ['-9223372036854775808', '-9223372036854775808'],
    ['1.50', '1.50'],
  ])('has the id %s as it was written', (written, id) => {
    expect(read(`{"tbl":"items","op":"INSERT","id":${written}}`)).toMatchObject({ change: { id } });
  });

  test('has the id of its own member "id", not one that stands elsewhere in the text', () => {
    const text = '{"more":{"id":5},"tbl":"\\"id\\":6","id" : 9007199254740993,"op":"INSERT"}';
    expect(read(text)).toMatchObject({ change: { id: '9007199254740993', location: '"id":6' } });
  });

  test.each([
    'some bollocks',
    '',
    'null',
    '{}',
    '1',
    '"text"',
    '[[]]',
    '[{}]',
    '{"tbl":"items","id":"1"}',
    '{"tbl":"items","op":"INSERT"}',
    '{"id":"1","op":"INSERT"}',
    '{"tbl":"","id":"1","op":"INSERT"}',
    '{"tbl":null,"id":"1","op":"INSERT"}',
    '{"tbl":"items","id":{"a":1},"op":"INSERT"}',
    '{"tbl":"items","id":["1"],"op":"INSERT"}',
    '{"tbl":"items","id":true,"op":"INSERT"}',
    '{"tbl":"items","id":"1","op":"MERGE"}',
    '{"tbl":"items","id":"1","op":"constructor"}',
    '{"tbl":"items","id":"1","op":7}',
    `${'['.repeat(3999)}${']'.repeat(3999)}`,
    `${'{"a":'.repeat(1300)}1${'}'.repeat(1300)}`,
  ])('%s is garbage', (text) => {
    const payload = read(text);
    expect(payload).toMatchObject({
      kind: 'garbage',
      error: { code: 'ERR_PAYLOAD_INVALID', retryable: false },
    });
  });

  test('that is garbage is shortened in the error', () => {
    expect(read('x'.repeat(5000))).toHaveProperty('error.message', expect.stringContaining('xxx…'));
    expect(read('x'.repeat(5000))).toHaveProperty(
      'error.message.length',
      expect.toSatisfy((n) => n < 500),
    );
  });
});

describe('a payload of a trigger', () => {
  test('holds all changes of a statement, and their transaction', () => {
    const second = { ...change, seq: '2', id: '["a",1]', op: 'DELETE', key: { a: 'a', b: '1' } };
    const body = [change, second].map((c) => JSON.stringify(c)).join();
    expect(read(signed(body))).toEqual({
      kind: 'changes',
      xid: 757n,
      crowded: false,
      changes: [
        {
          sequence: '9007199254740993',
          location: 'items',
          operation: 'update',
          id: '7',
          key: 'id',
          occurredAt: '2026-01-31T12:00:00.123456Z',
          transaction: '757',
          stamp: '1769860800123456',
          details: null,
          shape: null,
        },
        {
          sequence: '2',
          location: 'items',
          operation: 'delete',
          id: '["a",1]',
          key: { a: 'a', b: '1' },
          occurredAt: '2026-01-31T12:00:00.123456Z',
          transaction: '757',
          stamp: '1769860800123456',
          details: null,
          shape: null,
        },
      ],
    });
  });

  test('of version 1 has no version: a sequence of it is the number alone', () => {
    const { version: _, ...old } = change;
    expect(read(signed(JSON.stringify(old)))).toMatchObject({
      changes: [{ sequence: change.seq, stamp: '' }],
    });
  });

  test('that does not name its database, as those of version 1, tells the reader to look in the log', () => {
    expect(read(signedByVersion1(JSON.stringify(change)))).toEqual({ kind: 'look' });
  });

  test('may be marked as crowded', () => {
    const crowded = signed(JSON.stringify(change)).replace('"}', '","crowded":true}');
    expect(read(crowded)).toMatchObject({ kind: 'changes', xid: 757n, crowded: true });
  });

  test('may only tell the reader to look in the log', () => {
    expect(read('[]')).toEqual({ kind: 'look' });
  });

  test('of an unknown form tells the reader to look in the log', () => {
    expect(read(signed('{"seq":"1","what":"is this"}'))).toEqual({ kind: 'look' });
    expect(read(signed('{}'))).toEqual({ kind: 'look' });
  });

  const body = JSON.stringify(change);
  test.each([
    ['unsigned', `[${body}]`],
    ['unsigned and alone', body],
    ['from a copy of the database', signed(body, secret, '16385@1769860800123456')],
    ['signed with another secret', signed(body, Buffer.from('x'))],
    ['signed with nothing', signed(body, Buffer.alloc(0))],
    ['signed for another body', signed(body).replace('"id":"7"', '"id":"8"')],
    ['longer than what was signed', `${signed(body).slice(0, -1)},${body}]`],
    ['with a signature that is too short', `[{"mac":"00"},${body}]`],
    ['with an empty signature', `[{"mac":""},${body}]`],
    ['with a signature alone', '[{"mac":"00"}]'],
    ['with a signature at the end', `[${body},{"mac":"${'0'.repeat(64)}"}]`],
    ['with something after it', `${signed(body)} `],
    ['with a sequence in the form by hand', '{"seq":"1","tbl":"items","id":"1","op":"INSERT"}'],
  ])('is a forgery %s', (_, text) => {
    expect(read(text)).toEqual({ kind: 'forged' });
  });
});
