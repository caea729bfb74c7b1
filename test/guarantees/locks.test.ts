/** The application never waits for our DDL longer than lock_timeout, and never at all for its own triggers. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, inject, onTestFinished, test } from 'vitest';
import { type PostgresInputError, newPostgresInput } from '../../src/index.ts';
import { withSession } from '../../src/node/connect.ts';
import { Discovery } from '../../src/node/discovery.ts';
import { readStatus } from '../../src/node/status.ts';
import { install } from '../../src/schema/install.ts';
import { namesOf } from '../../src/schema/names.ts';
import type { Step } from '../../src/schema/steps.ts';
import { Consumer, once } from '../support/consumer.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { originalTriggers } from '../support/original.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import {
  setupApplication,
  installationOf,
  installedBy,
  setupInstallation,
} from '../support/setup-installation.ts';

/**
 * Applications at work, until they are stopped: transactions that read one table and then write two, in every order.
 * One that has to wait for a second, which no machine is too slow for, or is chosen by the deadlock detector, fails.
 */
async function atWork(database: TestDatabase, tables: string[], count: number) {
  const stopped = new AbortController();
  const failures: string[] = [];
  let transactions = 0;
  const clients = await Promise.all(Array.from({ length: count }, () => database.client()));
  const writers = clients.map(async (client, i) => {
    await client.query("SET lock_timeout = '1s'");
    for (let n = i; !stopped.signal.aborted; n += 7) {
      const [one, other] = [
        tables[n % tables.length]!,
        tables[(n + 1 + (i % (tables.length - 1))) % tables.length]!,
      ];
      try {
        await client.query(`BEGIN; SELECT FROM ${one} LIMIT 1; SELECT FROM ${other} LIMIT 1`);
        await client.query(`INSERT INTO ${one} DEFAULT VALUES`);
        await client.query(`INSERT INTO ${other} DEFAULT VALUES`);
        await client.query('COMMIT');
        transactions++;
      } catch (error) {
        failures.push(String(error));
        await client.query('ROLLBACK');
      }
    }
  });
  return {
    transactions: () => transactions,
    async stop() {
      stopped.abort();
      await Promise.all(writers);
      return failures;
    },
  };
}

const deadlocks = async (database: TestDatabase) => {
  const [row] = await database.query(
    'SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()',
  );
  return row.deadlocks as number;
};

