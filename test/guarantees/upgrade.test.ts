/**
 * Version 0.1.0 is published: who has its objects in a database comes to this version without loss, while the application writes. So does
 * who has the objects of the version before.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type ChangeEvent, type PostgresInput, newPostgresInput } from '../../src/index.ts';
import { VERSION, versionLine } from '../../src/schema/migrations.ts';
import { namesOf } from '../../src/schema/names.ts';
import { Consumer, PATIENT, once, reaches } from '../support/consumer.ts';
import { type TestDatabase } from '../support/database.ts';
import { startNode } from '../support/node-process.ts';
import type { NodeSetup, Report } from '../support/node.ts';
import type { NodeProcess } from '../support/processes.ts';
import { published, publishedCommand } from '../support/published.ts';
import { connections, setupInputs } from '../support/setup-inputs.ts';
import { installedBy } from '../support/setup-installation.ts';
import { until } from '../support/until.ts';

const names = namesOf('test_input', 'postgres_input');

async function setupUpgrade() {
  const fixture = await setupInputs();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { database } = fixture;
  await database.query('CREATE TABLE orders (id int PRIMARY KEY, status text)');
  return {
    database,
    input: (...options: Parameters<typeof fixture.input>) => fixture.input(...options),
    /** A node of version 0.1.0, in a process of its own. */
    oldNode: async (options: Partial<NodeSetup> = {}): Promise<NodeProcess<Report>> => {
      const node = startNode({ url: database.url, package: await published('0.1.0'), ...options });
      onTestFinished(() => node[Symbol.asyncDispose]());
      return node;
    },
    oldInstall: () =>
      publishedCommand('0.1.0', ['install', '--name', 'test-input', '--connection-string', database.url]),
  };
}

/** Statements of one row and of many, until it is stopped; a statement that fails fails the test. */
class Writer {
  readonly written: string[] = [];
  #isStopped = false;
  readonly #done: Promise<void>;

  constructor(database: TestDatabase) {
    this.#done = this.#run(database);
    // It is awaited when the writer is stopped.
    this.#done.catch(() => {});
  }

  async #run(database: TestDatabase): Promise<void> {
    const client = await database.client();
    for (let n = 1; !this.#isStopped; n++) {
      const first = 1000 * n;
      await client.query(`INSERT INTO orders VALUES (${first}, 'new')`);
      await client.query(
        `INSERT INTO orders SELECT n, 'new' FROM generate_series(${first + 1}, ${first + 120}) n`,
      );
      await client.query(`UPDATE orders SET status = 'paid' WHERE id = ${first}`);
      this.written.push(`create ${first}`, `update ${first}`);
      for (let id = first + 1; id <= first + 120; id++) this.written.push(`create ${id}`);
      await delay(5);
    }
  }

  stop(): Promise<void> {
    this.#isStopped = true;
    return this.#done;
  }
}

const told = ({ operation, id }: ChangeEvent) => `${operation} ${id}`;

/** How many of this input's functions this version made, and how many another. */
async function functions(database: TestDatabase): Promise<{ ours: number; others: number }> {
  const [row] = await database.query<{ ours: number; others: number }>(
    `SELECT count(*) FILTER (WHERE strpos(prosrc, $1) > 0)::int AS ours,
       count(*) FILTER (WHERE strpos(prosrc, $1) = 0)::int AS others
     FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace`,
    [versionLine(VERSION)],
  );
  return row!;
}

async function collect(node: NodeProcess<Report>, into: ChangeEvent[]): Promise<void> {
  for await (const message of node.messages) if (message.is === 'event') into.push(message.event);
}

const FAST = { discoveryInterval: 100 };

