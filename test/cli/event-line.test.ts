import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { eventLine } from '../../src/cli/event-line.ts';
import type { ChangeEvent } from '../../src/index.ts';
import { NO_DETAILS } from '../support/no-details.ts';

const event = (parts: Partial<ChangeEvent>): ChangeEvent => ({
  location: 'orders',
  operation: 'update',
  id: '7',
  trigger: 'x',
  sequence: '1000',
  key: { id: '7' },
  occurredAt: '2026-11-26T12:03:04.567891Z',
  transaction: '1',
  ...NO_DETAILS,
  fencingToken: '1',
  ...parts,
});

const paper = { stdout: new Writable(), env: {} };
const line = (parts: Partial<ChangeEvent>): string => eventLine(event(parts), paper);

describe('a line', () => {
  it('tells the time, the operation, the table and the row', () => {
    expect(line({})).toBe('12:03:04.567Z  update  orders 7');
    expect(line({ operation: 'delete', location: 'crm.notes', id: '*', key: null })).toBe(
      '12:03:04.567Z  delete  crm.notes *',
    );
    expect(line({ occurredAt: null })).toBe('               update  orders 7');
  });

  it('shows the columns that an update changed', () => {
    const before = { id: 7, status: 'paid', total: null, note: 'same' };
    const after = { id: 7, status: 'shipped', total: 12, note: 'same' };
    expect(line({ before, after, changed: ['status', 'total'] })).toBe(
      '12:03:04.567Z  update  orders 7  status: paid -> shipped, total: null -> 12',
    );
    expect(line({ before, after: before, changed: [] })).toContain('orders 7  the same values');
  });

  it('shows the values of any other row, without its key and without what is null', () => {
    const row = { id: 7, status: 'paid', note: null };
    expect(line({ operation: 'create', after: row })).toContain('orders 7  status: paid');
    expect(line({ operation: 'update', after: row })).toContain('orders 7  status: paid');
    expect(line({ operation: 'delete', before: row })).toContain('orders 7  status: paid');
    expect(line({ operation: 'delete', before: { id: 7, note: null } })).toMatch(/orders 7$/);
  });

  it('tells why there is no row, and who wrote it', () => {
    expect(line({ dataOmitted: 'too-large', origin: 'importer' })).toContain(
      'orders 7  no data: too-large  by importer',
    );
  });

  it('shows values of any kind in a few characters', () => {
    const after = {
      empty: '',
      time: new Date(Date.UTC(2026, 0, 2)),
      never: new Date(Number.NaN),
      bytes: Buffer.from('dead', 'hex'),
      json: { a: [1] },
      ok: true,
    };
    expect(line({ operation: 'create', after })).toContain(
      `empty: '', time: 2026-01-02T00:00:00.000Z, never: an invalid time, bytes: \\xdead, json: {"a":[1]}, ok: true`,
    );
  });

  it('cuts long values, long ids and wide rows', () => {
    const text = line({
      operation: 'create',
      id: 'i'.repeat(500),
      after: { note: '😀'.repeat(1000), blob: Buffer.alloc(5000, 0xff) },
    });
    expect(text).toContain(`${'i'.repeat(39)}…  note: ${'😀'.repeat(39)}…, blob: \\x${'f'.repeat(37)}…`);
    const wide = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`c${i}`, i]));
    expect(line({ operation: 'create', after: wide })).toMatch(/c6: 6, c7: 7, 22 more$/);
  });

  it('gives a terminal nothing to obey', () => {
    const hostile = 'a\u001B[2Jb\nc\u202Ed\u2028e';
    const text = line({
      location: hostile,
      id: hostile,
      origin: hostile,
      operation: 'create',
      after: { [hostile]: hostile, json: { [hostile]: 1 } },
    });
    expect(text).not.toMatch(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_C}]/u);
    expect(text).toContain('a\\u001b[2Jb\\u000ac\\u202ed\\u2028e');
  });
});

it('is coloured where there are colours', () => {
  const screen = { stdout: Object.assign(new Writable(), { hasColors: () => true }), env: {} };
  expect(eventLine(event({ origin: 'ada' }), screen)).toBe(
    '\u001B[90m12:03:04.567Z\u001B[39m  \u001B[33mupdate\u001B[39m  \u001B[36morders\u001B[39m 7  \u001B[90mby ada\u001B[39m',
  );
});
