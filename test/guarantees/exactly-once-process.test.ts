/** Exactly once with `process()`: the handler acknowledges in its own transaction, and errors and rollbacks come at every point. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { type ChangeEvent, newPostgresInput } from '../../src/index.ts';
import { PATIENT } from '../support/consumer.ts';
import { createDatabase } from '../support/database.ts';
import { until } from '../support/until.ts';

type Failure = 'before' | 'rolled back' | 'rolled back in silence' | 'after the commit' | null;
const FAILURES: readonly Failure[] = [
  'before',
  'rolled back',
  'rolled back in silence',
  'after the commit',
  null,
];

test.each(['one statement', 'many statements'])(
  'each effect happens once, whatever fails: %s',
  async (how) => {
    const database = await createDatabase();
    await database.query(
      'CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE effects (item int, sequence numeric)',
    );
    const pool = new pg.Pool({ connectionString: database.url, max: 8 });
    onTestFinished(() => pool.end());
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { ...PATIENT, tables: { include: ['items'] } },
    );
    onTestFinished(() => input[Symbol.asyncDispose]());
    const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
    const retried: string[] = [];
    input.on('retrying', ({ id }) => retried.push(id));
    const ended = input.process(
      async (event) => {
        const failure = event.attempt === 1 ? FAILURES[Number(event.id) % FAILURES.length]! : null;
        if (failure === 'before') throw new Error(failure);
        const client = await pool.connect();
        try {
          await client.query('BEGIN');
          await client.query('INSERT INTO effects VALUES ($1, $2)', [event.id, event.sequence]);
          await input.ack(event, client);
          if (failure?.startsWith('rolled back')) {
            await client.query('ROLLBACK');
            if (failure === 'rolled back') throw new Error(failure);
            return;
          }
          await client.query('COMMIT');
          if (failure === 'after the commit') throw new Error(failure);
        } finally {
          client.release();
        }
      },
      { concurrency: 8, retry: { minDelay: 10, maxDelay: 10 } },
    );
    await active;
    if (how === 'one statement') await database.query('INSERT INTO items SELECT generate_series(1, 200)');
    else for (let id = 1; id <= 200; id++) await database.query('INSERT INTO items VALUES ($1)', [id]);
    await until(async () => (await input.status()).backlog === 0);
    await input.close();
    await ended;
    const effects = await database.query('SELECT item, count(*)::int FROM effects GROUP BY item');
    expect(effects).toHaveLength(200);
    expect(effects.filter(({ count }) => count !== 1)).toEqual([]);
    // Each that did not commit came again once, and none that did.
    const failed = Array.from({ length: 200 }, (_, n) => n + 1).filter((id) =>
      [0, 1, 2].includes(id % FAILURES.length),
    );
    expect(retried.map(Number).toSorted((a, b) => a - b)).toEqual(failed);
  },
);

test('an event that its handler has acknowledged does not come again, even if the handler fails', async () => {
  const database = await createDatabase();
  await database.query('CREATE TABLE items (id int PRIMARY KEY)');
  const input = await newPostgresInput(
    { name: 'test', type: 'postgres', connectionString: database.url },
    PATIENT,
  );
  onTestFinished(() => input[Symbol.asyncDispose]());
  const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
  const begun: string[] = [];
  const parked: unknown[] = [];
  input.on('parked', (failure) => parked.push(failure));
  void input.process(
    async (event) => {
      begun.push(event.id);
      const park = () => input.park(event, 'by hand');
      if (event.id === '1') await input.ack(event);
      if (event.id === '2') await Promise.all([park(), park()]);
      if (event.id !== '3') throw new Error('afterwards');
    },
    { retry: { minDelay: 1, maxDelay: 1 } },
  );
  await active;
  await database.query('INSERT INTO items VALUES (1), (2), (3)');
  await until(async () => begun.length === 3 && (await input.status()).backlog === 0);
  await input.close();
  expect(begun).toEqual(['1', '2', '3']);
  expect(await input.parked()).toMatchObject([{ id: '2', error: 'by hand' }]);
  expect(parked).toMatchObject([{ id: '2' }]);
  expect(await input.metrics()).toMatchObject({ acknowledged: 2, parked: 1 });
});

test.each(['create', 'read'] as const)(
  'a %s that was acknowledged in a transaction before it is parked is acknowledged, and nobody is told of a parked one',
  async (operation) => {
    const database = await createDatabase();
    await database.query('CREATE TABLE items (id int PRIMARY KEY)');
    if (operation === 'read') await database.query('INSERT INTO items VALUES (1)');
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      PATIENT,
    );
    onTestFinished(() => input[Symbol.asyncDispose]());
    const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
    const parked: unknown[] = [];
    input.on('parked', (failure) => parked.push(failure));
    const client = await database.client();
    const begun: string[] = [];
    void input.process(async (event) => {
      begun.push(event.operation);
      if (event.operation === 'delete') return;
      await client.query('BEGIN');
      await input.ack(event, client);
      await client.query('COMMIT');
      await input.park(event, 'by hand');
    });
    await active;
    if (operation === 'read') await input.backfill();
    else await database.query('INSERT INTO items VALUES (1)');
    await until(() => begun.length === 1);
    await database.query('DELETE FROM items');
    await until(async () => (await input.metrics()).acknowledged === 2);
    expect(begun).toEqual([operation, 'delete']);
    expect(parked).toEqual([]);
    expect(await input.parked()).toEqual([]);
  },
);

test.each([
  ['an event', 'create'],
  ['a row that a backfill has read', 'read'],
])(
  '%s that an open transaction has acknowledged is parked when that is rolled back, and holds up no other',
  async (_, operation) => {
    const database = await createDatabase();
    await database.query('CREATE TABLE items (id int PRIMARY KEY)');
    const insert = 'INSERT INTO items SELECT generate_series(1, 50)';
    if (operation === 'read') await database.query(insert);
    const input = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      PATIENT,
    );
    onTestFinished(() => input[Symbol.asyncDispose]());
    const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
    const client = await database.client();
    const done: ChangeEvent[] = [];
    let isOpen = false;
    void input.process(
      async (event) => {
        if (event.id === '1') {
          await client.query('BEGIN');
          await input.ack(event, client);
          isOpen = true;
          await input.park(event, 'bad row');
        }
        done.push(event);
      },
      { concurrency: 2 },
    );
    await active;
    if (operation === 'read') await input.backfill();
    else await database.query(insert);
    await until(() => isOpen);
    await database.query('INSERT INTO items SELECT generate_series(51, 100)');
    // A backfill that still looks for rows behind the last one reads the new ones as well.
    const ids = () => new Set(done.map(({ id }) => id)).size;
    await until(
      async () => ids() === 99 && (await input.status()).backlog <= 1,
      undefined,
      () => `${ids()} done`,
    );
    await client.query('ROLLBACK');
    await until(() => ids() === 100);
    expect(await input.parked()).toMatchObject([{ id: '1', operation, error: 'bad row' }]);
    // The lease was kept.
    expect(new Set(done.map(({ fencingToken }) => fencingToken)).size).toBe(1);
    await input.close();
  },
);
