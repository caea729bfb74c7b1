/** The consumer of `process()` alone. */
import { setImmediate } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { PostgresInputError } from '../../src/api/errors.ts';
import type { Notify } from '../../src/api/lifecycle-events.ts';
import { Change } from '../../src/capture/change.ts';
import type { LaneDelivery } from '../../src/delivery/lane-delivery.ts';
import { Processor, type ProcessorOptions } from '../../src/delivery/processor.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { FORGETFUL, servedTerm } from '../support/served-term.ts';

const change = (n: number) =>
  new Change(`${n}000`, 'items', 'create', String(n), 'id', '2026-01-31T12:00:00Z', '1', '', null);

const processor = (options: Partial<ProcessorOptions>) =>
  new Processor({
    handler: () => {},
    concurrency: 1,
    key: null,
    retry: { attempts: Infinity, minDelay: 1, maxDelay: 1 },
    exhausted: 'park',
    drainTimeout: null,
    slowAfter: 60_000,
    traffic: new Traffic('test'),
    stop: (error) => {
      throw error;
    },
    ...options,
  });

test('an event comes again if it could not be parked, although its handler did not wait for that', async () => {
  const attempts: number[] = [];
  let refuse = (_error: Error): void => {};
  const again = new Promise<void>((resolve) => {
    const consumer = processor({
      handler: async ({ attempt }) => {
        attempts.push(attempt);
        if (attempt > 1) return resolve();
        delivery.park(delivery.find('1000')!, 'bad row', attempt).catch(() => {});
      },
    });
    const park = () => new Promise<boolean>((_resolve, reject) => (refuse = reject));
    const delivery: LaneDelivery = consumer.open(servedTerm({ failures: () => ({ ...FORGETFUL, park }) }));
    delivery.begin([], null);
    delivery.push([change(1)]);
  });
  await setImmediate();
  expect(attempts).toEqual([1]);
  refuse(new Error('canceling statement due to statement timeout'));
  await again;
  expect(attempts).toEqual([1, 2]);
});

test.each([
  ['ERR_LEASE_LOST', [1, 2, 2, 2]],
  ['ERR_CLOSED', [1, 2, 2, 2]],
  ['ERR_INSTALL', [1, 2, 2, 2]],
  ['ERR_CONNECT', [1, 1, 1, 1]],
  ['ERR_CONNECTION_LOST', [1, 1, 1, 1]],
] as const)(
  'what an event that fails with %s counts while the term has the lease, and when the term has lost it',
  async (code, expected) => {
    const attempts: number[] = [];
    let isLeaseHeld = async () => true;
    const fourth = new Promise<void>((resolve) => {
      const consumer = processor({
        handler: async ({ attempt }) => {
          attempts.push(attempt);
          if (attempts.length === 2) isLeaseHeld = async () => false;
          if (attempts.length === 3)
            isLeaseHeld = async () => {
              throw new Error('the connection is lost');
            };
          if (attempts.length === 4) return resolve();
          throw new PostgresInputError(code, 'some input has failed');
        },
      });
      const term = servedTerm({ isGone: async () => false, isLeaseHeld: () => isLeaseHeld() });
      const delivery = consumer.open(term);
      delivery.begin([], null);
      delivery.push([change(1)]);
    });
    await fourth;
    expect(attempts).toEqual(expected);
  },
);

test('an event that comes again without having failed is counted as redelivered', async () => {
  const traffic = new Traffic('test');
  const attempts: number[] = [];
  await new Promise<void>((resolve) => {
    const consumer = processor({
      traffic,
      handler: ({ attempt }) => {
        if (attempts.push(attempt) === 2) return resolve();
        throw new PostgresInputError('ERR_CONNECTION_LOST', 'it was away');
      },
    });
    const delivery = consumer.open(servedTerm({ isLeaseHeld: async () => false }));
    delivery.begin([], null);
    delivery.push([change(1)]);
  });
  expect(attempts).toEqual([1, 1]);
  expect(traffic).toMatchObject({ handedOut: 2, redelivered: 1 });
});

test('an event that is acknowledged while it is found out whether its failure counts does not come again', async () => {
  const attempts: number[] = [];
  const told: string[] = [];
  let delivery!: LaneDelivery;
  let answer = (_isHeld: boolean): void => {};
  const asked = new Promise<void>((resolve) => {
    const consumer = processor({
      handler: ({ attempt }) => {
        attempts.push(attempt);
        throw new PostgresInputError('ERR_INSTALL', 'some input has failed');
      },
    });
    const isLeaseHeld = () =>
      new Promise<boolean>((settle) => {
        answer = settle;
        resolve();
      });
    const notify: Notify = (...[name]) => void told.push(name);
    delivery = consumer.open(servedTerm({ isLeaseHeld, notify }));
    delivery.begin([], null);
    delivery.push([change(1)]);
  });
  await asked;
  delivery.settle('1000');
  answer(true);
  await delivery.settled(Infinity, new AbortController().signal);
  expect(attempts).toEqual([1]);
  expect(told).toEqual([]);
});

test('no death is counted after the end of a term', async () => {
  const counted: string[] = [];
  const handled: string[] = [];
  let end = (): void => {};
  const consumer = processor({
    handler: ({ id }) => {
      handled.push(id);
      return new Promise<void>((resolve) => (end = resolve));
    },
  });
  const delivery = consumer.open(
    servedTerm({
      failures: () => ({
        ...FORGETFUL,
        suspect: async (changes) => void counted.push(...changes.map(({ sequence }) => sequence)),
      }),
    }),
  );
  const died = { stamp: '', attempts: 0, deaths: 3, delay: 0, error: null };
  delivery.begin(
    ['1000', '2000'].map((sequence) => ({ ...died, sequence })),
    0,
  );
  delivery.push([change(1), change(2)]);
  for (let turn = 0; turn < 5; turn++) await setImmediate();
  expect([counted, handled]).toEqual([['1000'], ['1']]);
  delivery.stop();
  end();
  for (let turn = 0; turn < 5; turn++) await setImmediate();
  expect([counted, handled]).toEqual([['1000'], ['1']]);
});