describe('a rolling deployment from 0.1.0, under writes', () => {
  test('loses nothing and repeats nothing, and all is of this version when the last old node has gone', async () => {
    const { database, input, oldNode } = await setupUpgrade();
    const old = await oldNode({ options: FAST });
    await old.waitFor(({ is }) => is === 'active');
    const byOld: ChangeEvent[] = [];
    old.send({ do: 'consume' });
    const collecting = collect(old, byOld);
    const writer = new Writer(database);
    await until(() => byOld.length > 500);

    const next = await input({ discoveryInterval: 60_000 });
    const consumer = new Consumer(next);
    await reaches(next, 'standby');
    // Tables and functions came to this version in one transaction.
    expect(await database.query(`SELECT version FROM ${names.lockTable.sql}`)).toEqual([
      { version: VERSION },
    ]);
    // The old node knows no versions: it puts its own functions back, more than once if need be.
    await until(async () => (await functions(database)).ours === 0);
    const before = byOld.length;
    await until(() => byOld.length > before + 500);

    const active = once(next, 'active');
    old.send({ do: 'close' });
    await active;
    await until(async () => (await functions(database)).others === 0);
    await consumer.count(500);
    await writer.stop();
    await consumer.count(writer.written.length - byOld.length);
    old.send({ do: 'leave' });
    await collecting;
    expect([...byOld, ...consumer.events].map(told).toSorted()).toEqual(writer.written.toSorted());
  });

  test('hands out again, under the same sequence, what a killed old node had in hand', async () => {
    const { database, input, oldNode } = await setupUpgrade();
    const old = await oldNode({ options: FAST, handle: { ack: 'manual' } });
    await old.waitFor(({ is }) => is === 'active');
    await database.query("INSERT INTO orders SELECT n, 'new' FROM generate_series(1, 150) n");
    const inHand: ChangeEvent[] = [];
    old.send({ do: 'consume' });
    while (inHand.length < 150) {
      const report = await old.waitFor(({ is }) => is === 'event');
      if (report.is === 'event') inHand.push(report.event);
    }
    // Of the two packed rows, one is acknowledged in part.
    const [done, rest] = [inHand.slice(0, 30), inHand.slice(30)];
    for (const event of done) old.send({ do: 'ack', event });
    for (const _ of done) await old.waitFor(({ is }) => is === 'acknowledged');

    const next = await input(FAST);
    const consumer = new Consumer(next);
    await reaches(next, 'standby');
    old.signal('SIGKILL');
    await consumer.count(rest.length);
    expect(consumer.events.map(({ sequence, id }) => [sequence, id])).toEqual(
      rest.map(({ sequence, id }) => [sequence, id]),
    );
  });
});

test("repeats an old node's event under the same sequence if a new node waited meanwhile", async () => {
  const { database, input, oldNode } = await setupUpgrade();
  await database.query('CREATE TABLE later (id int PRIMARY KEY)');
  const old = await oldNode({
    options: { ...FAST, tables: { exclude: ['later'] } },
    handle: { ack: 'manual' },
  });
  await old.waitFor(({ is }) => is === 'active');
  const next = await input(FAST);
  const consumer = new Consumer(next, { ack: 'manual' });
  await reaches(next, 'standby');
  // The tables are of this version, the functions are not.
  expect(await database.query(`SELECT version FROM ${names.lockTable.sql}`)).toEqual([{ version: VERSION }]);
  expect(await functions(database)).toMatchObject({ ours: 0 });
  await database.query("INSERT INTO later VALUES (1); INSERT INTO orders VALUES (1, 'new')");
  await database.query("INSERT INTO orders SELECT n, 'new' FROM generate_series(2, 150) n");
  const inHand: ChangeEvent[] = [];
  old.send({ do: 'consume' });
  while (inHand.length < 150) {
    const report = await old.waitFor(({ is }) => is === 'event');
    if (report.is === 'event') inHand.push(report.event);
  }
  old.signal('SIGKILL');
  await consumer.count(150);
  const told = ({ sequence, location, id }: ChangeEvent) => [sequence, location, id];
  expect(consumer.events.map(told)).toEqual(inHand.map(told));
  await until(async () => (await functions(database)).others === 0);
  await database.query('INSERT INTO later VALUES (2)');
  await consumer.count(151);
});

