/** A change takes one of two roads, the notification or the log, and must be the same event on both. */
import pg from 'pg';
import { inject, onTestFinished, test, expect, describe } from 'vitest';
import { acknowledgementsSql } from '../../src/capture/acknowledgements-sql.ts';
import { ChangeLog } from '../../src/capture/change-log.ts';
import type { Change } from '../../src/capture/change.ts';
import { readPayload } from '../../src/capture/notification.ts';
import { eventOf } from '../../src/delivery/event.ts';
import { newPostgresInput } from '../../src/index.ts';
import { withSession } from '../../src/node/connect.ts';
import { quoteIdentifier, quoteLiteral } from '../../src/postgres/quoting.ts';
import type { Signature } from '../../src/schema/wire-format.ts';
import { type TestDatabase } from '../support/database.ts';
import { HOSTILE } from '../support/hostile-names.ts';
import { KEYS, TABLES_WITH_KEYS, keyTable } from '../support/keys.ts';
import { NO_DETAILS } from '../support/no-details.ts';
import {
  type InstallationFixture,
  setupApplication,
  installationOf,
  setupInstallation,
} from '../support/setup-installation.ts';
import { signatureOf } from '../support/signature.ts';

/** Stands in for a sleeping reader: holds its lock, and collects what our triggers then send. */
async function sleeper(database: TestDatabase, { names }: InstallationFixture) {
  const listener = await database.client();
  const payloads: string[] = [];
  listener.on('notification', ({ payload }) => payloads.push(payload!));
  await listener.query(`LISTEN ${quoteIdentifier(names.channel)}`);
  await listener.query('SELECT pg_advisory_lock($1)', [names.sleepKey]);
  onTestFinished(() => listener.end());
  return {
    unlock: () => listener.query('SELECT pg_advisory_unlock($1)', [names.sleepKey]),
    /** What has been sent since the last call. */
    async payloads(): Promise<string[]> {
      // What other sessions committed before is delivered before the answer to this.
      await listener.query('SELECT');
      return payloads.splice(0);
    },
  };
}

/** What the reader would make of payloads. */
function announced(payloads: string[], signature: Signature): Change[] {
  return payloads.flatMap((text) => {
    const payload = readPayload(text, signature);
    expect(payload).toMatchObject({ kind: 'changes' });
    return payload.kind === 'changes' ? payload.changes : [];
  });
}

/** What the reader would make of the log. */
const logged = ({ settings, names }: InstallationFixture): Promise<Change[]> =>
  withSession(settings, async (session) => {
    const log = new ChangeLog(session, names);
    const { changes, last } = await log.readPage(100_000);
    expect(last).toBe(true);
    return changes;
  });

