/** What a transaction says of itself comes with its events, by every road, and only by way of the log. */
import pg from 'pg';
import { describe, expect, test } from 'vitest';
import type { PostgresInput } from '../../src/index.ts';
import { Consumer, once } from '../support/consumer.ts';
import type { TestDatabase } from '../support/database.ts';
import { type InputsFixture, setupInputs } from '../support/setup-inputs.ts';
import { until } from '../support/until.ts';

/** A client with an open transaction. */
async function begin(database: TestDatabase): Promise<pg.Client> {
  const client = await database.client();
  await client.query('BEGIN');
  return client;
}

const insert = (client: pg.Client, ...ids: number[]) =>
  client.query('INSERT INTO items SELECT unnest($1::int[]), 0', [ids]);

/** An input that has not begun, of which everything is installed. */
async function installed(fixture: InputsFixture): Promise<PostgresInput> {
  const input = await fixture.input();
  await using installing = await fixture.input();
  const consumer = new Consumer(installing);
  await once(installing, 'asleep');
  await installing.close();
  await consumer.ended;
  return input;
}

async function consumed(input: PostgresInput, ids: number) {
  const consumer = new Consumer(input);
  await consumer.count(ids);
  return new Map(consumer.events.map(({ id, origin, context }) => [Number(id), { origin, context }]));
}

describe('events', () => {
  test('come without tags that are too long to be read, which stop nobody', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const input = await installed(fixture);

    const client = await begin(database);
    await client.query(`SELECT length(set_config('postgres_input.origin', repeat('o', 8193), true)),
      length(set_config('postgres_input.context', repeat('c', 65537), true))`);
    await insert(client, 1);
    await input.tag(client, { origin: 'o'.repeat(256), context: 'c'.repeat(8000) });
    await insert(client, 2);
    await client.query('COMMIT');
    expect(await consumed(input, 2)).toEqual(
      new Map([
        [1, { origin: null, context: null }],
        [2, { origin: 'o'.repeat(256), context: 'c'.repeat(8000) }],
      ]),
    );
  });

  test('have the tags of their transaction, from when they were set to its end', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const input = await installed(fixture);

    const client = await begin(database);
    await insert(client, 1);
    await input.tag(client, { context: { who: 'anne', 'é"\n': [1, null] } });
    await insert(client, 2);
    // A statement of many rows, which are packed.
    await insert(client, ...Array.from({ length: 60 }, (_, i) => 100 + i));
    await client.query('SAVEPOINT before');
    await input.tag(client, { origin: 'importer', context: null });
    await insert(client, 3);
    await client.query('ROLLBACK TO before');
    await input.tag(client, { origin: 'importer' });
    await insert(client, 4);
    await client.query('COMMIT');
    await insert(client, 5);
    await client.query(`BEGIN; SELECT set_config('postgres_input.origin', 'plain SQL', true)`);
    await client.query(`SELECT set_config('postgres_input.context', '{"not JSON', true)`);
    await client.query('UPDATE items SET value = 1 WHERE id = 5; COMMIT');
    await client.query('DELETE FROM items WHERE id = 1');

    const events = new Consumer(input);
    await events.count(66);
    expect(
      events.events.map(({ operation, id, origin, context }) => [`${operation} ${id}`, origin, context]),
    ).toEqual([
      ['create 1', null, null],
      ['create 2', input.id, { who: 'anne', 'é"\n': [1, null] }],
      ...Array.from({ length: 60 }, (_, i) => [
        `create ${100 + i}`,
        input.id,
        { who: 'anne', 'é"\n': [1, null] },
      ]),
      ['create 4', 'importer', { who: 'anne', 'é"\n': [1, null] }],
      ['create 5', null, null],
      ['update 5', 'plain SQL', '{"not JSON'],
      ['delete 1', null, null],
    ]);
  });

  test('have the same tags after a part of their packed row was acknowledged, and another node took over', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    await using first = await fixture.input();
    const consumer = new Consumer(first, { ack: 'manual' });
    await once(first, 'asleep');
    const client = await begin(database);
    await first.tag(client, { origin: 'importer', context: 7 });
    await insert(client, ...Array.from({ length: 60 }, (_, i) => i));
    await client.query('COMMIT');
    await consumer.count(60);
    await first.ack(consumer.events[30]!);
    await first[Symbol.asyncDispose]();
    const again = await consumed(await fixture.input(), 59);
    expect([...again.keys()]).toEqual([...Array(60).keys()].filter((id) => id !== 30));
    for (const tags of again.values()) expect(tags).toEqual({ origin: 'importer', context: 7 });
  });

  test('are announced by no more than a call to look, which anybody hears', async () => {
    await using fixture = await setupInputs();
    const { database } = fixture;
    const input = await fixture.input();
    const consumer = new Consumer(input);
    await once(input, 'asleep');
    const stranger = await database.client();
    const heard: (string | undefined)[] = [];
    stranger.on('notification', ({ payload }) => heard.push(payload));
    await stranger.query(`LISTEN ${pg.escapeIdentifier(input.id)}`);
    for (const [setting, id] of [
      ['origin', 1],
      ['context', 2],
    ] as const) {
      await until(() => consumer.events.length === id - 1);
      const client = await begin(database);
      await client.query(`SELECT set_config('postgres_input.${setting}', '"secret"', true)`);
      await insert(client, id);
      await client.query('COMMIT');
    }
    await consumer.count(2);
    expect(consumer.events.map(({ origin, context }) => [origin, context])).toEqual([
      ['"secret"', null],
      [null, 'secret'],
    ]);
    await database.query(
      `NOTIFY ${pg.escapeIdentifier(input.id)}, '{"tbl":"items","id":"end","op":"update"}'`,
    );
    await until(() => heard.at(-1)?.includes('end') ?? false);
    expect(heard[0]).toBe('[]');
    expect(heard.slice(0, -1).join()).not.toMatch(/secret|"1"|"2"/);
  });
});

describe('tag() refuses', () => {
  test.each([
    ['an empty origin', { origin: '' }],
    ['an origin with NUL', { origin: 'a\0' }],
    ['a long origin', { origin: 'é'.repeat(129) }],
    ['a context that JSON has no form for', { context: () => {} }],
    ['a context that can not be written', { context: 1n }],
    ['a long context', { context: 'x'.repeat(8191) }],
  ])('%s', async (_, tags) => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const client = await begin(fixture.database);
    await expect(input.tag(client, tags)).rejects.toMatchObject({ code: 'ERR_CONFIG_INVALID' });
    // The transaction goes on.
    await client.query('COMMIT');
  });

  test('a pool, and a client without a transaction', async () => {
    await using fixture = await setupInputs();
    const input = await fixture.input();
    const client = await fixture.database.client();
    const refused = { code: 'ERR_CONFIG_INVALID', message: expect.stringContaining('BEGIN') };
    await expect(input.tag(client)).rejects.toMatchObject(refused);
    await using pool = Object.assign(new pg.Pool({ connectionString: fixture.database.url }), {
      [Symbol.asyncDispose]: () => pool.end(),
    });
    await expect(input.tag(pool as never)).rejects.toMatchObject(refused);
  });
});
