import assert from 'node:assert/strict';
import { test } from 'node:test';
import { newTestInput } from 'dapper-postgres-input/testing';
import { type Tables, receipts } from './receipts.ts';

const unpaid = { id: 7, status: 'new', email: 'ada@example.org' } as const;
const paid = { ...unpaid, status: 'paid' } as const;
const payment = { location: 'orders', operation: 'update', before: unpaid, after: paid } as const;

async function setup(send: () => Promise<void> = async () => {}) {
  const input = await newTestInput<Tables>();
  const keys: string[] = [];
  const mailer = {
    async send({ key }: { key: string }) {
      await send();
      keys.push(key);
    },
  };
  const retry = { attempts: 3, minDelay: 1000, maxDelay: 60_000 };
  void input.process(receipts(mailer), { retry });
  return { input, keys };
}

test('a paid order gets a receipt, and only then', async () => {
  const { input, keys } = await setup();
  input.emit({ location: 'orders', operation: 'create', after: unpaid });
  const event = input.emit(payment);
  await input.settled();
  assert.deepEqual(keys, [event.sequence]);
  assert.equal(input.acked.length, 2);
  await input.close();
});

test('a receipt that comes again has the same key', async () => {
  const { input, keys } = await setup();
  const event = input.emit(payment);
  await input.settled();
  input.redeliver(event);
  await input.settled();
  assert.equal(keys.length, 2);
  assert.equal(keys[0], keys[1]);
  await input.close();
});

test('a receipt is tried three times, and then parked', async () => {
  let isDown = true;
  const { input, keys } = await setup(async () => {
    if (isDown) throw new Error('no route to the mail server');
  });
  input.emit(payment);
  await input.settled();
  await input.advance(1000);
  await input.advance(2000);
  await input.settled();
  const [parked] = await input.parked();
  assert.match(parked!.error, /no route/);
  isDown = false;
  await input.redrive('all');
  await input.settled();
  assert.equal(keys.length, 1);
  await input.close();
});
