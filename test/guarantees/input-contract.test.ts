/** What an input promises a consumer: the same over a database and over the store in memory of `newTestInput`. */
import { describe, expect, onTestFinished, test } from 'vitest';
import type { ChangeEvent, HandleOptions, ProcessOptions } from '../../src/index.ts';
import {
  HARNESSES,
  type HarnessOptions,
  type InputHarness,
  type Tables,
  eventually,
} from '../support/input-harnesses.ts';

type Event = ChangeEvent<Tables>;

const FAST = { minDelay: 20, maxDelay: 20 };
const told = ({ operation, id, attempt }: Event) => `${operation} ${id}, attempt ${attempt}`;

/** A promise and what resolves it. */
function gate() {
  let open!: () => void;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

/** Processes, and records which events were handled when. */
function process(
  { input }: InputHarness,
  handler: (event: Event, signal: AbortSignal) => unknown,
  options: ProcessOptions<Tables> = {},
) {
  const record = { begun: [] as Event[], done: [] as Event[], running: 0, most: 0 };
  const ended = input.process(
    async (event, { signal }) => {
      record.begun.push(event);
      record.most = Math.max(record.most, ++record.running);
      try {
        await handler(event, signal);
        record.done.push(event);
      } finally {
        record.running--;
      }
    },
    { retry: FAST, ...options },
  );
  ended.catch(() => {});
  return Object.assign(record, { ended });
}

/** Takes events from handle() as they come. */
function take(
  { input }: InputHarness,
  options: HandleOptions = {},
  each: (event: Event) => unknown = () => {},
) {
  const events: Event[] = [];
  const ended = (async () => {
    for await (const event of input.handle(options)) {
      events.push(event);
      await each(event);
    }
  })();
  ended.catch(() => {});
  return { events, ended };
}

describe.each(HARNESSES)('an input $kind', ({ setup }) => {
  const start = async (options: HarnessOptions = {}) => {
    const harness = await setup(options);
    onTestFinished(() => harness[Symbol.asyncDispose]());
    return harness;
  };

  test('hands out whole events, in order, and acknowledges one when the next is asked for', async () => {
    const harness = await start();
    const { events, ended } = take(harness);
    await harness.create(1);
    await harness.update(1, 5);
    await harness.remove(1);
    await eventually(harness, () => events.length === 3);
    expect(events).toMatchObject([
      { operation: 'create', before: null, after: { id: 1, n: 0 }, changed: null },
      { operation: 'update', before: { id: 1, n: 0 }, after: { id: 1, n: 5 }, changed: ['n'] },
      { operation: 'delete', before: { id: 1, n: 5 }, after: null, changed: null },
    ]);
    for (const event of events) {
      expect(event).toMatchObject({
        location: 'items',
        id: '1',
        key: { id: '1' },
        trigger: 'contract',
        sequence: expect.stringMatching(/^[1-9]\d*$/),
        occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/),
        transaction: expect.stringMatching(/^\d+$/),
        dataOmitted: null,
        origin: null,
        context: null,
        attempt: 1,
        fencingToken: expect.stringMatching(/^\d+$/),
      });
    }
    await eventually(harness, () => harness.isEmpty());
    await harness.input.close();
    await ended;
  });

  test('the event on which a loop ends is not acknowledged, and comes again', async () => {
    const harness = await start();
    await (async () => {
      const events = harness.input.handle();
      const first = events.next();
      await harness.create(1);
      await first;
      await events.return!();
    })();
    expect(await harness.isEmpty()).toBe(false);
    const { events } = take(harness);
    await eventually(harness, () => events.length === 1);
    expect(events.map(told)).toEqual(['create 1, attempt 1']);
  });

  test('events are acknowledged one by one, in any order, and no more are in hand than maxInFlight', async () => {
    const harness = await start({ maxInFlight: 2 });
    const { events } = take(harness, { ack: 'manual' });
    for (const id of [1, 2, 3, 4]) await harness.create(id);
    await eventually(harness, () => events.length === 2);
    await harness.input.ack(events[1]!);
    await eventually(harness, () => events.length === 3);
    await harness.input.ack(events[1]!);
    expect(events).toHaveLength(3);
    await harness.input.ack(events[0]!);
    await harness.input.ack(events[2]!);
    await eventually(harness, () => events.length === 4);
    await harness.input.ack(events[3]!);
    expect(await harness.isEmpty()).toBe(true);
  });

  test('a refused event comes again as the next attempt, and its row waits for it', async () => {
    const harness = await start();
    const { events } = take(harness, { ack: 'manual' });
    await harness.create(1);
    await eventually(harness, () => events.length === 1);
    await harness.input.nack(events[0]!, { delay: 20, error: new Error('not now') });
    await harness.update(1, 1);
    await eventually(harness, () => events.length === 2);
    await harness.input.ack(events[1]!);
    await eventually(harness, () => events.length === 3);
    expect(events.map(told)).toEqual(['create 1, attempt 1', 'create 1, attempt 2', 'update 1, attempt 1']);
  });

  test('an event that is about to be parked is not refused', async () => {
    const harness = await start();
    const { events } = take(harness, { ack: 'manual' });
    await harness.create(1);
    await eventually(harness, () => events.length === 1);
    const parking = harness.input.park(events[0]!, 'bad row');
    await harness.input.nack(events[0]!, { delay: 0 });
    await parking;
    await harness.create(2);
    await eventually(harness, () => events.some(({ id }) => id === '2'));
    await harness.update(2, 1);
    await eventually(harness, () => events.some(({ operation }) => operation === 'update'));
    expect(events.filter(({ id }) => id === '1')).toHaveLength(1);
    expect(await harness.input.parked()).toHaveLength(1);
  });

  test('a parked event is out of the way, and comes again under its sequence when it is redriven', async () => {
    const harness = await start();
    const { input } = harness;
    const { events } = take(harness, { ack: 'manual' });
    await harness.create(1);
    await harness.create(2);
    await eventually(harness, () => events.length === 2);
    await input.park(events[0]!, 'no such customer');
    await input.park(events[1]!);
    expect(await harness.isEmpty()).toBe(true);
    const [first, second] = await input.parked();
    expect([first, second]).toMatchObject([
      {
        id: '1',
        sequence: events[0]!.sequence,
        after: { id: 1, n: 0 },
        attempts: 1,
        error: 'no such customer',
      },
      { id: '2', sequence: events[1]!.sequence },
    ]);
    expect(await input.parked({ limit: 1 })).toEqual([first]);
    expect(await input.parked({ after: first!.sequence! })).toEqual([second]);
    expect(await input.redrive([first!.sequence!])).toBe(1);
    expect(await input.discard('all')).toBe(1);
    await eventually(harness, () => events.length === 3);
    expect(events[2]).toMatchObject({ id: '1', attempt: 1, sequence: first!.sequence });
    await input.ack(events[2]!);
    expect(await harness.isEmpty()).toBe(true);
    expect(await input.parked()).toEqual([]);
  });

  test('handles as many events at once as it may, those of one row in order', async () => {
    const harness = await start();
    const full = gate();
    const handled = process(
      harness,
      async () => {
        if (handled.running === 4) full.open();
        await full.opened;
      },
      { concurrency: 4 },
    );
    for (let id = 1; id <= 10; id++) await harness.create(id);
    for (let id = 1; id <= 10; id++) await harness.update(id, 1);
    await eventually(harness, () => handled.done.length === 20);
    expect(handled.most).toBe(4);
    for (let id = 1; id <= 10; id++) {
      const of = handled.begun.filter((event) => event.id === String(id));
      expect(of.map(({ operation }) => operation)).toEqual(['create', 'update']);
    }
    await eventually(harness, () => harness.isEmpty());
  });

  test('events of one key are handled one after the other, whatever their rows', async () => {
    const harness = await start();
    const handled = process(harness, () => new Promise(setImmediate), {
      concurrency: 8,
      key: ({ location, after }) => `${location} ${(after?.n ?? 0) % 1}`,
    });
    for (let id = 1; id <= 8; id++) await harness.create(id);
    await eventually(harness, () => handled.done.length === 8);
    expect(handled.most).toBe(1);
    expect(handled.begun.map(({ id }) => id)).toEqual(['1', '2', '3', '4', '5', '6', '7', '8']);
  });

  test('a TRUNCATE waits for the events of its table, and holds what comes after', async () => {
    const harness = await start();
    const { open, opened } = gate();
    const handled = process(harness, ({ id }) => (id === '1' ? opened : undefined), { concurrency: 8 });
    await harness.create(1);
    await harness.create(2);
    await harness.truncate();
    await harness.create(3);
    await eventually(harness, () => handled.done.length === 1);
    await harness.elapse();
    expect(handled.begun.map(({ id }) => id)).toEqual(['1', '2']);
    open();
    await eventually(harness, () => handled.done.length === 4);
    expect(handled.begun.map(({ id }) => id)).toEqual(['1', '2', '*', '3']);
  });

  test('a TRUNCATE that is redriven needs no key', async () => {
    const harness = await start();
    let isRefused = true;
    const handled = process(
      harness,
      ({ id }) => {
        if (id === '*' && isRefused) throw new Error('not now');
      },
      { key: ({ before, after }) => String((after ?? before)!.n), retry: { ...FAST, attempts: 1 } },
    );
    await harness.create(1);
    await harness.truncate();
    await eventually(harness, async () => (await harness.input.parked()).length === 1);
    isRefused = false;
    await harness.input.redrive('all');
    await eventually(harness, () => handled.done.length === 2);
    expect(handled.done.map(({ id }) => id)).toEqual(['1', '*']);
  });

  test('a failing event comes again as the next attempt, and only its row waits', async () => {
    const harness = await start();
    const retrying: unknown[] = [];
    harness.input.on('retrying', (failure) => retrying.push(failure));
    const bad = new Error('not yet');
    const handled = process(harness, ({ id, operation, attempt }) => {
      const isOtherDone = handled.done.some((event) => event.id === '2');
      if (id === '1' && operation === 'create' && !(attempt > 2 && isOtherDone)) throw bad;
    });
    await harness.create(1);
    await harness.update(1, 1);
    await harness.create(2);
    await eventually(harness, () => handled.done.length === 3);
    expect(handled.done[0]!.id).toBe('2');
    const first = handled.begun.filter(({ id }) => id === '1').map(told);
    expect(first.slice(0, 3)).toEqual([1, 2, 3].map((attempt) => `create 1, attempt ${attempt}`));
    expect(first.at(-1)).toBe('update 1, attempt 1');
    expect(retrying[0]).toMatchObject({ id: '1', location: 'items', attempt: 1, error: bad });
    await eventually(harness, () => harness.isEmpty());
  });

  test('an event comes again as it was, whatever its handler did to it', async () => {
    const harness = await start();
    const seen: unknown[] = [];
    const handled = process(harness, ({ attempt, key, after, changed }) => {
      seen.push({ attempt, after: { ...after, ...key }, changed: changed && [...changed] });
      key!['id'] = '99';
      after!.n = 99;
      (changed as string[] | null)?.splice(0);
      if (attempt === 1) throw new Error('not yet');
    });
    await harness.create(1);
    await harness.update(1, 5);
    await eventually(harness, () => handled.done.length === 2);
    expect(seen).toEqual([
      { attempt: 1, after: { id: '1', n: 0 }, changed: null },
      { attempt: 2, after: { id: '1', n: 0 }, changed: null },
      { attempt: 1, after: { id: '1', n: 5 }, changed: ['n'] },
      { attempt: 2, after: { id: '1', n: 5 }, changed: ['n'] },
    ]);
  });

  test('an event whose attempts are exhausted is parked, and its key goes on', async () => {
    const harness = await start();
    const parked: unknown[] = [];
    harness.input.on('parked', (failure) => parked.push(failure));
    let isBad = true;
    const handled = process(
      harness,
      ({ operation }) => {
        if (operation === 'create' && isBad) throw new Error('bad row');
      },
      { retry: { ...FAST, attempts: 2 } },
    );
    await harness.create(1);
    await harness.update(1, 1);
    await eventually(harness, () => handled.done.length === 1);
    expect(parked).toMatchObject([{ id: '1', attempts: 2 }]);
    expect(await harness.input.parked()).toMatchObject([
      { operation: 'create', attempts: 2, error: expect.stringContaining('bad row') },
    ]);
    isBad = false;
    expect(await harness.input.redrive('all')).toBe(1);
    await eventually(harness, () => handled.done.length === 2);
    expect(told(handled.done[1]!)).toBe('create 1, attempt 1');
    await eventually(harness, () => harness.isEmpty());
  });

  test("processing stops with the handler's error when that is asked for, and keeps the event", async () => {
    const harness = await start();
    const bad = new Error('bad row');
    const { ended } = process(harness, () => Promise.reject(bad), {
      retry: { ...FAST, attempts: 2 },
      exhausted: 'stop',
    });
    await harness.create(1);
    const outcome = ended.then(
      () => 'fulfilled',
      (error: unknown) => error,
    );
    let reason: unknown;
    void outcome.then((is) => (reason = is));
    await eventually(harness, () => reason !== undefined);
    expect(reason).toBe(bad);
    expect(harness.input.state).toBe('idle');
    expect(await harness.isEmpty()).toBe(false);
  });

  test('the next event of a row waits for the handler that has parked the one before', async () => {
    const harness = await start();
    const { open, opened } = gate();
    const handled = process(
      harness,
      async (event) => {
        if (event.operation !== 'create' || event.id !== '1') return;
        await harness.input.park(event, 'bad row');
        await opened;
      },
      { concurrency: 2 },
    );
    await harness.create(1);
    await eventually(harness, async () => (await harness.input.parked()).length === 1);
    await harness.update(1, 1);
    await harness.create(2);
    await eventually(harness, () => handled.done.length === 1);
    expect(handled.begun.map(told)).toEqual(['create 1, attempt 1', 'create 2, attempt 1']);
    open();
    await eventually(harness, () => handled.done.length === 3);
    expect(handled.begun.at(-1)!.operation).toBe('update');
    await eventually(harness, () => harness.isEmpty());
  });

  test("processing stops with the handler's error, also if that is undefined", async () => {
    const harness = await start();
    const nothing: unknown = undefined;
    const { ended } = process(
      harness,
      () => {
        throw nothing;
      },
      { retry: { ...FAST, attempts: 1 }, exhausted: 'stop' },
    );
    await harness.create(1);
    await expect(ended).rejects.toBeUndefined();
  });

  test.each<[string, unknown, string]>([
    ['nothing', undefined, 'no reason was given'],
    ['null', null, 'null'],
    ['a symbol', Symbol('odd'), 'Symbol(odd)'],
    ['an error whose stack is no text', Object.assign(new Error('odd'), { stack: ['one', 'two'] }), 'two'],
    ['text without end', 'x'.repeat(10_000_000), 'xxx'],
    ['text with half a character', '\uD83D', ''],
    [
      'an error that throws when it is looked at',
      Object.defineProperty(new Error('odd'), 'stack', {
        get() {
          throw new Error('even odder');
        },
      }),
      'can not be printed',
    ],
  ])('an event is tried again and parked also if its handler throws %s', async (_, thrown, kept) => {
    const harness = await start();
    const handled = process(
      harness,
      ({ id }) => {
        if (id === '1') throw thrown;
      },
      { retry: { ...FAST, attempts: 2 } },
    );
    await harness.create(1);
    await eventually(harness, async () => (await harness.input.parked()).length === 1);
    expect((await harness.input.parked())[0]!.error).toContain(kept);
    await harness.create(2);
    await eventually(harness, () => handled.done.length === 1);
    expect(handled.begun.map(told)).toEqual([
      'create 1, attempt 1',
      'create 1, attempt 2',
      'create 2, attempt 1',
    ]);
  });

  test('an event that its handler has acknowledged does not come again, however the handler ends', async () => {
    const harness = await start();
    const handled = process(harness, async (event) => {
      if (event.id === '1') await harness.transaction((client) => harness.input.ack(event, client));
      else await harness.input.ack(event);
      throw new Error('too late');
    });
    await harness.create(1);
    await harness.create(2);
    await harness.create(3);
    await eventually(harness, () => handled.begun.length >= 3);
    await eventually(harness, () => harness.isEmpty());
    expect(handled.begun.map(told)).toEqual([1, 2, 3].map((id) => `create ${id}, attempt 1`));
    const [first] = handled.begun;
    await expect(harness.transaction((client) => harness.input.ack(first!, client))).rejects.toMatchObject({
      code: 'ERR_LEASE_LOST',
    });
  });

  test('close() lets handlers finish, and begins no other', async () => {
    const harness = await start();
    const { open, opened } = gate();
    const handled = process(harness, () => opened, { concurrency: 2, drainTimeout: 20_000 });
    for (const id of [1, 2, 3]) await harness.create(id);
    await eventually(harness, () => handled.running === 2);
    const closed = harness.input.close();
    open();
    await closed;
    await handled.ended;
    expect(handled.done).toHaveLength(2);
    expect(await harness.isEmpty()).toBe(false);
    expect(() => harness.input.handle()).toThrow(expect.objectContaining({ code: 'ERR_CLOSED' }));
  });

  test('a handler that outlasts drainTimeout is told so, and its event comes again', async () => {
    const harness = await start();
    const stop = new AbortController();
    let isAborted = false;
    const handled = process(
      harness,
      (_event, signal) => {
        signal.addEventListener('abort', () => (isAborted = true));
        return new Promise(() => {});
      },
      { drainTimeout: 20, signal: stop.signal },
    );
    await harness.create(1);
    await eventually(harness, () => handled.running === 1);
    stop.abort();
    await eventually(harness, () => isAborted);
    await handled.ended;
    expect(await harness.isEmpty()).toBe(false);
    const next = process(harness, () => {});
    await eventually(harness, () => next.done.length === 1);
    expect(next.done.map(told)).toEqual(['create 1, attempt 1']);
  });

  test('after a takeover, what was in hand comes again under a higher token, and what is said of it before is refused', async () => {
    const harness = await start();
    const { events } = take(harness, { ack: 'manual' });
    await harness.create(1);
    await harness.create(2);
    await eventually(harness, () => events.length === 2);
    await harness.input.ack(events[1]!);
    await harness.takeOver();
    await expect(harness.input.ack(events[0]!)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    await expect(harness.input.nack(events[0]!)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    await expect(harness.input.park(events[0]!)).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    await expect(
      harness.transaction((client) => harness.input.ack(events[0]!, client)),
    ).rejects.toMatchObject({ code: 'ERR_LEASE_LOST' });
    await eventually(harness, () => events.length === 3);
    const [first, , again] = events;
    expect(again).toEqual({ ...first, fencingToken: again!.fencingToken });
    expect(BigInt(again!.fencingToken!)).toBeGreaterThan(BigInt(first!.fencingToken!));
    await harness.input.ack(again!);
    expect(await harness.isEmpty()).toBe(true);
  });

  test('attempts go on over a takeover, and what was not in hand comes after', async () => {
    const harness = await start();
    const handled = process(harness, ({ fencingToken }) => {
      if (fencingToken === handled.begun[0]!.fencingToken) throw new Error('not yet');
    });
    await harness.create(1);
    await eventually(harness, () => handled.begun.length >= 3);
    await harness.takeOver();
    await harness.update(1, 1);
    await eventually(harness, () => handled.done.length === 2);
    expect(handled.done.map(({ operation }) => operation)).toEqual(['create', 'update']);
    // The takeover may come before the last failure is written.
    expect(handled.done[0]!.attempt).toBeGreaterThan(1);
    await eventually(harness, () => harness.isEmpty());
  });

  test('attempts of a read go on over a takeover', async () => {
    const harness = await start({ existing: [1] });
    const reads: Event[] = [];
    const handled = process(harness, (event) => {
      if (event.operation !== 'read' || event.id !== '1') return;
      reads.push(event);
      if (event.fencingToken === reads[0]!.fencingToken) throw new Error('not yet');
    });
    await harness.create(2);
    await eventually(harness, () => handled.done.length === 1);
    await harness.input.backfill({ tables: ['items'] });
    await eventually(harness, () => reads.length >= 3);
    await harness.takeOver();
    await eventually(harness, () => reads.at(-1)!.fencingToken !== reads[0]!.fencingToken);
    // The takeover may come before the last failure is written.
    expect(reads.at(-1)!.attempt).toBeGreaterThan(1);
    expect(reads.at(-1)!.sequence).toBe(reads[0]!.sequence);
    await eventually(harness, () => harness.isEmpty());
  });

  test('an event that is in hand at five takeovers in a row is parked', async () => {
    const harness = await start();
    const parked: unknown[] = [];
    harness.input.on('parked', (failure) => parked.push(failure));
    // The handler blocks until its node is gone.
    const handled = process(
      harness,
      ({ id }, signal) => id === '1' && new Promise((resolve) => signal.addEventListener('abort', resolve)),
    );
    await harness.create(1);
    for (let death = 1; death <= 6; death++) {
      await eventually(harness, () => handled.begun.length === death);
      await harness.takeOver();
    }
    await harness.create(2);
    await eventually(harness, () => handled.begun.some(({ id }) => id === '2'));
    expect(parked).toMatchObject([
      { id: '1', error: { message: expect.stringContaining('5 times in a row') } },
    ]);
  });

  test('one slow row does not stop others, however many of its events wait', async () => {
    const harness = await start();
    const { open, opened } = gate();
    const handled = process(harness, ({ id }) => (id === '1' ? opened : undefined), { concurrency: 4 });
    await harness.create(1);
    const writes: Promise<void>[] = [];
    for (let n = 1; n <= 5000; n++) writes.push(harness.update(1, n));
    for (let id = 2; id <= 100; id++) writes.push(harness.create(id));
    await Promise.all(writes);
    await eventually(harness, () => handled.done.length === 99);
    open();
    await eventually(harness, () => handled.done.length === 5100);
    const updates = handled.begun.filter(({ operation }) => operation === 'update');
    const sequences = updates.map(({ sequence }) => BigInt(sequence!));
    expect(sequences).toEqual(sequences.toSorted((a, b) => (a < b ? -1 : 1)));
    await eventually(harness, () => harness.isEmpty());
  });

  test('a backfill brings the rows that are there, as read events, and knows when they are done', async () => {
    const harness = await start({ existing: [1, 2, 3] });
    const handled = process(harness, () => {});
    await harness.create(4);
    await eventually(harness, () => handled.done.length === 1);
    const backfill = await harness.input.backfill({ tables: ['items'], chunk: 2 });
    let isDone = false;
    void backfill.done.then(() => (isDone = true));
    await eventually(harness, () => isDone);
    const read = handled.done.filter(({ operation }) => operation === 'read');
    expect(read.map(({ id }) => id)).toEqual(expect.arrayContaining(['1', '2', '3']));
    expect(read[0]).toMatchObject({ location: 'items', before: null, after: { id: 1, n: 0 }, attempt: 1 });
    expect(read[0]).toMatchObject({ transaction: null, origin: null, context: null });
    expect(await backfill.progress()).toMatchObject([{ table: 'items', done: read.length, state: 'done' }]);
    await expect(harness.input.backfill({ tables: ['others'] })).rejects.toMatchObject({
      code: 'ERR_CONFIG_INVALID',
    });
  });

  test('goes through its states, and has one consumer', async () => {
    const harness = await start();
    const { input } = harness;
    const states: string[] = [];
    for (const name of ['standby', 'active', 'idle', 'closed'] as const)
      input.on(name, () => states.push(name));
    expect(input.state).toBe('idle');
    const handled = process(harness, () => {});
    await eventually(harness, () => input.state === 'active');
    expect(() => input.handle()).toThrow(expect.objectContaining({ code: 'ERR_ALREADY_HANDLING' }));
    await harness.create(1);
    await eventually(harness, () => handled.done.length === 1);
    expect(input.health().status).toBe('ok');
    expect(await input.status()).toMatchObject({ id: 'contract', state: 'active', inFlight: 0 });
    expect(await input.metrics()).toMatchObject({ handedOut: 1, redelivered: 0, retrying: 0, parked: 0 });
    await input.close();
    await handled.ended;
    expect(states).toEqual(['standby', 'active', 'closed']);
    expect(input.state).toBe('closed');
  });

  test('refuses what it can not do', async () => {
    const harness = await start();
    const { input } = harness;
    const { events } = take(harness, {}, () => new Promise(() => {}));
    await harness.create(1);
    await eventually(harness, () => events.length === 1);
    const [event] = events;
    const invalid = { code: 'ERR_CONFIG_INVALID' };
    await expect(input.nack(event!)).rejects.toMatchObject(invalid);
    await expect(input.park(event!)).rejects.toMatchObject(invalid);
    await expect(input.ack({ ...event!, trigger: 'other' })).rejects.toMatchObject(invalid);
    await expect(input.ack({ ...event!, sequence: 'x' })).rejects.toMatchObject(invalid);
    await expect(input.redrive(['x'])).rejects.toMatchObject(invalid);
    await expect(input.process(undefined as never)).rejects.toMatchObject({ code: 'ERR_ALREADY_HANDLING' });
  });
});
