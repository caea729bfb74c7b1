/** What `newTestInput` has beside the contract of an input: emitting, settling, time, repeats and takeovers. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, expectTypeOf, onTestFinished, test, vi } from 'vitest';
import type { ChangeEvent, NewInputFunc, PostgresInput, ProcessOptions } from '../../src/index.ts';
import { type EmittedEvent, type TestInput, type TestInputOptions, newTestInput } from '../../src/testing.ts';

interface Order {
  id: number;
  status: 'new' | 'paid';
  at: Date;
}
interface Tables {
  orders: Order;
  'crm.notes': { text: string };
}

const order: Order = { id: 1, status: 'new', at: new Date(0) };

async function setup(
  handler: (event: ChangeEvent<Tables>, context: { signal: AbortSignal }) => unknown = () => {},
  options: ProcessOptions<Tables> = {},
  inputOptions: TestInputOptions<Tables> = {},
) {
  const input = await newTestInput<Tables>({ name: 'shop' }, inputOptions);
  onTestFinished(() => input[Symbol.asyncDispose]());
  const handled: ChangeEvent<Tables>[] = [];
  const ended = input.process((event, context) => {
    handled.push(event);
    return handler(event, context);
  }, options);
  ended.catch(() => {});
  return { input, handled, ended };
}

test('completes a change to the event that a database would make of it', async () => {
  const { input, handled } = await setup();
  const after: Order = { ...order, status: 'paid' };
  const event = input.emit({
    location: 'orders',
    operation: 'update',
    before: order,
    after,
    origin: 'importer',
    context: { traceparent: '00-1' },
  });
  expect(event).toEqual({
    location: 'orders',
    operation: 'update',
    id: '1',
    key: { id: '1' },
    trigger: 'shop',
    sequence: expect.stringMatching(/^1000\d{16}$/),
    occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}000Z$/),
    before: order,
    after,
    changed: ['status'],
    dataOmitted: null,
    transaction: '1',
    origin: 'importer',
    context: { traceparent: '00-1' },
    attempt: 1,
    fencingToken: null,
  });
  await input.settled();
  expect(handled).toEqual([{ ...event, fencingToken: '1' }]);
  expect((handled[0]!.after as Order).at).toBe(after.at);
  expect(input.acked).toEqual(handled);
});

test('takes what is said of a change as it is said', async () => {
  const { input, handled } = await setup();
  const said = {
    id: '["1","2"]',
    key: { order: '1', line: '2' },
    occurredAt: '2026-01-02T03:04:05.123456Z',
    transaction: '77',
    dataOmitted: 'too-large',
  } as const;
  input.emit({ location: 'orders', operation: 'create', ...said });
  input.emit({ location: 'orders', operation: 'delete', key: { order: '1', line: '2' } });
  input.emit({ location: 'crm.notes', operation: 'create', after: { text: 'x' } });
  input.emit({ location: 'crm.notes', operation: 'delete', id: '*' });
  await input.settled();
  expect(handled[0]).toMatchObject({ ...said, sequence: '10001767323045123456' });
  expect(handled[1]).toMatchObject({ id: said.id, key: said.key });
  expect(handled[2]).toMatchObject({ id: '3', key: { id: '3' } });
  expect(handled[3]).toMatchObject({ id: '*', key: null });
});

test('refuses a time that no event has', async () => {
  const { input } = await setup();
  const emit = (occurredAt: string) => () =>
    input.emit({ location: 'orders', operation: 'create', occurredAt });
  for (const time of ['2024-01-01T01:00:00+01:00', '2024-01-01', 'now'])
    expect(emit(time)).toThrow(/occurredAt has to be ISO 8601 in UTC/);
  expect(emit('2024-01-01T01:00:00Z')().occurredAt).toBe('2024-01-01T01:00:00Z');
});

test('settles when all that can be done is done, however long handlers take', async () => {
  const { input, handled } = await setup(async ({ id, operation, attempt }) => {
    await sleep(5);
    if (id === '1' && operation === 'create' && attempt === 1) throw new Error('not yet');
  });
  input.emit({ location: 'orders', operation: 'create', after: order });
  input.emit({ location: 'orders', operation: 'delete', before: order });
  input.emit({ location: 'orders', operation: 'create', after: { ...order, id: 2 } });
  await input.settled();
  expect(input.acked.map(({ id }) => id)).toEqual(['2']);
  expect(handled).toHaveLength(2);
  await input.advance(1000);
  await input.settled();
  expect(input.acked.map(({ operation, attempt }) => `${operation} ${attempt}`)).toEqual([
    'create 1',
    'create 2',
    'delete 1',
  ]);
});

test('settles with handle(), too', async () => {
  const input = await newTestInput<Tables>();
  onTestFinished(() => input[Symbol.asyncDispose]());
  void (async () => {
    for await (const event of input.handle()) if (event.id === '1') await sleep(5);
  })();
  for (const id of ['1', '2', '3']) input.emit({ location: 'orders', operation: 'create', id });
  await input.settled();
  expect(input.acked.map(({ id }) => id)).toEqual(['1', '2', '3']);
});

test('does not wait for a consumer that is not there', async () => {
  const input = await newTestInput<Tables>();
  await input.settled();
  input.emit({ location: 'orders', operation: 'create', after: order });
  await expect(input.settled()).rejects.toThrow('nobody handles them');
  const ended = input.process(() => Promise.reject(new Error('bad')), {
    exhausted: 'stop',
    retry: { attempts: 1 },
  });
  await Promise.all([
    expect(input.settled()).rejects.toThrow('nobody handles them'),
    expect(ended).rejects.toThrow('bad'),
  ]);
});

test('time stands still until it is advanced, and every attempt that is due meanwhile is made', async () => {
  const delays: number[] = [];
  const { input, handled } = await setup(() => Promise.reject(new Error('down')), {
    retry: { minDelay: 1000, maxDelay: 4000 },
  });
  input.on('retrying', ({ delay }) => delays.push(delay));
  input.emit({ location: 'orders', operation: 'create', after: order });
  await input.settled();
  await sleep(30);
  expect(handled).toHaveLength(1);
  await input.advance(delays[0]! - 1);
  expect(handled).toHaveLength(1);
  await input.advance(1);
  expect(handled).toHaveLength(2);
  // At most 2, 4, 4 and 4 seconds.
  await input.advance(14_000);
  await input.settled();
  expect(handled.length).toBeGreaterThanOrEqual(6);
  expect(handled.map(({ attempt }) => attempt)).toEqual(handled.map((_, i) => i + 1));
  for (const bad of [-1, NaN, Infinity])
    await expect(input.advance(bad)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
  const { occurredAt } = input.emit({ location: 'orders', operation: 'create', id: '2' });
  expect(Date.parse(occurredAt!) - Date.parse(handled[0]!.occurredAt!)).toBeGreaterThanOrEqual(14_500);
});

test('time goes on by all that it is advanced, also at once, and never back', async () => {
  const { input } = await setup();
  const now = () => Date.parse(input.emit({ location: 'orders', operation: 'create' }).occurredAt!);
  const began = now();
  await Promise.all([input.advance(1000), input.advance(10)]);
  expect(now() - began).toBe(1010);
});

test('tells of slow handlers, and ends the waiting for them, by the same time', async () => {
  const slow: unknown[] = [];
  let isAborted = false;
  const { input, ended } = await setup(
    (_event, { signal }) => {
      signal.addEventListener('abort', () => (isAborted = true));
      return new Promise(() => {});
    },
    { slowAfter: 5000, drainTimeout: 3000 },
  );
  input.on('slow', (event) => slow.push(event));
  const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  input.emit({ location: 'orders', operation: 'create', after: order });
  await active;
  await input.advance(5000);
  expect(slow).toMatchObject([{ id: '1', duration: 5000 }]);
  const closed = input.close();
  await input.advance(2999);
  expect(isAborted).toBe(false);
  await input.advance(1);
  expect(isAborted).toBe(true);
  await Promise.all([closed, ended]);
});

test('brings an acknowledged event again, under the same sequence', async () => {
  const { input, handled } = await setup();
  const event = input.emit({ location: 'orders', operation: 'create', after: order });
  expect(() => input.redeliver(event)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }));
  await input.settled();
  input.redeliver(event);
  await input.settled();
  expect(handled.map(({ sequence }) => sequence)).toEqual([event.sequence, event.sequence]);
  expect(input.acked).toHaveLength(2);
  expect(() => input.redeliver({ ...event, sequence: '5' })).toThrow();
  const other = await newTestInput<Tables>({ name: 'other' });
  const foreign = other.emit({ location: 'orders', operation: 'create', after: order });
  expect(() => input.redeliver(foreign)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }));
});

test('brings no event again that was discarded', async () => {
  const { input } = await setup(() => Promise.reject(new Error('bad')), { retry: { attempts: 1 } });
  const event = input.emit({ location: 'orders', operation: 'create', after: order });
  await input.settled();
  expect(await input.discard('all')).toBe(1);
  expect(() => input.redeliver(event)).toThrow(expect.objectContaining({ code: 'ERR_CONFIG_INVALID' }));
});

test('takes a config as it comes out of a file', async () => {
  const input = await newTestInput({
    name: 'shop',
    connection_string: 'postgres://app@localhost/shop',
  } as object);
  expect(input.id).toBe('shop');
});

test('tells the oldest change of what waits, whatever came again meanwhile', async () => {
  const { input } = await setup(({ id, attempt }) => {
    if (id === '2' || attempt > 1) throw new Error('bad');
  });
  const first = input.emit({ location: 'orders', operation: 'create', id: '1' });
  await input.advance(1000);
  input.emit({ location: 'orders', operation: 'create', id: '2' });
  await input.settled();
  await input.close();
  input.redeliver(first);
  expect((await input.status()).oldestChangeAt).toBe(first.occurredAt);
  expect((await input.metrics()).oldestAgeSeconds).toBe(1);
});

test('tells the channel of the lease who holds it', async () => {
  const told: unknown[] = [];
  const tell = (message: unknown) => void told.push(message);
  subscribe('dapper-postgres-input:lease', tell);
  onTestFinished(() => void unsubscribe('dapper-postgres-input:lease', tell));
  const { input } = await setup();
  await input.settled();
  await input.takeover();
  await input.close();
  expect(told).toEqual([
    { input: 'shop', state: 'claimed', fencingToken: '1' },
    { input: 'shop', state: 'lost', fencingToken: '1' },
    { input: 'shop', state: 'claimed', fencingToken: '3' },
    { input: 'shop', state: 'released', fencingToken: '3' },
  ]);
});

test('a takeover aborts handlers, and what they had in hand comes again', async () => {
  const reasons: boolean[] = [];
  const { input, handled } = await setup(
    ({ fencingToken }, { signal }) =>
      fencingToken === '1'
        ? new Promise<void>((resolve) => {
            signal.addEventListener('abort', () => {
              reasons.push(signal.aborted);
              resolve();
            });
          })
        : undefined,
    { concurrency: 2 },
  );
  const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  for (const id of ['1', '2', '3']) input.emit({ location: 'orders', operation: 'create', id });
  await active;
  await input.advance(0);
  await input.takeover();
  await input.settled();
  expect(reasons).toEqual([true, true]);
  expect(handled.map(({ id, fencingToken }) => `${id} ${fencingToken}`)).toEqual([
    '1 1',
    '2 1',
    '1 3',
    '2 3',
    '3 3',
  ]);
  expect(input.acked.map(({ id }) => id)).toEqual(['1', '2', '3']);
  expect(await input.metrics()).toMatchObject({ acknowledged: 3, redelivered: 2 });
});

test('a delay of nack goes on over a takeover, however long it is', async () => {
  const input = await newTestInput<Tables>({ name: 'shop' });
  onTestFinished(() => input[Symbol.asyncDispose]());
  const events: ChangeEvent<Tables>[] = [];
  const ended = (async () => {
    for await (const event of input.handle({ ack: 'manual' })) {
      events.push(event);
      await (event.attempt === 1 ? input.nack(event, { delay: 3_600_000 }) : input.ack(event));
    }
  })();
  input.emit({ location: 'orders', operation: 'create', after: order });
  await input.settled();
  await input.advance(1_800_000);
  await input.takeover();
  await input.advance(1_799_999);
  expect(events).toHaveLength(1);
  await input.advance(1);
  await input.settled();
  expect(events.map(({ attempt, fencingToken }) => [attempt, fencingToken])).toEqual([
    [1, '1'],
    [2, '3'],
  ]);
  await input[Symbol.asyncDispose]();
  await ended;
});

test('refuses at once what is said of an event in a term that has just been lost', async () => {
  const input = await newTestInput<Tables>();
  onTestFinished(() => input[Symbol.asyncDispose]());
  const events = input.handle({ ack: 'manual' });
  input.emit({ location: 'orders', operation: 'create', after: order });
  const { value: event } = await events.next();
  const taken = input.takeover();
  await expect(input.ack(event!)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  await expect(input.ack(event!, {})).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
  await taken;
  expect((await events.next()).value).toEqual({ ...event, fencingToken: '3' });
  expect(input.acked).toEqual([]);
});

test('goes on under fake timers that leave setImmediate alone', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'Date'] });
  onTestFinished(() => void vi.useRealTimers());
  const { input } = await setup(({ attempt }) => attempt < 3 && Promise.reject(new Error('not yet')));
  input.emit({ location: 'orders', operation: 'create', after: order });
  await input.settled();
  await input.advance(3000);
  await input.settled();
  expect(input.acked).toHaveLength(1);
});

test('acknowledges for any client, at once, and checks tags without one', async () => {
  const client = {};
  const { input } = await setup(async (event) => {
    await input.ack(event, client);
    await input.tag(client, { context: { by: event.id } });
    throw new Error('after the acknowledgement');
  });
  input.emit({ location: 'orders', operation: 'create', after: order });
  await input.settled();
  expect(input.acked).toHaveLength(1);
  expect(await input.parked()).toEqual([]);
  await expect(input.tag(client, { origin: '' })).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
});

test('a backfill can be paused, resumed and cancelled', async () => {
  const existingRows = {
    orders: [1, 2, 3, 4, 5].map((id) => ({ ...order, id })),
    'crm.notes': [{ text: 'x' }],
  };
  const { input, handled } = await setup(() => {}, {}, { existingRows });
  const backfill = await input.backfill({ tables: ['orders'], chunk: 2 });
  await backfill.pause();
  await input.settled();
  expect(handled.map(({ id, operation }) => `${operation} ${id}`)).toEqual(['read 1', 'read 2']);
  expect(await backfill.progress()).toEqual([
    { table: 'orders', done: 2, estimated: 5, state: 'paused', error: null },
  ]);
  await backfill.resume();
  await input.settled();
  await backfill.done;
  expect(handled).toHaveLength(5);
  await expect(input.backfill({ tables: ['constructor'] })).rejects.toThrow(
    'tables: constructor: give the rows',
  );
  const all = await input.backfill();
  await all.cancel();
  await all.done;
  await input.settled();
  expect((await all.progress()).map(({ state }) => state)).toEqual(['cancelled', 'cancelled']);
});

test('a backfill is refused where a database would refuse it: no operation is a read', async () => {
  const existingRows = { orders: [order] };
  const input = await newTestInput<Tables>({ operations: ['create'] }, { existingRows });
  onTestFinished(() => input[Symbol.asyncDispose]());
  await expect(input.backfill()).rejects.toMatchObject({
    code: 'ERR_CONFIG_INVALID',
    message: expect.stringContaining("operations leaves out 'read'"),
  });
});

test('an event keeps the values that it was emitted with', async () => {
  const { input, handled } = await setup(({ after }) => ((after as Order).status = 'paid'));
  const row: Order = { ...order };
  const returned = input.emit({ location: 'orders', operation: 'create', after: row });
  row.id = 8;
  await input.settled();
  expect(row.status).toBe(order.status);
  expect(returned.after).toEqual(order);
  expect(handled[0]!.after).toEqual({ ...order, status: 'paid' });
  expect(input.acked[0]!.after).toEqual(order);
});

test('brings the rows that are there when that is asked for', async () => {
  const { input, handled } = await setup(
    () => {},
    {},
    { initial: 'read', existingRows: { orders: [order] } },
  );
  await input.settled();
  expect(handled).toMatchObject([{ operation: 'read', after: order }]);
});

test('its lifecycle events can be emitted by hand, as of every EventEmitter', async () => {
  const { input } = await setup();
  const told: unknown[] = [];
  input.on('notificationQueue', (queue) => told.push(queue));
  expect(input.emit('notificationQueue', { usage: 0.6, isFilling: true })).toBe(true);
  expect(told).toEqual([{ usage: 0.6, isFilling: true }]);
});

test('is typed as the input that it stands for', () => {
  expectTypeOf<TestInput<Tables>>().toExtend<PostgresInput<Tables>>();
  expectTypeOf(newTestInput).toExtend<NewInputFunc>();
  expectTypeOf<TestInput<Tables>['acked'][number]>().toEqualTypeOf<ChangeEvent<Tables>>();
  const never = (_code: (input: TestInput<Tables>) => unknown): void => {};
  never((input) => {
    // @ts-expect-error There is no such table.
    input.emit({ location: 'invoices', operation: 'create' });
    // @ts-expect-error A create has no row before.
    input.emit({ location: 'orders', operation: 'create', before: order });
    // @ts-expect-error There is no such status.
    input.emit({ location: 'orders', operation: 'create', after: { ...order, status: 'lost' } });
    // @ts-expect-error There is no such column.
    input.emit({ location: 'crm.notes', operation: 'read', after: { text: 'x', length: 1 } });
  });
  expectTypeOf<EmittedEvent>().toExtend<{ location: string }>();
});