describe('notification and log bring the same changes', () => {
  test('for keys of every type', async () => {
    const { database, ...fixture } = await setupInstallation(TABLES_WITH_KEYS);
    const reader = await sleeper(database, fixture);
    for (const [type, values] of Object.entries(KEYS)) {
      for (const value of values)
        await database.query(`INSERT INTO ${keyTable(type)} VALUES (${quoteLiteral(value)})`);
      await database.query(`UPDATE ${keyTable(type)} SET n = 1; DELETE FROM ${keyTable(type)}`);
    }
    const changes = announced(await reader.payloads(), await signatureOf(database, fixture.names));
    expect(changes).toHaveLength(6 * Object.keys(KEYS).length);
    expect(changes).toEqual(await logged(fixture));
    for (const change of changes) expect(new Date(change.occurredAt!).getTime()).toBeCloseTo(Date.now(), -5);
  });

  test('for names, composite keys, tables without a key, and TRUNCATE', async () => {
    const { database, ...fixture } = await setupInstallation(`
      CREATE TABLE composite (a text, b int, id int, PRIMARY KEY (a, b));
      CREATE TABLE none (n int);
      ${HOSTILE.map((name) => `CREATE TABLE ${quoteIdentifier(name)} (${quoteIdentifier(name)} text PRIMARY KEY);`).join('')}`);
    const reader = await sleeper(database, fixture);
    for (const name of HOSTILE)
      await database.query(`INSERT INTO ${quoteIdentifier(name)} VALUES (${quoteLiteral(name)})`);
    await database.query(`
      INSERT INTO composite VALUES ('"', 1, 5), ('', 2, NULL); UPDATE composite SET b = 3;
      INSERT INTO none VALUES (1); TRUNCATE none`);
    const changes = announced(await reader.payloads(), await signatureOf(database, fixture.names));
    expect(changes).toHaveLength(HOSTILE.length + 8);
    expect(changes).toEqual(await logged(fixture));
    expect(eventOf(changes.at(-1)!, 'test', '1', null)).toEqual({
      location: 'none',
      operation: 'delete',
      id: '*',
      trigger: 'test',
      sequence: expect.stringMatching(new RegExp(`^${changes.at(-1)!.sequence}\\d{16}$`)),
      key: null,
      occurredAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/),
      transaction: expect.stringMatching(/^\d+$/),
      ...NO_DETAILS,
      fencingToken: '1',
    });
  });

  test('by one statement for each row or one for all, which is announced without its changes', async () => {
    const { database, ...fixture } = await setupInstallation(`
      CREATE TABLE named (id text PRIMARY KEY, n int);
      CREATE TABLE composite (a text, b int, id text, n int, PRIMARY KEY (a, b));
      CREATE TABLE none (id text, n int)`);
    const texts = [
      ...HOSTILE,
      '',
      '\n',
      '\\',
      '[]',
      '{"a": 1}',
      '\u{1F600}',
      'long'.repeat(3000),
      ...Array(60).keys(),
    ];
    const reader = await sleeper(database, fixture);
    const values = texts.map((text, n) => ({
      named: `(${quoteLiteral(`${text}`)}, 0)`,
      composite: `(${quoteLiteral(`${text}`)}, ${n}, ${n % 2 ? 'NULL' : quoteLiteral(`${text}`)}, 0)`,
      none: `(${n % 2 ? 'NULL' : quoteLiteral(`${text}`)}, 0)`,
    }));
    for (const table of ['named', 'composite', 'none'] as const) {
      const rows = values.map((value) => value[table]);
      await database.query(`TRUNCATE ${fixture.names.logTable.sql}`);
      // A statement's changes come in any order.
      const whatItDid = async () =>
        (await logged(fixture))
          .map(({ location, operation, id, key }) => JSON.stringify([location, operation, id, key]))
          .toSorted();
      for (const row of rows) await database.query(`INSERT INTO ${table} VALUES ${row}`);
      const inserted = await whatItDid();
      await database.query(`TRUNCATE ${table}; TRUNCATE ${fixture.names.logTable.sql}`);
      await reader.payloads();
      await database.query(`INSERT INTO ${table} VALUES ${rows.join()}`);
      expect(await reader.payloads()).toEqual(['[]']);
      expect(await whatItDid()).toEqual(inserted);
      for (const statement of [`UPDATE ${table} SET n = n + 1`, `DELETE FROM ${table}`]) {
        await database.query(`TRUNCATE ${fixture.names.logTable.sql}; ${statement}`);
        expect(await reader.payloads()).toEqual(['[]']);
        const operation = statement.startsWith('U') ? '"update"' : '"delete"';
        const changed = inserted.map((change) => change.replace('"create"', operation));
        expect(await whatItDid()).toEqual(changed);
      }
    }
    // Long ones have rows of their own: a hundred of them could come to more than the gigabyte at which strings end.
    await database.query(`INSERT INTO none SELECT repeat('x', 10000) FROM generate_series(1, 60)`);
    expect(await database.query(`SELECT FROM ${fixture.names.logTable.sql} WHERE size IS NULL`)).toHaveLength(
      60,
    );
  });

  test('with the same transaction id, notified or read, packed or unpacked', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int)');
    const reader = await sleeper(database, fixture);
    const secret = await signatureOf(database, fixture.names);
    const writer = await database.client();
    const inTransaction = async (...statements: string[]): Promise<string> => {
      await writer.query(['BEGIN', ...statements].join(';'));
      const { rows } = await writer.query('SELECT pg_current_xact_id()::text AS xid');
      await writer.query('COMMIT');
      return rows[0].xid;
    };
    const few = await inTransaction(
      'INSERT INTO t VALUES (1), (2)',
      'SAVEPOINT s; UPDATE t SET n = 1 WHERE id = 1; RELEASE s',
    );
    const notified = announced(await reader.payloads(), secret);
    expect(notified.map(({ transaction }) => transaction)).toEqual([few, few, few]);
    const many = await inTransaction(
      'INSERT INTO t SELECT generate_series(3, 200)',
      'DELETE FROM t WHERE id = 1',
    );
    const read = await logged(fixture);
    expect(read.slice(0, 3)).toEqual(notified);
    expect(read.slice(3).map(({ transaction }) => transaction)).toEqual(Array(199).fill(many));

    const { names } = fixture;
    const packed = await database.query(`SELECT seq FROM ${names.logTable.sql} WHERE size IS NOT NULL`);
    expect(packed.length).toBeGreaterThan(1);
    await withSession(fixture.settings, (session) =>
      session.query(acknowledgementsSql(names).unpack, ['{}', packed.map(({ seq }) => seq)]),
    );
    expect(await database.query(`SELECT FROM ${names.logTable.sql} WHERE size IS NOT NULL`)).toEqual([]);
    expect(await logged(fixture)).toEqual(read);
  });

  test('without a transaction id, for a notification by hand', () => {
    const payload = readPayload('{"tbl": "t", "id": "1", "op": "INSERT"}', {
      secret: Buffer.alloc(32),
      database: '',
    });
    expect(payload).toMatchObject({ kind: 'foreign', change: { transaction: null } });
  });

  test('through an input, asleep and then again from the log', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const watcher = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { connectTimeout: 10_000 },
    );
    // Not close(): with events in hand the node would live on into the next test, in the same database.
    onTestFinished(() => watcher[Symbol.asyncDispose]());
    const take = async (events: ReturnType<typeof watcher.handle>) => {
      const taken = [];
      for (let i = 0; i < 4; i++) taken.push((await events.next()).value!);
      return taken.map((event) => ({ ...event, fencingToken: null }));
    };
    const asleep = new Promise((resolve) => watcher.once('asleep', () => resolve(undefined)));
    const first = watcher.handle({ ack: 'manual' });
    await asleep;
    let woken = false;
    watcher.once('awake', () => (woken = true));
    await database.query('INSERT INTO t VALUES (1), (2); UPDATE t SET id = 3 WHERE id = 1');
    const byNotification = await take(first);
    expect(woken).toBe(false);
    await first.return!();
    expect(byNotification.map(({ operation, id }) => `${operation} ${id}`)).toEqual([
      'create 1',
      'create 2',
      'delete 1',
      'create 3',
    ]);
    expect(await take(watcher.handle({ ack: 'manual' }))).toEqual(byNotification);
  });
});

