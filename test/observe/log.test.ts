/** The option `logger`: which lines it gets, and that none shows a password. */
import { inspect } from 'node:util';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Logger } from '../../src/index.ts';
import { Log } from '../../src/observe/log.ts';
import { Consumer, reaches } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';
import { watchWarnings } from '../support/warnings.ts';

/** A logger that keeps its lines. */
function collect() {
  const lines: [level: string, fields: Record<string, unknown>, text: string][] = [];
  const at = (level: string) => (fields: object, text: string) =>
    void lines.push([level, fields as Record<string, unknown>, text]);
  const logger: Logger = { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
  return { lines, logger };
}

test('tells the life of a node in sentences, with fields', async () => {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { lines, logger } = collect();
  const input = await fixture.input({ logger });
  const token = new Promise(
    (resolve) => void input.once('active', ({ fencingToken }) => resolve(fencingToken)),
  );
  const consumer = new Consumer(input);
  const fencingToken = await token;
  await input.close();
  await consumer.ended;
  const test_input = { input: 'test_input' };
  expect(lines.filter(([level]) => level !== 'debug')).toEqual([
    ['info', { ...test_input, watched: 1, unwatchable: [], pending: [] }, 'watches 1 table'],
    ['info', test_input, 'waits for the lease'],
    ['info', { ...test_input, fencingToken }, 'holds the lease: this node is active'],
    ['info', test_input, 'is closed'],
  ]);
});

test('a logger that throws harms nobody', async () => {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const warnings: string[] = [];
  const onWarning = ({ message }: Error) => void warnings.push(message);
  process.on('warning', onWarning);
  onTestFinished(() => void process.off('warning', onWarning));
  const fail = () => {
    throw new Error('the disk is full');
  };
  const input = await fixture.input({ logger: { debug: fail, info: fail, warn: fail, error: fail } });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await fixture.database.query('INSERT INTO items VALUES (1)');
  await consumer.count(1);
  expect(warnings).toContain('the disk is full');
});

test('nor does a logger whose promises are rejected', async () => {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { warn, unhandled } = watchWarnings();
  const error = new Error('the disk is full');
  const fail = () => Promise.reject(error);
  const input = await fixture.input({ logger: { debug: fail, info: fail, warn: fail, error: fail } });
  await input.close();
  await until(() => warn.mock.calls.length > 0 || unhandled.length > 0);
  expect(warn.mock.calls).toEqual([[error]]);
  expect(unhandled).toEqual([]);
});

test('no line shows a password, whatever an error carries', () => {
  const { lines, logger } = collect();
  const log = new Log(logger, 'x', ['hunter2']);
  const cause = Object.assign(new Error('postgres://app:hunter2@h'), { detail: 'hunter2' });
  log.tell([
    'discoveryFailed',
    Object.assign(new Error('no hunter2 here', { cause }), { client: { password: 'hunter2' } }),
  ]);
  expect(lines).toEqual([
    ['warn', { input: 'x', err: expect.any(Error) }, 'could not look after the triggers, and tries again'],
  ]);
  expect(inspect(lines, { depth: null, showHidden: true })).not.toContain('hunter2');
  expect((lines[0]![1]['err'] as Error).message).toBe('no *** here');
});

test.each([
  ['a signal aborts with', new DOMException('hunter2 took too long', 'TimeoutError'), 'TimeoutError'],
  ['leads back to itself', circular('hunter2 took too long'), 'Error'],
])('tells of an error that %s', (_, error, name) => {
  const { lines, logger } = collect();
  new Log(logger, 'x', ['hunter2']).tell(['discoveryFailed', error]);
  const { err } = lines[0]![1] as { err: Error };
  expect(err).toBeInstanceOf(error.constructor);
  expect({ name: err.name, message: err.message }).toEqual({ name, message: '*** took too long' });
  expect(inspect(lines, { depth: null, showHidden: true })).not.toContain('hunter2');
});

function circular(message: string): Error {
  const error = new Error(message);
  error.cause = new Error(message, { cause: error });
  return error;
}

test.each([
  ['a text', 'postgres://app:hunter2@h', 'postgres://app:***@h'],
  ['an object', { code: 5, dsn: 'postgres://app:hunter2@h' }, "{ code: 5, dsn: 'postgres://app:***@h' }"],
  ['nothing', undefined, undefined],
])('no line shows a password, also if a handler fails with %s', (_, error, err) => {
  const { lines, logger } = collect();
  const failed = { sequence: '1', location: 'items', id: '1', attempt: 1, delay: 1000 };
  new Log(logger, 'x', ['hunter2']).tell(['retrying', { ...failed, error }]);
  expect(lines).toEqual([['warn', { input: 'x', ...failed, err }, expect.any(String)]]);
});

test('console is a logger', async () => {
  await using fixture = await setupInputs();
  const info = vi.spyOn(console, 'info').mockImplementation(() => {});
  onTestFinished(() => info.mockRestore());
  const input = await fixture.input({ logger: console });
  await input.close();
  expect(info.mock.calls).toEqual([[{ input: 'test_input' }, 'is closed']]);
});

test('a logger that lacks a level is refused', async () => {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { info, warn, error } = console;
  await expect(fixture.input({ logger: { info, warn, error } as Logger })).rejects.toThrow(
    'options.logger: must have the functions debug, info, warn and error, as console and pino have',
  );
});
