/** Uninstalling leaves the database as it was before. */
import { execFile, spawnSync } from 'node:child_process';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { type TestDatabase, createDatabase, createRole, majorVersion } from '../support/database.ts';
import { originalTriggers } from '../support/original.ts';
import { startServer } from '../support/server.ts';
import { setupApplication, installationOf, setupInstallation } from '../support/setup-installation.ts';

const APPLICATION = `
  CREATE SCHEMA app;
  CREATE TYPE mood AS ENUM ('good');
  CREATE TABLE t (id int PRIMARY KEY, mood mood);
  CREATE TABLE app."Two Words" (a int, b timestamptz, PRIMARY KEY (a, b));
  CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
  CREATE TABLE part PARTITION OF root DEFAULT;
  CREATE VIEW v AS SELECT * FROM t;
  CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
  CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
  CREATE FUNCTION process_record_other() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
  CREATE TRIGGER t_test_insert AFTER INSERT ON t EXECUTE FUNCTION process_record_other()`;

/** What a dump of the schema would tell, as far as installing can change it. */
const schemaOf = (database: TestDatabase) =>
  database.query(`
    WITH n AS (SELECT * FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
    SELECT 'schema' AS kind, nspname::text AS name, concat_ws(' ', nspacl, obj_description(oid)) AS what FROM n
    UNION ALL
    SELECT 'relation', c.oid::regclass::text, concat_ws(' ', relkind, relpersistence, relacl, reloptions, relhasrules,
      relrowsecurity, (SELECT string_agg(concat_ws(' ', attname, atttypid::regtype, attnotnull, attacl), ',' ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0))
    FROM pg_class c JOIN n ON n.oid = relnamespace
    UNION ALL
    SELECT 'function', p.oid::regprocedure::text, concat_ws(' ', md5(prosrc), proconfig, proacl) FROM pg_proc p JOIN n ON n.oid = pronamespace
    UNION ALL
    SELECT 'trigger', tgname, concat_ws(' ', pg_get_triggerdef(oid), tgenabled) FROM pg_trigger
    UNION ALL
    SELECT 'type', t.oid::regtype::text, '' FROM pg_type t JOIN n ON n.oid = typnamespace
    ORDER BY 1, 2, 3`);

const { stdout } = spawnSync('pg_dump', ['--version'], { encoding: 'utf8' });
/** The embedded server brings no pg_dump; where there is one that is not too old, it is asked as well. */
const dumpVersion = Number(/ (\d+)\./.exec(stdout ?? '')?.[1] ?? 0);

async function dump(database: TestDatabase): Promise<string> {
  const args = ['--schema-only', '--dbname', database.url];
  const { stdout } = await promisify(execFile)('pg_dump', args, { maxBuffer: 1e8 });
  // Since August 2025 it makes up a new key for every dump.
  return stdout.replaceAll(/^\\(un)?restrict .*$/gm, '');
}

