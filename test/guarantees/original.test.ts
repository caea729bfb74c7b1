/**
 * What the Go package locking-postgres tests of its own, and what it was observed to do wrong while it runs. What it
 * does wrong in the database (names, types, tables) is tested with the installation.
 */
import { describe, expect, onTestFinished, test } from 'vitest';
import { type InputConfig, newPostgresInput } from '../../src/index.ts';
import { Consumer, PATIENT, once, reaches } from '../support/consumer.ts';
import { startNode, stopNodes } from '../support/node-process.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

describe("the original's test of the stream", () => {
  test('five notifications by hand are five events, also of operations that the input does not watch', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const config: InputConfig = {
      name: 'test-input',
      type: 'postgres',
      connectionString: database.url,
      operations: ['create'],
    };
    await using input = await newPostgresInput(config, PATIENT);
    expect(input.id).toBe('test_input');
    const consumer = new Consumer(input);
    await reaches(input, 'active');
    for (const op of ['INSERT', 'UPDATE', 'DELETE', 'UPDATE', 'INSERT']) {
      await database.query('SELECT pg_notify($1, $2)', [
        'test_input',
        JSON.stringify({ tbl: 'test', id: '1', op }),
      ]);
    }
    // What waits in memory when garbage ends the iteration is in no log.
    await consumer.count(5);
    // Its own lock table is no news.
    await database.query(
      `NOTIFY test_input, '{"tbl":"lock_postgres_input_test_input","id":"1","op":"UPDATE"}'`,
    );
    await database.query(`NOTIFY test_input, 'some bollocks'`);
    expect(await consumer.ended).toMatchObject({ code: 'ERR_PAYLOAD_INVALID' });
    expect(consumer.events.map(({ operation }) => operation)).toEqual([
      'create',
      'update',
      'delete',
      'update',
      'create',
    ]);
    expect(JSON.stringify(consumer.events[0])).toMatch(
      /^\{"location":"test","operation":"create","id":"1","trigger":"test_input",/,
    );
  });

  test('notifications by hand are events whether the reader is asleep or awake', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const input = await fixture.input();
    const consumer = new Consumer(input);
    await once(input, 'asleep');
    await database.query(`NOTIFY test_input, '{"tbl":"t","id":"asleep","op":"INSERT"}'`);
    await consumer.count(1);

    // An open transaction that was told "awake" keeps the reader awake.
    const awake = once(input, 'awake');
    await database.query('INSERT INTO items SELECT generate_series(1, 60)');
    await awake;
    const writer = await database.client();
    await writer.query('BEGIN');
    await writer.query('INSERT INTO items VALUES (61)');
    await database.query(`NOTIFY test_input, '{"tbl":"t","id":"awake","op":"INSERT"}'`);
    await until(() => consumer.ids.includes('awake'));
    await writer.query('COMMIT');
    await consumer.count(63);
    expect(new Set(consumer.ids).size).toBe(63);
  });
});

describe("the original's test of the constructor", () => {
  test.each([
    ['an invalid connection string', 'some bollocks', 'ERR_CONNECTION_STRING'],
    ['a failed connection', 'postgres://127.0.0.1:1/test', 'ERR_CONNECT'],
  ])('%s is an error', async (_, connectionString, code) => {
    const input = newPostgresInput({ name: 'test-input', type: 'postgres', connectionString });
    await expect(input).rejects.toMatchObject({ code });
  });

  test('a listener that cannot connect is an error', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const url = new URL(database.url);
    url.username = `only_one_${database.name}`;
    await database.query(`CREATE ROLE ${url.username} LOGIN CONNECTION LIMIT 1`);
    const input = newPostgresInput({ name: 'test', type: 'postgres', connectionString: url.href }, PATIENT);
    await expect(input).rejects.toMatchObject({
      code: 'ERR_CONNECT',
      message: expect.stringMatching(/no listener could be made.*too many connections/),
    });
    await until(async () => {
      const sessions = await database.query('SELECT FROM pg_stat_activity WHERE usename = $1', [
        url.username,
      ]);
      return sessions.length === 0;
    });
    await database.query(`DROP ROLE ${url.username}`);
  });
});

