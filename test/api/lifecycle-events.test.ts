import { once } from 'node:events';
import { expect, expectTypeOf, test } from 'vitest';
import { setupInputs } from '../support/setup-inputs.ts';

test('an input can be waited for with `once` of node:events', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const active = once(input, 'active');
  const events = input.handle();
  expect(await active).toEqual([{ fencingToken: expect.any(String) }]);
  await events.return!();
  expect(input.eventNames()).toEqual([]);
});

test('`once` that is aborted leaves no listener', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  const abort = new AbortController();
  const active = once(input, 'active', { signal: abort.signal });
  abort.abort();
  await expect(active).rejects.toMatchObject({ name: 'AbortError' });
  expect(input.eventNames()).toEqual([]);
});

test('a listener gets what the event carries, and only events that there are have listeners', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input();
  input.on('reconnecting', ({ error, attempt, delay }) => {
    expectTypeOf(error.code).toExtend<string>();
    expectTypeOf(attempt).toEqualTypeOf<number>();
    expectTypeOf(delay).toEqualTypeOf<number>();
  });
  // @ts-expect-error There is no such event.
  input.on('activ', () => {});
  expect(input.listenerCount('reconnecting')).toBe(1);
});
