import { describe, expect, test } from 'vitest';
import { parseOperation } from '../../src/api/orchestrator.ts';

describe('parseOperation', () => {
  test.each([
    ['create', 'create'],
    ['insert', 'create'],
    ['read', 'read'],
    ['update', 'update'],
    ['delete', 'delete'],
    ['remove', 'delete'],
    ['INSERT', 'create'],
    ['Update', 'update'],
    ['rEmOvE', 'delete'],
  ])('reads %s as %s', (text, operation) => {
    expect(parseOperation(text)).toBe(operation);
  });

  test.each(['', ' create', 'unknown', 'upsert', 'constructor', 'TRUNCATE'])(
    'refuses %j and says what there is',
    (text) => {
      const words = 'create, insert, read, update, delete, remove';
      expect(() => parseOperation(text)).toThrow(
        new TypeError(`${JSON.stringify(text)} is not an operation: use ${words}`),
      );
    },
  );
});