describe('installing', () => {
  test('leaves alone a transaction that locks a table, and installs on the other tables', async () => {
    const database = await setupApplication(
      'CREATE TABLE held (id serial PRIMARY KEY); CREATE TABLE free (id serial PRIMARY KEY)',
    );
    const holder = await database.client();
    await holder.query('BEGIN; INSERT INTO held DEFAULT VALUES');
    const { install, changes } = installationOf(database, { lockTimeout: 20 });
    const others = await database.client();
    await others.query("SET lock_timeout = '1s'");
    const installing = install();
    const state = { installed: false, written: 0 };
    void installing.then(() => (state.installed = true));
    // Each comes behind whatever of ours is in the queue.
    for (; !state.installed; state.written++)
      await others.query('INSERT INTO held DEFAULT VALUES; SELECT FROM held');
    expect(await installing).toMatchObject({ unwatchable: [], pending: ['held'] });
    expect(state.written).toBeGreaterThan(20);
    await others.query('INSERT INTO free DEFAULT VALUES');
    expect(await changes()).toEqual(['INSERT free 1']);

    await holder.query('COMMIT');
    expect(await install()).toMatchObject({ watched: ['free', 'held'], pending: [] });
  });

  test('tries a table again at once that is locked for a moment', async () => {
    const database = await setupApplication('CREATE TABLE held (id serial PRIMARY KEY)');
    const holder = await database.client();
    await holder.query('BEGIN; INSERT INTO held DEFAULT VALUES');
    const installing = installationOf(database, { lockTimeout: 500 }).install();
    const waiting = () =>
      database.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass`);
    for (const count of [1, 0]) await expect.poll(waiting, { interval: 1 }).toHaveLength(count);
    await holder.query('COMMIT');
    expect(await installing).toEqual({ watched: ['held'], unwatchable: [], pending: [] });
  });

  test('tries a locked table again once the node is active', async () => {
    const database = await setupApplication('CREATE TABLE held (id serial PRIMARY KEY)');
    const holder = await database.client();
    await holder.query('BEGIN; INSERT INTO held DEFAULT VALUES');
    await using watcher = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { connectTimeout: 10_000, lockTimeout: 10, discoveryInterval: 100 },
    );
    const pending = () =>
      new Promise((resolve) => watcher.once('installed', ({ pending }) => resolve(pending)));
    const first = pending();
    const events = watcher.handle();
    expect(await first).toEqual(['held']);
    // Again and again, although nothing has changed since: each time on a connection of its own.
    const tried = new Set<number>();
    const last = pending();
    while (tried.size < 3) {
      const waiting = await database.query(
        `SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass`,
      );
      for (const { pid } of waiting) tried.add(pid);
    }
    await holder.query('COMMIT');
    expect(await last).toEqual([]);
    await database.query('INSERT INTO held VALUES (7)');
    expect((await events.next()).value).toMatchObject({ location: 'held', id: '7' });
  });

  test.each([
    ['', ''],
    [', over the original', 'original'],
  ])('blocks none of 16 writers%s, and deadlocks with none', async (_, kind) => {
    const tables = ['a', 'b', 'c', 'd'];
    const database = await setupApplication(`
      ${tables.map((table) => `CREATE TABLE ${table} (id bigserial PRIMARY KEY);`).join('')}
      ${kind && originalTriggers('test', tables)}`);
    const before = await deadlocks(database);
    const busy = await atWork(database, tables, 16);
    onTestFinished(async () => void (await busy.stop()));
    const { install, uninstall } = installationOf(database);
    const until = async (count: number) => {
      while (busy.transactions() < count) await delay(1);
    };
    await until(50);
    let pending: readonly string[] = tables;
    while (pending.length > 0) ({ pending } = await install());
    await until(busy.transactions() + 50);
    // On a busy machine the writers may keep a table from us for longer than one call tries.
    for (let isDone = false; !isDone;) {
      isDone = await uninstall().then(
        () => true,
        (error: PostgresInputError) => {
          if (!error.retryable) throw error;
          return false;
        },
      );
    }
    await until(busy.transactions() + 50);
    expect(await busy.stop()).toEqual([]);
    expect(await deadlocks(database)).toBe(before);
  });

  test('takes no lock above ACCESS SHARE when there is nothing to do', async () => {
    const { settings, names } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY);
      CREATE TABLE root (day date, code text, PRIMARY KEY (day, code)) PARTITION BY RANGE (day);
      CREATE TABLE part PARTITION OF root DEFAULT`);
    const modes = await withSession(settings, async (session) => {
      // What a transaction takes it keeps.
      await session.query('BEGIN');
      await new Discovery(settings, names, () => {}).ensureInstalled(
        session,
        'claiming',
        new AbortController().signal,
      );
      await install(session, settings, names);
      await readStatus(session, names);
      const locks = await session.query<{ relation: string; mode: string }>(`
        SELECT relation::regclass::text AS relation, mode FROM pg_catalog.pg_locks
        WHERE pid = pg_backend_pid() AND locktype = 'relation'`);
      await session.query('COMMIT');
      return new Set(locks.map(({ mode }) => mode));
    });
    expect([...modes]).toEqual(['AccessShareLock']);
  });

  test('waits for nobody in the server when there is nothing to do: a restart needs no lock on any table', async () => {
    const { database, plan } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY);
      CREATE TABLE root (day date, code text, PRIMARY KEY (day, code)) PARTITION BY RANGE (day);
      CREATE TABLE part PARTITION OF root DEFAULT`);
    // Not even ACCESS SHARE goes with this.
    const holder = await database.client();
    await holder.query('BEGIN; LOCK TABLE t, root, part IN ACCESS EXCLUSIVE MODE');
    expect((await plan()).steps).toEqual([]);
    await using watcher = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { connectTimeout: 10_000, discoveryInterval: 10 },
    );
    const installed = new Promise((resolve) => watcher.once('installed', resolve));
    const asleep = new Promise<void>((resolve) => watcher.once('asleep', () => resolve()));
    const events = watcher.handle();
    expect(await installed).toEqual({ watched: ['root', 't'], unwatchable: [], pending: [] });
    await asleep;

    // The same when there is something to do elsewhere.
    const discovered = new Promise((resolve) => watcher.once('installed', resolve));
    await database.query('CREATE TABLE u (id int PRIMARY KEY)');
    expect(await discovered).toEqual({ watched: ['root', 't', 'u'], unwatchable: [], pending: [] });
    await holder.query('COMMIT');
    await database.query('INSERT INTO u VALUES (1)');
    expect((await events.next()).value).toMatchObject({ location: 'u', id: '1' });
  });
});

describe('a DBA whose client sends a plan statement by statement, perhaps over a slow line,', () => {
  /** Runs a step. Returns the first lines of the statements that are sent while the transaction has locked something that was there against its writers. */
  async function sentUnderLocks(database: TestDatabase, { sql }: Step): Promise<string[]> {
    const client = await database.client();
    const { rows } = await client.query(`
      SELECT array_agg(oid) AS there FROM pg_class WHERE relkind IN ('r', 'S') AND relnamespace <> 'pg_catalog'::regnamespace`);
    const sent: string[] = [];
    await client.query('BEGIN');
    for (const statement of sql) {
      const { rowCount } = await client.query(
        `SELECT FROM pg_locks WHERE pid = pg_backend_pid() AND relation = ANY ($1::oid[])
         AND mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')`,
        [rows[0].there],
      );
      if (rowCount! > 0) sent.push(statement.trim().split('\n', 1)[0]!);
      await client.query(statement);
    }
    await client.query('COMMIT');
    return sent;
  }

  test.each([1, 4, 5])('locks nothing before the functions are sent: from version %i', async (version) => {
    const database = await installedBy(version);
    await database.query(`
      ALTER TABLE postgres_input.log_postgres_input_golden DROP CONSTRAINT log_postgres_input_golden_pkey;
      DROP FUNCTION postgres_input.notify_postgres_input_golden`);
    const { plan } = installationOf(database, { name: 'golden' });
    const [internal] = (await plan()).steps;
    expect(internal!.sql.join()).toMatch(/CREATE OR REPLACE FUNCTION/);
    const sent = await sentUnderLocks(database, internal!);
    expect(sent.filter((statement) => statement.includes('FUNCTION'))).toEqual([]);
  });

  test('adds columns to the log, to which all writers write, and sends nothing more while it is locked', async () => {
    const database = await installedBy(3);
    const { plan } = installationOf(database, { name: 'golden' });
    const [internal, columns] = (await plan()).steps;
    await sentUnderLocks(database, internal!);
    expect(columns!.table).toBe('postgres_input.log_postgres_input_golden');
    expect(await sentUnderLocks(database, columns!)).toEqual([]);
    expect((await plan()).steps.map(({ table }) => table)).not.toContain(columns!.table);
  });
});

