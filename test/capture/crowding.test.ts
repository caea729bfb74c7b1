import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { Consumer, once } from '../support/consumer.ts';
import { setupInputs } from '../support/setup-inputs.ts';

/** Rounds of eight changes in transactions that follow each other or overlap, too few to make a reader busy. */
async function write(clients: pg.Client[], overlapping: boolean, isEnough: (round: number) => boolean) {
  let id = 0;
  for (let round = 0; !isEnough(round); round++) {
    const begin = async (client: pg.Client) => client.query(`BEGIN; INSERT INTO items VALUES (${id++})`);
    if (overlapping) for (const client of clients) await begin(client);
    for (const client of clients) {
      if (!overlapping) await begin(client);
      await client.query('COMMIT');
    }
    await delay(overlapping ? 25 : 250); // overlapping for a while; or for the load to be forgotten
  }
  return id;
}

async function sleeping() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const input = await fixture.input();
  const asleep = once(input, 'asleep');
  const consumer = new Consumer(input);
  await asleep;
  const clients = await Promise.all(Array.from({ length: 8 }, () => fixture.database.client()));
  return { input, consumer, clients };
}

test('transactions that notify at the same time wake the reader, also when they slow each other down', async () => {
  const { input, consumer, clients } = await sleeping();
  let awake = false;
  input.once('awake', () => (awake = true));
  const written = await write(clients, true, (round) => awake || round === 400);
  expect(awake).toBe(true);
  await consumer.count(written);
  expect(new Set(consumer.ids).size).toBe(written);
});

test('transactions that notify one after the other leave the reader asleep', async () => {
  const { input, consumer, clients } = await sleeping();
  let awake = false;
  input.once('awake', () => (awake = true));
  const written = await write(clients, false, (round) => round === 3);
  await consumer.count(written);
  expect(awake).toBe(false);
});

test('a reader that is announced more than it remembers looks into the log, and stays asleep', async () => {
  const { input, consumer, clients } = await sleeping();
  let awake = false;
  input.once('awake', () => (awake = true));
  const written = 1100;
  for (let n = 0; n < written; n++) {
    await clients[0]!.query('INSERT INTO items VALUES ($1)', [n]);
    await delay(1);
  }
  await consumer.count(written);
  expect(new Set(consumer.ids).size).toBe(written);
  expect(awake).toBe(false);
});