describe("0.1.0's objects", () => {
  test('are migrated under writes, with an open transaction and a backlog', async () => {
    const { database, input, oldInstall } = await setupUpgrade();
    await oldInstall();
    await database.query("INSERT INTO orders SELECT n, 'old' FROM generate_series(1, 300) n");
    const late = await database.client();
    await late.query("BEGIN; INSERT INTO orders VALUES (301, 'late')");
    const writer = new Writer(database);
    await until(() => writer.written.length > 0);

    const next = await input(FAST);
    const consumer = new Consumer(next);
    await reaches(next, 'active');
    expect(await functions(database)).toMatchObject({ others: 0 });
    await consumer.count(300);
    await late.query('COMMIT');
    await writer.stop();
    const expected = [...writer.written, ...Array.from({ length: 301 }, (_, n) => `create ${n + 1}`)];
    await consumer.count(expected.length);
    expect(consumer.events.map(told).toSorted()).toEqual(expected.toSorted());
  });

  test('that a transaction holds are tried again and again, and the transaction is not disturbed', async () => {
    const { database, input, oldInstall } = await setupUpgrade();
    await oldInstall();
    const holder = await database.client();
    // As an acknowledgement in a caller's transaction does.
    await holder.query(`BEGIN; SELECT FROM ${names.lockTable.sql}`);
    const next = await input();
    const failures: unknown[] = [];
    next.on('discoveryFailed', (error) => failures.push(error));
    const consumer = new Consumer(next);
    await until(() => failures.length > 0, 30_000);
    expect(failures[0]).toMatchObject({ code: 'ERR_INSTALL', retryable: true, message: /locked/ });
    await database.query("INSERT INTO orders VALUES (1, 'new')");
    await holder.query('COMMIT');
    await consumer.count(1);
  });

  test('become the same as a fresh installation makes', async () => {
    const { database, input, oldInstall } = await setupUpgrade();
    await oldInstall();
    const migrate = async (): Promise<unknown[]> => {
      const next = await input();
      const consumer = new Consumer(next);
      await reaches(next, 'active');
      await next.close();
      await consumer.ended;
      return objects(database);
    };
    const migrated = await migrate();
    await (await input()).uninstall();
    expect(await objects(database)).toEqual([]);
    expect(migrated).toEqual(await migrate());
  });
});

test('the objects of version 4 become the same as a fresh installation makes, and what has failed comes as its next attempt', async () => {
  const database = await installedBy(4);
  const { logTable, failedTable } = namesOf('golden', 'postgres_input');
  await database.query("INSERT INTO orders VALUES (gen_random_uuid(), 'x')");
  await database.query(`
    INSERT INTO ${failedTable.sql} (sequence, seq, attempts, error, next_at)
    SELECT seq || (extract(epoch FROM at) * 1000000)::bigint::text, seq, 3, 'no', clock_timestamp() FROM ${logTable.sql}`);
  const config = { name: 'golden', type: 'postgres', connectionString: database.url };
  const migrate = async (events: number): Promise<Consumer> => {
    // Of an input with rows, all tables are made.
    const next = await newPostgresInput(config, { ...PATIENT, rows: 'both' });
    onTestFinished(() => next[Symbol.asyncDispose]());
    const consumer = new Consumer(next, { ack: 'manual' });
    await reaches(next, 'active');
    await consumer.count(events);
    for (const event of consumer.events) await next.ack(event);
    await next.close();
    return consumer;
  };
  expect((await migrate(1)).events).toMatchObject([{ location: 'orders', attempt: 4 }]);
  const migrated = await objects(database);
  await (await newPostgresInput(config, PATIENT)).uninstall();
  expect(await objects(database)).toEqual([]);
  await migrate(0);
  expect(migrated).toEqual(await objects(database));
});

/** Columns, constraints, sequences, options and functions of the internal schema. */
const objects = (database: TestDatabase): Promise<unknown[]> =>
  database.query(`
    SELECT 'column' AS kind, c.relname || '.' || a.attname AS name,
      concat(format_type(a.atttypid, a.atttypmod), ' ', a.attnotnull, ' ', pg_get_expr(d.adbin, d.adrelid)) AS text
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = to_regnamespace('postgres_input') AND c.relkind = 'r'
    UNION ALL SELECT 'relation', relname, concat(relkind, ' ', reloptions, ' ', relacl) FROM pg_class WHERE relnamespace = to_regnamespace('postgres_input')
    UNION ALL SELECT 'constraint', conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = to_regnamespace('postgres_input') AND contype <> 'n'
    UNION ALL SELECT 'function', proname, prosrc || concat(proconfig, proacl) FROM pg_proc WHERE pronamespace = to_regnamespace('postgres_input')
    ORDER BY 1, 2`);

