/** `process()` over takeovers, with handlers that fail: nothing is lost, and each row's events come in order. */
import { expect, onTestFinished, test } from 'vitest';
import { type ChangeEvent, type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

const ROUNDS = 6;

test('nothing is lost and nothing comes out of order, whatever fails and whoever takes over', async () => {
  const database = await createDatabase();
  await database.query(
    'CREATE TABLE items (id int PRIMARY KEY, n int); CREATE TABLE others (id int PRIMARY KEY)',
  );
  const handled: ChangeEvent[] = [];
  const running = new Set<string>();
  const failures: string[] = [];
  const inputs = new Set<PostgresInput>();
  let failed = 0;
  const start = async () => {
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { ...PATIENT, lease: { pollInterval: 20 } },
    );
    inputs.add(input);
    onTestFinished(() => input[Symbol.asyncDispose]());
    input
      .process(
        async (event, { signal }) => {
          const row = `${event.fencingToken} ${event.location} ${event.id}`;
          if (running.has(row)) failures.push(`two of ${row} at once`);
          running.add(row);
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 3));
          running.delete(row);
          if (event.attempt < 4 && Math.random() < 0.2) {
            failed++;
            throw new Error('not now');
          }
          if (!signal.aborted) handled.push(event);
        },
        { concurrency: 16, retry: { minDelay: 5, maxDelay: 20 } },
      )
      .catch((error: unknown) => failures.push(String(error)));
    return input;
  };
  await start();
  await start();
  await until(
    async () => (await database.query("SELECT FROM pg_trigger WHERE tgname LIKE 'items_test%'")).length > 0,
  );

  let written = 0;
  for (let round = 0; round < ROUNDS; round++) {
    for (let step = 0; step < 20; step++) {
      const from = 1 + Math.floor(Math.random() * 40);
      const statements = [
        `INSERT INTO items SELECT n, 0 FROM generate_series(${from}, ${from + 5}) n ON CONFLICT DO NOTHING RETURNING 1`,
        `UPDATE items SET n = n + 1 WHERE id BETWEEN ${from} AND ${from + 5} RETURNING 1`,
        `DELETE FROM items WHERE id BETWEEN ${from} AND ${from + 2} RETURNING 1`,
        `INSERT INTO others VALUES (${round * 100 + step}) RETURNING 1`,
      ];
      for (const statement of statements) written += (await database.query(statement)).length;
      // Each row that changes its key is a delete and a create.
      written +=
        2 *
        (
          await database.query(
            `UPDATE items SET id = id + 1000 * ${round + 1} + ${step} * 50 WHERE id = ${from + 4} RETURNING 1`,
          )
        ).length;
    }
    const active = [...inputs].find(({ state }) => state === 'active');
    if (active && round % 2 === 0) {
      inputs.delete(active);
      await (round % 4 === 0 ? active.close() : active[Symbol.asyncDispose]());
      await start();
    }
  }
  const { length: truncations } = await database.query('TRUNCATE others').then(() => [1]);
  written += truncations;
  const [one] = inputs;
  await until(async () => (await one!.status()).backlog === 0, 30_000);
  for (const input of inputs) await input.close();

  expect(failures).toEqual([]);
  expect(failed).toBeGreaterThan(10);
  expect(new Set(handled.map(({ sequence }) => sequence)).size).toBe(written);
  const highest = new Map<string, bigint>();
  for (const { location, id, sequence } of handled) {
    const row = `${location} ${id}`;
    // What was in hand at a takeover comes again.
    expect(BigInt(sequence!) >= (highest.get(row) ?? 0n)).toBe(true);
    highest.set(row, BigInt(sequence!));
  }
  const lastOther = handled.findLastIndex(({ location, id }) => location === 'others' && id !== '*');
  const truncation = handled.findIndex(({ location, id }) => location === 'others' && id === '*');
  expect(truncation).toBeGreaterThan(lastOther);
}, 90_000);

test('an event that has failed does not wait for an hour because the clock was set back by an hour', async () => {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY)');
  const config = { name: 'test', type: 'postgres', connectionString: database.url };
  const options = { retry: { minDelay: 20, maxDelay: 20 } };
  await using first = await newPostgresInput(config, PATIENT);
  const active = new Promise<void>((resolve) => void first.once('active', () => resolve()));
  const failed = new Promise<void>((resolve) => void first.once('retrying', () => resolve()));
  const ended = first.process(() => Promise.reject(new Error('at first')), options);
  await active;
  await database.query('INSERT INTO items VALUES (1)');
  await failed;
  await first.close();
  await ended;
  const [row] = await database.query(
    `UPDATE postgres_input.failed_postgres_input_test SET next_at = next_at + interval '1 hour' RETURNING attempts`,
  );
  await using second = await newPostgresInput(config, PATIENT);
  const attempt = await new Promise<number>(
    (resolve) => void second.process((event) => resolve(event.attempt), options),
  );
  expect(attempt).toBe(row.attempts + 1);
  await second.close();
});

test('a standby that takes over and finds the secret of the notifications gone makes it anew, and goes on', async () => {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY)');
  const config = { name: 'test', type: 'postgres', connectionString: database.url };
  const [first, second] = [await newPostgresInput(config, PATIENT), await newPostgresInput(config, PATIENT)];
  onTestFinished(async () => {
    await first.close();
    await second.close();
  });
  const isActive = new Promise<void>((resolve) => void first.once('active', () => resolve()));
  void first.process(() => {});
  await isActive;
  const standsBy = new Promise<void>((resolve) => void second.once('standby', () => resolve()));
  const ids: string[] = [];
  void second.process(({ id }) => void ids.push(id));
  await standsBy;
  await database.query('DELETE FROM postgres_input.secret_postgres_input_test');
  await first.close();
  await database.query('INSERT INTO items VALUES (1)');
  await until(() => ids.length > 0);
  expect(ids).toEqual(['1']);
});