describe('uninstalling', () => {
  test('leaves the schema as it was', async () => {
    const database = await setupApplication(APPLICATION);
    const canDump = dumpVersion >= (await majorVersion(database));
    const before = await schemaOf(database);
    const dumpBefore = canDump && (await dump(database));
    const { install, uninstall } = installationOf(database, { schemas: ['public', 'app'] });
    for (let time = 1; time <= 2; time++) {
      await install();
      expect(await schemaOf(database)).not.toEqual(before);
      await database.query(
        'INSERT INTO t VALUES (1); UPDATE t SET id = 2; TRUNCATE t; INSERT INTO part VALUES (1); TRUNCATE root',
      );
      await uninstall();
      expect(await schemaOf(database)).toEqual(before);
      expect(canDump && (await dump(database))).toEqual(dumpBefore);
    }
    await uninstall();
    expect(await schemaOf(database)).toEqual(before);
  });

  test('of one input leaves the others', async () => {
    const { database, install, uninstall } = await setupInstallation(APPLICATION);
    const before = await schemaOf(database);
    // Names that begin alike, and one that is in its own schema.
    const others = [
      installationOf(database, { name: 'test_2' }),
      installationOf(database, { name: 'te' }),
      installationOf(database, { name: 'far', internalSchema: 'public' }),
    ];
    for (const other of others) await other.install();
    await uninstall();
    await database.query('INSERT INTO t VALUES (1)');
    for (const { changes } of others) expect(await changes()).toEqual(['INSERT t 1']);
    await install();
    for (const other of others) await other.uninstall();
    expect(await schemaOf(database)).toEqual(before);
  });

  test('removes the triggers of tables that were renamed, moved, detached or excluded', async () => {
    const database = await setupApplication(APPLICATION);
    const before = await schemaOf(database);
    await installationOf(database, { schemas: ['public', 'app'] }).install();
    await database.query(`
      ALTER TABLE t RENAME TO s; ALTER TABLE root DETACH PARTITION part; CREATE SCHEMA hidden;
      ALTER TABLE app."Two Words" SET SCHEMA hidden; ALTER TABLE s RENAME id TO code`);
    await installationOf(database, { tables: { include: ['nothing'] } }).uninstall();
    await database.query(`
      ALTER TABLE s RENAME TO t; ALTER TABLE root ATTACH PARTITION part DEFAULT;
      ALTER TABLE hidden."Two Words" SET SCHEMA app; DROP SCHEMA hidden; ALTER TABLE t RENAME code TO id`);
    expect(await schemaOf(database)).toEqual(before);
  });

  test('leaves a schema that it did not make, and one that holds something else', async () => {
    const database = await setupApplication(
      'CREATE SCHEMA postgres_input; CREATE TABLE t (id int PRIMARY KEY)',
    );
    const before = await schemaOf(database);
    const { install, uninstall } = installationOf(database);
    await install();
    await uninstall();
    expect(await schemaOf(database)).toEqual(before);

    await database.query('DROP SCHEMA postgres_input');
    await install();
    await database.query('CREATE FUNCTION postgres_input.mine() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$');
    await uninstall();
    expect(await database.query('SELECT postgres_input.mine() AS mine')).toEqual([{ mine: 1 }]);
  });

  test('of the last input leaves a schema that another role made, or that holds something else than tables', async () => {
    const database = await setupApplication(
      'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)',
    );
    const { role, url } = await createRole(database);
    const first = installationOf(database, { tables: { include: ['t'] } });
    await first.install();
    await database.query(`
      GRANT CREATE, USAGE ON SCHEMA postgres_input TO ${role}; ALTER TABLE u OWNER TO ${role};
      CREATE TYPE postgres_input.mine AS ENUM ()`);
    const second = installationOf(database, { name: 'second', tables: { include: ['u'] } }, url);
    await second.install();
    await first.uninstall();
    await second.uninstall();
    const internal = `SELECT relname FROM pg_class WHERE relnamespace = 'postgres_input'::regnamespace`;
    expect(await database.query(internal)).toEqual([]);
    await first.install();
    await first.uninstall();
    expect(await database.query(internal)).toEqual([]);
  });

  test('does not bring the original back, nor touch one of another id', async () => {
    const database = await setupApplication(`
      CREATE TABLE t (id int PRIMARY KEY);
      ${originalTriggers('other', ['t'])} ${originalTriggers('test', ['t'])}`);
    const { install, uninstall } = installationOf(database);
    await install();
    await uninstall();
    expect(await database.query('SELECT tgname FROM pg_trigger')).toEqual([{ tgname: 't_other_trigger' }]);
  });

  test('takes everything along although the log is not empty, nodes have run and transactions are open', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const before = await schemaOf(database);
    await using watcher = await newPostgresInput(
      { name: 'test', type: 'postgres', connectionString: database.url },
      { connectTimeout: 10_000 },
    );
    const events = watcher.handle();
    const asleep = new Promise<void>((resolve) => watcher.once('asleep', () => resolve()));
    await asleep;
    await expect(watcher.uninstall()).rejects.toMatchObject({ code: 'ERR_ALREADY_HANDLING' });
    const open = await database.client();
    await open.query('BEGIN; INSERT INTO t VALUES (1)');
    await database.query('INSERT INTO t VALUES (2)');
    expect((await events.next()).value).toMatchObject({ id: '2' });
    await events.return!();
    // As soon as the transaction ends, which is held until uninstalling has met it.
    const uninstalled = watcher.uninstall();
    await expect
      .poll(() => database.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass`))
      .toHaveLength(1);
    await open.query('COMMIT');
    await uninstalled;
    expect(await schemaOf(database)).toEqual(before);
  });

  test('says what of others is in the way, and can be called again', async () => {
    const { database, uninstall, names } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query(`CREATE VIEW backlog AS SELECT count(*) FROM ${names.logTable.sql}`);
    await expect(uninstall()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(
        /cannot drop table .*log_postgres_input_test because other objects depend/,
      ),
    });
    await database.query('DROP VIEW backlog');
    await uninstall();
  });

  test('says what it could not remove, and can be called again', async () => {
    const database = await setupApplication(
      'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)',
    );
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON t TO ${role}; ALTER TABLE u OWNER TO ${role}`);
    const before = await schemaOf(database);
    const { install, uninstall } = installationOf(database, {}, url);
    await install();
    await expect(uninstall()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringContaining('triggers remain on t;'),
    });
    await database.query('INSERT INTO t VALUES (1)');
    await installationOf(database).uninstall();
    expect(await schemaOf(database)).toEqual(before);
  });
});

test('of hundreds of tables fits into a server that has room for few locks', async () => {
  await using server = await startServer({
    settings: { max_locks_per_transaction: '10', max_connections: '20', max_prepared_transactions: '0' },
  });
  await using database = await createDatabase(server.url());
  const tables = 400;
  for (let n = 0; n < tables; n += 20) {
    const some = Array.from({ length: 20 }, (_, i) => `CREATE TABLE t_${n + i} (id int)`);
    await database.query(some.join(';'));
  }
  const { install, uninstall } = installationOf(database);
  expect((await install()).watched).toHaveLength(tables);
  // The functions of tables that were dropped are left over.
  for (let n = 0; n < tables; n += 20) {
    const some = Array.from({ length: 10 }, (_, i) => `DROP TABLE t_${n + i}`);
    await database.query(some.join(';'));
  }
  await uninstall();
  expect(await database.query("SELECT FROM pg_namespace WHERE nspname = 'postgres_input'")).toEqual([]);
});

test('says what helps where the server has no room for more locks, and can be called again', async () => {
  const { database, uninstall } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  await database.query(`
    CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
      RAISE 'out of shared memory' USING ERRCODE = '53200'; END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('DROP FUNCTION') EXECUTE FUNCTION refuse()`);
  await expect(uninstall()).rejects.toMatchObject({
    code: 'ERR_INSTALL',
    retryable: true,
    message: expect.stringMatching(/\(out of shared memory\).*raise max_locks_per_transaction/),
  });
  await database.query('DROP EVENT TRIGGER refuse');
  await uninstall();
  expect(await database.query("SELECT FROM pg_namespace WHERE nspname = 'postgres_input'")).toEqual([]);
});