describe('what a newer version has installed', () => {
  /** As a node of a version does that is yet to come. */
  const installNewer = (database: TestDatabase) =>
    database.query(`
      ALTER TABLE ${names.lockTable.sql} ADD COLUMN yet_to_come int, ALTER COLUMN version SET DEFAULT 99;
      UPDATE ${names.lockTable.sql} SET version = 99;
      DO $$ BEGIN
        EXECUTE (SELECT replace(pg_get_functiondef(oid), '${versionLine(VERSION)}', '${versionLine(99)}')
          FROM pg_proc WHERE proname = '${names.notifyFunction.name}');
      END $$`);
  const refused = { code: 'ERR_INSTALL', retryable: false, message: /newer version.*update this node/ };

  test('is not touched by a node that starts', async () => {
    const { database, input } = await setupUpgrade();
    const first = await input();
    const started = new Consumer(first);
    await reaches(first, 'active');
    await first.close();
    await started.ended;
    await installNewer(database);
    const before = await objects(database);
    expect(await new Consumer(await input(), { reconnect: true }).ended).toMatchObject(refused);
    expect(await objects(database)).toEqual(before);
  });

  test('ends an active node and a standby, and the lease is free', async () => {
    const { database, input } = await setupUpgrade();
    const [active, standby] = [await input(FAST), await input(FAST)];
    const first = new Consumer(active, { reconnect: true });
    await reaches(active, 'active');
    const second = new Consumer(standby, { reconnect: true });
    await reaches(standby, 'standby');
    const claims: unknown[] = [];
    standby.on('active', (lease) => claims.push(lease));
    await installNewer(database);
    expect(await first.ended).toMatchObject(refused);
    expect(await second.ended).toMatchObject(refused);
    expect(claims).toEqual([]);
    await until(async () => (await connections(database)) === 0);
    expect(await database.query(`SELECT holder FROM ${names.lockTable.sql}`)).toEqual([{ holder: null }]);
  });
});

test('a log that is older than 0.1.0 is refused before anything is touched', async () => {
  const { database, input, oldInstall } = await setupUpgrade();
  await oldInstall();
  await database.query(`ALTER TABLE ${names.logTable.sql} DROP COLUMN size`);
  const before = await objects(database);
  expect(await new Consumer(await input()).ended).toMatchObject({
    code: 'ERR_INSTALL',
    message: /older than version 0\.1\.0.*uninstall/,
  });
  expect(await objects(database)).toEqual(before);
});

describe('nodes whose options differ', () => {
  const triggers = async (database: TestDatabase) =>
    (
      await database.query<{ table: string }>(
        `SELECT DISTINCT tgrelid::regclass::text AS table FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1`,
      )
    ).map(({ table }) => table);
  const differences = (input: PostgresInput) =>
    new Promise((resolve) => void input.once('optionsDiffer', resolve));

  test('an active node leaves in place what a node with other options has added', async () => {
    const { database, input } = await setupUpgrade();
    const old = await input({ ...FAST, tables: { include: ['items'] } });
    const first = new Consumer(old);
    await reaches(old, 'active');
    const next = await input({ ...FAST, tables: { include: ['items', 'orders'] } });
    const [toldOld, toldNext] = [differences(old), differences(next)];
    const second = new Consumer(next);
    await reaches(next, 'standby');
    expect(await toldNext).toEqual([
      { option: 'include', installed: ['items'], wanted: ['items', 'orders'] },
    ]);
    expect(await toldOld).toEqual([{ option: 'include', installed: ['items', 'orders'], wanted: ['items'] }]);
    // The old node looks again, and puts back what is its own.
    await database.query('DROP TRIGGER items_test_input_insert_trigger ON items');
    await until(
      async () =>
        (await database.query("SELECT FROM pg_trigger WHERE tgname = 'items_test_input_insert_trigger'"))
          .length === 1,
    );
    expect(await triggers(database)).toEqual(['items', 'orders']);

    await database.query("INSERT INTO orders VALUES (1, 'new')");
    await old.close();
    await first.ended;
    await reaches(next, 'active');
    await database.query("INSERT INTO orders VALUES (2, 'new')");
    await until(() => [...first.ids, ...second.ids].includes('2'));
    expect([...first.ids, ...second.ids]).toEqual(['1', '2']);
  });

  test('a node removes triggers that its options do not want when its term begins', async () => {
    const { database, input } = await setupUpgrade();
    const wide = await input(FAST);
    const first = new Consumer(wide);
    await reaches(wide, 'active');
    const narrow = await input({ ...FAST, tables: { include: ['items'] } });
    const second = new Consumer(narrow);
    await reaches(narrow, 'standby');
    expect(await triggers(database)).toEqual(['items', 'orders']);
    await wide.close();
    await first.ended;
    await until(async () => (await triggers(database)).length === 1);
    await narrow.close();
    await second.ended;
  });
});
