import { once } from 'node:events';
import { expect, inject, test } from 'vitest';
import { newPostgresInput } from '../src/index.ts';
import { createDatabase } from './support/database.ts';
import { startProxy } from './support/proxy.ts';

const lease = { duration: 1000, renewInterval: 200, margin: 200, pollInterval: 50 };

/** An input that is connected through a proxy and waits for its first event. */
async function setup(reconnect: boolean) {
  const database = await createDatabase();
  const { hostname, port } = new URL(inject('adminUrl'));
  const proxy = await startProxy(hostname, Number(port || 5432));
  const connectionString = proxy.url(database.url);
  const input = await newPostgresInput({ name: 'input', type: 'postgres', connectionString }, { lease });
  const events = input.handle({ reconnect: reconnect && { minDelay: 10, maxDelay: 100 } });
  const next = events.next();
  await once(input as never, 'active');
  return { proxy, input, next };
}

test('ends without an error when it is closed while it reconnects', async () => {
  const { proxy, input, next } = await setup(true);
  proxy.freeze();
  proxy.cut();
  await expect.poll(() => proxy.connections.length).toBe(1); // the attempt that never gets an answer
  await input.close();
  expect(await next).toEqual({ done: true, value: undefined });
});

test('ends without an error when it is closed while the network is silent', async () => {
  const { proxy, input, next } = await setup(false);
  proxy.freeze();
  await input.close();
  expect(await next).toEqual({ done: true, value: undefined });
});