test('writers do not wait for each other in our triggers, nor for the reader', async () => {
  const { database, names, changes } = await setupInstallation(
    'CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)',
  );
  const clients = await Promise.all([1, 2, 3].map(() => database.client()));
  for (const client of clients) await client.query("SET lock_timeout = '1s'");
  const [one, two, reader] = clients as [(typeof clients)[0], (typeof clients)[0], (typeof clients)[0]];
  const lock = async () =>
    (await reader.query('SELECT pg_try_advisory_lock($1) AS locked', [names.sleepKey])).rows[0]
      .locked as boolean;
  await one.query('BEGIN; INSERT INTO a VALUES (1); TRUNCATE a');
  await two.query('BEGIN; INSERT INTO b VALUES (1); TRUNCATE b');
  expect(await lock()).toBe(false);
  await one.query('COMMIT');
  await two.query('COMMIT');
  expect(await lock()).toBe(true);
  await one.query('BEGIN; INSERT INTO a VALUES (2)');
  await two.query('BEGIN; INSERT INTO b VALUES (2)');
  await one.query('COMMIT');
  await two.query('COMMIT');
  expect(await changes()).toHaveLength(6);
});

test('vacuum of the log does not cut off its file, for which it would lock out writers', async () => {
  const { database } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  await database.query('INSERT INTO t SELECT generate_series(1, 200000)');
  await database.query('DELETE FROM postgres_input.log_postgres_input_test');
  const size = async () => {
    const sql = "SELECT pg_relation_size('postgres_input.log_postgres_input_test') AS size";
    return (await database.query<{ size: string }>(sql))[0]!.size;
  };
  const before = await size();
  await database.query('VACUUM postgres_input.log_postgres_input_test');
  expect(await size()).toBe(before);
});

describe('a stranger who holds the sleep lock, which anybody who may connect can take,', () => {
  async function hold(database: TestDatabase, key: string) {
    const { url } = await createRole(database);
    const client = await database.client({ connectionString: url });
    await client.query('SELECT pg_advisory_lock($1)', [key]);
    return client;
  }

  test.runIf(inject('preparedTransactions'))(
    'makes PREPARE TRANSACTION fail though no node is active, until it is gone',
    async () => {
      const { database, names, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)', {
        name: 'held',
      });
      const stranger = await hold(database, names.sleepKey);
      const prepare = () =>
        database.query(`BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '${database.name}'`);
      await expect(prepare()).rejects.toMatchObject({ code: '0A000' });
      await stranger.query('SELECT pg_advisory_unlock_all()');
      await prepare();
      await database.query(`COMMIT PREPARED '${database.name}'`);
      expect(await changes()).toEqual(['INSERT t 1']);
    },
  );

  test('keeps the reader awake and delays no change', async () => {
    const fixture = await setupInputs();
    onTestFinished(() => fixture[Symbol.asyncDispose]());
    const { database } = fixture;
    const input = await fixture.input({ discoveryInterval: 600_000 });
    const { sleepKey } = namesOf('test_input', 'postgres_input');
    const active = once(input, 'active');
    let asleep = 0;
    input.on('asleep', () => asleep++);
    const stranger = await hold(database, sleepKey);
    const consumer = new Consumer(input);
    await active;
    for (let id = 1; id <= 20; id++) {
      await database.query('INSERT INTO items VALUES ($1)', [id]);
      await consumer.count(id);
    }
    expect(asleep).toBe(0);
    const sleeping = once(input, 'asleep');
    await stranger.query('SELECT pg_advisory_unlock_all()');
    await sleeping;
  });
});
