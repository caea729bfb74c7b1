import { describe, expect, onTestFinished, test } from 'vitest';
import { readPayload } from '../../src/capture/notification.ts';
import { MAX_SIGNED } from '../../src/schema/wire-format.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { startServer } from '../support/server.ts';
import {
  type InstallationFixture,
  installationOf,
  setupInstallation,
} from '../support/setup-installation.ts';
import { signatureOf } from '../support/signature.ts';
import { until } from '../support/until.ts';

/** Somebody who is asleep, and hears what the triggers send: `[]`, or `INSERT t 1` for each change of a signed payload. */
async function asleep(database: TestDatabase, { names }: InstallationFixture) {
  const ear = await database.client();
  onTestFinished(() => ear.end());
  const signature = await signatureOf(database, names);
  const heard: string[] = [];
  let ends = 0;
  ear.on('notification', ({ channel, payload }) => {
    const read = channel === 'end' ? null : readPayload(payload!, signature);
    if (!read) ends++;
    else if (read.kind !== 'changes') heard.push(read.kind);
    else heard.push(...read.changes.map((c) => `${c.operation} ${c.location} ${c.id}`));
  });
  await ear.query(`LISTEN "${names.channel}"; LISTEN "end"; SELECT pg_advisory_lock(${names.sleepKey})`);
  return {
    /** What has been heard since the last call. */
    heard: async () => {
      const before = ends;
      await database.query('NOTIFY "end"');
      await until(() => ends > before);
      return heard.splice(0);
    },
  };
}

describe('a transaction that makes many changes, one statement each', () => {
  test('sends a bounded number of payloads with changes, and one more: look in the log', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const { heard } = await asleep(database, fixture);
    await database.query('DO $$ BEGIN FOR i IN 1..3000 LOOP INSERT INTO t VALUES (i); END LOOP; END $$');
    const all = await heard();
    expect(all).toHaveLength(MAX_SIGNED + 1);
    expect(all).toEqual([...Array.from({ length: MAX_SIGNED }, (_, i) => `create t ${i + 1}`), 'look']);
    await database.query('INSERT INTO t VALUES (0)');
    expect(await heard()).toEqual(['create t 0']);
    expect(await fixture.changes()).toHaveLength(3001);
  });

  test('counts no payloads that a rollback to a savepoint has taken back', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const { heard } = await asleep(database, fixture);
    const insert = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => `INSERT INTO t VALUES (${from + i})`).join(';');
    await database.query(
      `BEGIN; INSERT INTO t VALUES (0);
       SAVEPOINT a; ${insert(1, MAX_SIGNED)}; ROLLBACK TO a;
       SAVEPOINT b; ${insert(1, MAX_SIGNED - 1)}; RELEASE b; ${insert(MAX_SIGNED, MAX_SIGNED + 2)}; COMMIT`,
    );
    expect(await heard()).toEqual([...Array.from({ length: MAX_SIGNED }, (_, i) => `create t ${i}`), 'look']);
  });

  test('counts whatever the application has written into the setting', async () => {
    const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const { heard } = await asleep(database, fixture);
    const client = await database.client();
    for (const value of ['-1', 'x', 'é'.repeat(100)]) {
      await client.query(`SELECT set_config('postgres_input.signed_so_far', $1, false)`, [value]);
      await client.query('INSERT INTO t SELECT count(*) FROM t');
    }
    expect(await heard()).toEqual(['create t 0', 'create t 1', 'look']);
  });
});

describe.each(['asleep', 'awake'])(
  'a transaction that is older than the installation, the reader being %s',
  (state) => {
    test.each(['REPEATABLE READ', 'SERIALIZABLE'])('may write at level %s', async (level) => {
      const database = await createDatabase();
      await database.query(`
      CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (-1), (-2);
      CREATE TABLE keyless (note text);
      CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (10)`);
      const client = await database.client();
      await client.query(`BEGIN ISOLATION LEVEL ${level}; SELECT`);
      await client.query('SELECT count(*) FROM t');
      const fixture = installationOf(database);
      await fixture.install();
      const ear = state === 'asleep' ? await asleep(database, fixture) : null;

      await client.query('INSERT INTO t VALUES (1), (2)');
      await client.query('INSERT INTO t SELECT generate_series(101, 300)');
      await client.query('UPDATE t SET n = 1 WHERE id = 1');
      await client.query('UPDATE t SET id = 3 WHERE id = -1');
      await client.query('UPDATE t SET n = 2 WHERE id > 100');
      await client.query('DELETE FROM t WHERE id = 1');
      await client.query('DELETE FROM t WHERE id > 100');
      await client.query(`INSERT INTO keyless VALUES ('a')`);
      await client.query('INSERT INTO part VALUES (1)');
      await client.query('TRUNCATE part');
      await client.query('TRUNCATE keyless, part_1');
      await client.query('COMMIT');

      // The transaction does not see the secret, with which changes are signed.
      expect(await ear?.heard()).toEqual(ear ? ['look'] : undefined);
      const changes = await fixture.changes();
      expect(changes.filter((change) => !/ t \d{3}$/.test(change))).toEqual([
        'INSERT t 1',
        'INSERT t 2',
        'UPDATE t 1',
        'DELETE t -1',
        'INSERT t 3',
        'DELETE t 1',
        'INSERT keyless ',
        'INSERT part 1',
        'TRUNCATE part *',
        'TRUNCATE keyless *',
      ]);
      expect(changes).toHaveLength(610);
    });
  },
);

test('leaves one entry in pg_stat_statements, and no ids in it', async () => {
  await using server = await startServer({
    settings: { shared_preload_libraries: 'pg_stat_statements', 'pg_stat_statements.track': 'all' },
  });
  await using database = await createDatabase(server.url());
  await database.query('CREATE EXTENSION pg_stat_statements; CREATE TABLE t (id int PRIMARY KEY)');
  const fixture = installationOf(database);
  await fixture.install();
  const { heard } = await asleep(database, fixture);
  await database.query('SELECT pg_stat_statements_reset()');
  for (let id = 1; id <= 20; id++) await database.query('INSERT INTO t VALUES ($1)', [id]);
  expect(await heard()).toHaveLength(20);
  const entries = await database.query<{ query: string; calls: string }>(
    `SELECT query, calls FROM pg_stat_statements WHERE query ~* 'notify' AND query !~ 'end|pg_stat_statements' ORDER BY calls`,
  );
  expect(entries.map(({ calls }) => calls)).toEqual(['20', '20']);
});

test('works for an owner who may not execute pg_notify', async () => {
  const { database, ...fixture } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
  const { heard } = await asleep(database, fixture);
  const role = `owner_${database.name}`;
  const { secretTable, notifyFunction } = fixture.names;
  await database.query(`
    REVOKE ALL ON FUNCTION pg_notify(text, text) FROM PUBLIC;
    CREATE ROLE ${role}; GRANT USAGE ON SCHEMA postgres_input TO ${role};
    GRANT SELECT ON ${secretTable.sql} TO ${role};
    ALTER FUNCTION ${notifyFunction.sql}(text) OWNER TO ${role}`);
  onTestFinished(async () => {
    await database.query(
      `GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC; DROP OWNED BY ${role}; DROP ROLE ${role}`,
    );
  });
  await database.query('INSERT INTO t VALUES (1)');
  expect(await heard()).toEqual(['create t 1']);
});
