/** Connections that fall silent without an end, as when a cable is pulled: default options, so these are the times that users see. */
import { expect, inject, onTestFinished, test } from 'vitest';
import type { PostgresInput } from '../../src/index.ts';
import { Consumer, once, reaches } from '../support/consumer.ts';
import { type Direction, type Proxy, startProxy } from '../support/proxy.ts';
import { type InputsFixture, setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

const DIRECTIONS: Direction[] = ['to-server', 'to-client', 'both'];
const CONNECTIONS = ['control', 'listener'] as const;
const cases = CONNECTIONS.flatMap((connection) =>
  DIRECTIONS.map((direction) => ({ connection, direction, name: `${connection} ${direction}` })),
);

/** Its node is the proxy's only client. */
async function behindProxy(
  fixture: InputsFixture,
  name: string,
): Promise<{ input: PostgresInput; proxy: Proxy }> {
  const { hostname, port } = new URL(inject('adminUrl'));
  const proxy = await startProxy(hostname, Number(port || 5432));
  onTestFinished(() => proxy.close());
  return { input: await fixture.input({}, { name, url: proxy.url(fixture.database.url) }), proxy };
}

function freeze(proxy: Proxy, connection: (typeof CONNECTIONS)[number], direction: Direction): void {
  const indices = proxy.connections.map(({ index }) => index).toSorted((a, b) => a - b);
  proxy.freeze(direction, indices[CONNECTIONS.indexOf(connection)]);
}

/** A heartbeat of the listener is due after 2 s at most, and has 1.8 s; a renewal after 1 s, and has 2 s. */
const FOUND = 6000;

test('an active node with a half-open connection gives up, and another takes over', async () => {
  await using fixture = await setupInputs();
  await Promise.all(
    cases.map(async ({ connection, direction, name }) => {
      const { input, proxy } = await behindProxy(fixture, name);
      const consumer = new Consumer(input);
      await once(input, 'asleep');
      const other = await fixture.input({}, { name });
      const next = new Consumer(other);
      await reaches(other, 'standby');

      const began = performance.now();
      freeze(proxy, connection, direction);
      expect([name, await consumer.ended]).toEqual([
        name,
        expect.objectContaining({ code: 'ERR_CONNECTION_LOST', retryable: true }),
      ]);
      expect([name, performance.now() - began < FOUND]).toEqual([name, true]);
      expect(input.state).toBe('idle');
      await reaches(other, 'active');
      await fixture.database.query('INSERT INTO items VALUES ($1)', [
        cases.findIndex((c) => c.name === name),
      ]);
      await until(() => next.ids.includes(String(cases.findIndex((c) => c.name === name))));
      expect(new Set(next.events.map(({ sequence }) => sequence)).size).toBe(next.events.length);
    }),
  );
}, 60_000);

test('a standby with a half-open connection reconnects, and takes over', async () => {
  await using fixture = await setupInputs();
  await Promise.all(
    cases.map(async ({ connection, direction, name }) => {
      const active = await fixture.input({}, { name });
      const first = new Consumer(active);
      await reaches(active, 'active');
      const { input, proxy } = await behindProxy(fixture, name);
      const consumer = new Consumer(input, { reconnect: true });
      await reaches(input, 'standby');
      await until(() => proxy.connections.length === 2);

      const began = performance.now();
      const lost = new Promise<string>(
        (resolve) => void input.once('reconnecting', ({ error }) => resolve(error.code)),
      );
      freeze(proxy, connection, direction);
      expect([name, await lost]).toEqual([name, 'ERR_CONNECTION_LOST']);
      expect([name, performance.now() - began < FOUND]).toEqual([name, true]);
      await active.close();
      expect(await first.ended).toBeUndefined();
      await reaches(input, 'active');
      const id = cases.findIndex((c) => c.name === name);
      await fixture.database.query('INSERT INTO items VALUES ($1)', [id]);
      await until(() => consumer.ids.includes(String(id)));
    }),
  );
}, 60_000);

test('a backfill whose connection falls silent goes on with another one, and changes do not wait for that', async () => {
  await Promise.all(
    DIRECTIONS.map(async (direction) => {
      await using fixture = await setupInputs();
      const { database } = fixture;
      await database.query('INSERT INTO items SELECT n, n FROM generate_series(1, 9000) n');
      const { input, proxy } = await behindProxy(fixture, 'backfill');
      // More rows than wait for a consumer: the backfill is not over before it goes on.
      let open = () => {};
      const opened = new Promise<void>((resolve) => (open = resolve));
      const consumer = new Consumer(input, {}, () => opened);
      await once(input, 'asleep');
      const backfill = await input.backfill({ chunk: 100 });
      await consumer.count(1);
      await backfill.pause();
      const connections = proxy.connections.toSorted((a, b) => a.index - b.index);
      // Control session, listener, and the session of the chunks.
      expect(connections).toHaveLength(3);
      proxy.freeze(direction, connections[2]!.index);
      await backfill.resume();
      open();
      await database.query('INSERT INTO items VALUES (-1)');
      // A row that takes long would have a minute.
      await until(() => consumer.events.some(({ operation }) => operation === 'create'), 40_000);
      await backfill.done;
      const read = consumer.events.filter(({ operation }) => operation === 'read').map(({ id }) => id);
      expect(new Set(read).size).toBe(read.length);
      expect(read.length).toBeGreaterThanOrEqual(9000);
    }),
  );
}, 100_000);