describe('a notification', () => {
  test('is sent while the reader sleeps, and only then', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const reader = await sleeper(database, fixture);
    await database.query('INSERT INTO t VALUES (1)');
    expect(await reader.payloads()).toHaveLength(1);
    await reader.unlock();
    await database.query('INSERT INTO t VALUES (2); TRUNCATE t');
    expect(await reader.payloads()).toEqual([]);
  });

  test('holds up to 50 changes of a statement, if there is room, and else tells to look in the log', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id text PRIMARY KEY)');
    const reader = await sleeper(database, fixture);
    const secret = await signatureOf(database, fixture.names);
    await database.query('INSERT INTO t SELECT i FROM generate_series(1, 50) i');
    expect(announced(await reader.payloads(), secret)).toHaveLength(50);
    await database.query('INSERT INTO t SELECT i FROM generate_series(51, 101) i');
    await database.query(`INSERT INTO t SELECT i || repeat('☃', 100) FROM generate_series(102, 140) i`);
    await database.query(`INSERT INTO t VALUES (repeat('x', 100000))`);
    expect(await reader.payloads()).toEqual(['[]', '[]', '[]']);
    await database.query(`DELETE FROM t WHERE false`);
    await database.query(`UPDATE t SET id = id WHERE false`);
    expect(await reader.payloads()).toEqual([]);
    expect(await logged(fixture)).toHaveLength(141);
  });

  test('is not sent where nothing changed, also of a table that is no longer as it was', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query('ALTER TABLE t RENAME id TO number');
    const reader = await sleeper(database, fixture);
    await database.query('INSERT INTO t SELECT 1 WHERE false; UPDATE t SET number = 2; DELETE FROM t');
    expect(await reader.payloads()).toEqual([]);
    await database.query('INSERT INTO t VALUES (1)');
    expect(await reader.payloads()).toEqual(['[]']);
    expect(await logged(fixture)).toMatchObject([{ id: '1', key: 'number' }]);
  });

  test('tells to look in the log of an id that is as long as an id may be, escaped', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id text)');
    const reader = await sleeper(database, fixture);
    await database.query(`INSERT INTO t VALUES (repeat(E'\\x01', 1000000))`);
    expect(await reader.payloads()).toEqual(['[]']);
  }, 180_000);

  test('has the sequence of its row in the log, whatever the application draws from sequences', async () => {
    const { database, ...fixture } = await setupInstallation(`
      CREATE SEQUENCE other START 1000000;
      CREATE TABLE t (id serial PRIMARY KEY, n bigint DEFAULT nextval('other'));
      CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('public.other'); RETURN NEW; END $$;
      CREATE TRIGGER a_row BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION draw();
      CREATE TRIGGER a_statement AFTER INSERT OR UPDATE OR DELETE ON t EXECUTE FUNCTION draw();
      CREATE TRIGGER z_row AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION draw()`);
    // As tools do that audit or replicate all tables.
    await database.query(
      `CREATE TRIGGER audit AFTER INSERT ON ${fixture.names.logTable.sql} FOR EACH ROW EXECUTE FUNCTION draw()`,
    );
    const reader = await sleeper(database, fixture);
    await database.query('INSERT INTO t DEFAULT VALUES; UPDATE t SET n = 0; DELETE FROM t');
    const changes = announced(await reader.payloads(), await signatureOf(database, fixture.names));
    expect(changes).toHaveLength(3);
    expect(changes.map(({ sequence }) => sequence)).toEqual(
      (await logged(fixture)).map(({ sequence }) => sequence),
    );
  });

  test('tells to look in the log of a change with tags', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const reader = await sleeper(database, fixture);
    for (const setting of ['origin', 'context'])
      await database.query(
        `BEGIN; SET LOCAL postgres_input.${setting} = '"x"'; INSERT INTO t VALUES (${setting.length}); COMMIT`,
      );
    expect(await reader.payloads()).toEqual(['[]', '[]']);
    expect(await logged(fixture)).toHaveLength(2);
  });

  test('names a table as it is called now, in a session that has made its plans', async () => {
    const { database, ...fixture } = await setupInstallation(
      'CREATE SCHEMA app; CREATE TABLE app.t (id serial PRIMARY KEY, n int)',
      { schemas: ['app'] },
    );
    const reader = await sleeper(database, fixture);
    const secret = await signatureOf(database, fixture.names);
    const client = await database.client();
    const locations = async (table: string) => {
      for (let n = 0; n < 7; n++)
        await client.query(`INSERT INTO ${table} DEFAULT VALUES; UPDATE ${table} SET n = 1 WHERE id = 1`);
      await client.query(`DELETE FROM ${table}`);
      return new Set(announced(await reader.payloads(), secret).map(({ location }) => location));
    };
    expect(await locations('app.t')).toEqual(new Set(['app.t']));
    await database.query('ALTER TABLE app.t RENAME TO u');
    expect(await locations('app.u')).toEqual(new Set(['app.u']));
    await database.query('ALTER SCHEMA app RENAME TO shop');
    expect(await locations('shop.u')).toEqual(new Set(['shop.u']));
    expect(new Set((await logged(fixture)).map(({ location }) => location))).toEqual(
      new Set(['app.t', 'app.u', 'shop.u']),
    );
  });

  test('differs for every statement, because PostgreSQL merges equal ones', async () => {
    const { database, ...fixture } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1)',
    );
    const reader = await sleeper(database, fixture);
    await database.query('BEGIN; UPDATE t SET n = 1; UPDATE t SET n = 1; COMMIT');
    const changes = announced(await reader.payloads(), await signatureOf(database, fixture.names));
    expect(new Set(changes.map(({ sequence }) => sequence)).size).toBe(2);
  });

  test.each(['LATIN1', 'SQL_ASCII'])('tells to look in the log of a database in %s', async (encoding) => {
    const name = `test_${process.pid}_${encoding.toLowerCase()}`;
    const admin = new pg.Client({ connectionString: inject('adminUrl') });
    await admin.connect();
    await admin.query(`CREATE DATABASE ${name} ENCODING '${encoding}' LOCALE 'C' TEMPLATE template0`);
    const url = new URL(inject('adminUrl'));
    url.pathname = name;
    const clients: pg.Client[] = [];
    const client = async () => {
      const each = new pg.Client({ connectionString: url.href });
      clients.push(each);
      await each.connect();
      return each;
    };
    onTestFinished(async () => {
      for (const each of clients) await each.end();
      await admin.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await admin.end();
    });
    const writer = await client();
    await writer.query('CREATE TABLE café ("ñ" text PRIMARY KEY)');
    const database = {
      name,
      url: url.href,
      client,
      query: async (sql: string, params?: unknown[]) => (await writer.query(sql, params)).rows,
    } as unknown as TestDatabase;
    const fixture = installationOf(database);
    await fixture.install();
    const reader = await sleeper(database, fixture);
    await writer.query(`INSERT INTO café VALUES ('é')`);
    expect(await reader.payloads()).toEqual(['[]']);
    expect(await logged(fixture)).toMatchObject([{ location: 'café', id: 'é', key: 'ñ' }]);
  });
});
