import { inspect } from 'node:util';
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import { PostgresInputError, redact, type ErrorCode } from '../../src/api/errors.ts';
import { isConnectionError } from '../../src/postgres/sqlstates.ts';

const everything = (value: unknown) => inspect(value, { depth: null, showHidden: true });

describe('PostgresInputError', () => {
  test('carries its name, code, message and cause', () => {
    const cause = new Error('why');
    const error = new PostgresInputError('ERR_INSTALL', 'what', { cause });

    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: 'PostgresInputError', code: 'ERR_INSTALL', message: 'what' });
    expect(error.cause).toBe(cause);
    expect(error.stack).toMatch(/^PostgresInputError: what\n/);
    expect(new PostgresInputError('ERR_CLOSED', 'closed')).not.toHaveProperty('cause');
  });

  test.each<[ErrorCode, boolean]>([
    ['ERR_CONFIG_INVALID', false],
    ['ERR_CONNECTION_STRING', false],
    ['ERR_CONNECT', true],
    ['ERR_CONNECTION_LOST', true],
    ['ERR_INSTALL', false],
    ['ERR_PAYLOAD_INVALID', false],
    ['ERR_LEASE_LOST', false],
    ['ERR_ALREADY_HANDLING', false],
    ['ERR_CLOSED', false],
  ])('%s is retryable: %s, unless it is told otherwise', (code, retryable) => {
    expect(new PostgresInputError(code, '').retryable).toBe(retryable);
    expect(new PostgresInputError(code, '', { retryable: !retryable }).retryable).toBe(!retryable);
  });

  test('shows a secret neither in its message nor anywhere in its causes', () => {
    const inner = Object.assign(new TypeError('Invalid URL'), { input: 'postgres://me:hunter2@host' });
    const several = new AggregateError([new Error('hunter2 at ::1'), 'hunter2'], 'all of hunter2', {
      cause: inner,
    });
    const cause = Object.assign(new pg.DatabaseError('no hunter2', 5, 'error'), {
      code: '28P01',
      detail: 'it was hunter2',
      client: { password: 'hunter2' },
      cause: several,
    });
    const error = new PostgresInputError('ERR_CONNECT', 'hunter2 refused', { cause, secrets: ['hunter2'] });

    expect(everything(error)).not.toContain('hunter2');
    expect(error.message).toBe('*** refused');
    expect(error.cause).toBeInstanceOf(pg.DatabaseError);
    expect(error.cause).toMatchObject({ message: 'no ***', code: '28P01', detail: 'it was ***' });
    expect(error.cause).toHaveProperty('cause.errors.0.message', '*** at ::1');
    expect(error.cause).toHaveProperty('cause.cause.input', 'postgres://me:***@host');
    // The caller's own error is left as it was.
    expect(cause.detail).toBe('it was hunter2');
  });

  test.each([
    ['text', 'hunter2', '***'],
    ['a number', 7, 7],
    ['null', null, null],
    ['an object', { password: 'hunter2' }, undefined],
  ])('keeps %s as the cause', (_, cause, kept) => {
    expect(new PostgresInputError('ERR_CONNECT', '', { cause, secrets: ['hunter2'] }).cause).toEqual(kept);
  });
});

describe('redact', () => {
  test('replaces every occurrence, the longest secret first, and ignores empty ones', () => {
    expect(redact('ab abc ab', ['', 'ab', 'abc'])).toBe('*** *** ***');
  });

  test('takes a secret as it is, not as a pattern', () => {
    expect(redact('a$&.*b $1', ['$&.*', '$1'])).toBe('a***b ***');
  });
});

describe('isConnectionError', () => {
  const withCode = (code: string) => Object.assign(new Error('some text'), { code });

  test.each([
    ...['08000', '08003', '08006', '08P01', '57P01', '57P02', '57P03', '57P05', '25P03'].map(withCode),
    ...['ECONNRESET', 'ECONNREFUSED', 'EPIPE', 'ETIMEDOUT', 'ENOTFOUND', 'EHOSTUNREACH'].map(withCode),
    new Error('Connection terminated'),
    new Error('Connection terminated unexpectedly'),
    new Error('Client has encountered a connection error and is not queryable'),
    new Error('Query read timeout'),
    new Error('timeout expired'),
    new PostgresInputError('ERR_CONNECT', ''),
    new PostgresInputError('ERR_CONNECTION_LOST', ''),
    new PostgresInputError('ERR_INSTALL', '', { cause: withCode('ECONNRESET') }),
    new AggregateError([withCode('EACCES'), withCode('ECONNREFUSED')]),
  ])('is true for %o', (error) => {
    expect(isConnectionError(error)).toBe(true);
  });

  test.each([
    undefined,
    'ECONNRESET',
    new Error('x'),
    ...['42501', '40001', '55P03', '57014', '28P01', 'ENOENT'].map(withCode),
    new PostgresInputError('ERR_INSTALL', ''),
  ])('is false for %o', (error) => {
    expect(isConnectionError(error)).toBe(false);
  });
});