describe('a mistake of the original is avoided', () => {
  test('three instances make ten events of ten rows', async () => {
    await using fixture = await setupInputs();
    const inputs = await Promise.all([fixture.input(), fixture.input(), fixture.input()]);
    const consumers = inputs.map((input) => new Consumer(input));
    await until(() => inputs.every(({ state }) => state !== 'idle'));
    await until(() => inputs.some(({ state }) => state === 'active'));
    for (let id = 1; id <= 10; id++) await fixture.database.query('INSERT INTO items VALUES ($1)', [id]);
    const ids = () => consumers.flatMap((consumer) => consumer.ids);
    await until(() => ids().length >= 10);
    for (const input of inputs) await input.close();
    expect(ids().toSorted((a, b) => Number(a) - Number(b))).toEqual(
      Array.from({ length: 10 }, (_, n) => String(n + 1)),
    );
    expect(inputs.filter((_, n) => consumers[n]!.ids.length > 0)).toHaveLength(1);
  });

  test('changes written while nobody listens are delivered later', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const events = input.handle();
    await reaches(input, 'active');
    await events.return!();
    for (let id = 1; id <= 5; id++) await fixture.database.query('INSERT INTO items VALUES ($1)', [id]);
    const consumer = new Consumer(input);
    await consumer.count(5);
    expect(consumer.ids).toEqual(['1', '2', '3', '4', '5']);
  });

  test.each(['asleep', 'awake'])(
    'several updates of a row in one transaction are several events, %s',
    async (phase) => {
      await using fixture = await setupInputs();
      const { database } = fixture;
      const input = await fixture.input();
      const consumer = new Consumer(input);
      await once(input, 'asleep');
      const writer = await database.client();
      if (phase === 'awake') {
        const awake = once(input, 'awake');
        await database.query('INSERT INTO items SELECT generate_series(101, 160)');
        await awake;
      }
      await writer.query('BEGIN; INSERT INTO items VALUES (1, 0)');
      for (let n = 1; n <= 3; n++) await writer.query('UPDATE items SET value = $1 WHERE id = 1', [n]);
      await writer.query('DELETE FROM items WHERE id = 1; COMMIT');
      const ofRow = () => consumer.events.filter(({ id }) => id === '1');
      await until(() => ofRow().length === 5);
      expect(ofRow().map(({ operation }) => operation)).toEqual([
        'create',
        'update',
        'update',
        'update',
        'delete',
      ]);
      expect(new Set(ofRow().map(({ sequence }) => sequence)).size).toBe(5);
    },
  );

  test('under kill -9 no change is lost, and only events not acknowledged come again', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const nodes = [1, 2, 3].map(() => startNode({ url: database.url }));
    onTestFinished(() => stopNodes(nodes));
    await Promise.all(nodes.map((node) => node.waitFor(({ is }) => is === 'standby', 60_000)));
    const delivered: string[][] = [];
    let unacknowledged: string[] = [];
    let written = 0;
    const waiting = new Map(
      nodes.map((node) => [node, node.waitFor(({ is }) => is === 'active', 60_000).then(() => node)]),
    );
    for (let term = 0; term < 3; term++) {
      const active = await Promise.race(waiting.values());
      waiting.delete(active);
      // Nobody has pulled yet: what waits is what the one before left behind.
      const left = await database.query(
        'SELECT id FROM postgres_input.log_postgres_input_test_input ORDER BY seq',
      );
      unacknowledged = left.map(({ id }) => id);
      active.send({ do: 'consume' });
      const ids: string[] = [];
      delivered.push(ids);
      for (let n = 1; n <= 50; n++) await database.query('INSERT INTO items VALUES ($1)', [++written]);
      const enough = unacknowledged.length + (term === 2 ? 50 : 30);
      for await (const report of active.messages) {
        if (report.is === 'event') ids.push(report.event.id);
        if (ids.length === enough) active.signal('SIGKILL');
      }
      const before = new Set(delivered.slice(0, -1).flat());
      expect(ids.slice(0, unacknowledged.length)).toEqual(unacknowledged);
      expect(ids.filter((id) => before.has(id) && !unacknowledged.includes(id))).toEqual([]);
    }
    expect(new Set(delivered.flat()).size).toBe(150);
  }, 90_000);
});
