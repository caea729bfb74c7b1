/** The application alters its tables under our triggers: its statements go on working, and discovery puts the events right. */
import { describe, expect, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { withSession } from '../../src/node/connect.ts';
import { catalogFingerprint } from '../../src/schema/catalog.ts';
import { install } from '../../src/schema/install.ts';
import { type CandidateTable, candidateTables } from '../../src/schema/tables.ts';
import { setupApplication, installationOf, setupInstallation } from '../support/setup-installation.ts';

/** A change of the schema, and what a row looks like before discovery has noticed and after. */
interface Case {
  tables?: string;
  change: string;
  afterwards: string;
  logs: string[];
  discovered?: string[];
}

const T = 'CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL DEFAULT gen_random_uuid(), n int)';
const U = 'CREATE TABLE t (code int PRIMARY KEY, n int)';

const CASES: Record<string, Case> = {
  'the column id is renamed': {
    change: 'ALTER TABLE t RENAME id TO number',
    afterwards: 'INSERT INTO t (number) VALUES (1); UPDATE t SET n = 1; DELETE FROM t',
    logs: ['INSERT t 1', 'UPDATE t 1', 'DELETE t 1'],
  },
  'the key is renamed': {
    tables: U,
    change: 'ALTER TABLE t RENAME code TO "new code"',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET "new code" = 2; DELETE FROM t',
    logs: ['INSERT t 1', 'DELETE t 1', 'INSERT t 2', 'DELETE t 2'],
  },
  'columns swap their names': {
    change: 'ALTER TABLE t RENAME id TO x; ALTER TABLE t RENAME code TO id; ALTER TABLE t RENAME x TO code',
    afterwards: `INSERT INTO t VALUES (1, 'a'); UPDATE t SET n = 1; DELETE FROM t`,
    logs: ['INSERT t a', 'UPDATE t a', 'DELETE t a'],
  },
  'the column id is dropped': {
    change: 'ALTER TABLE t DROP id',
    afterwards: `INSERT INTO t VALUES ('a'); UPDATE t SET n = 1; DELETE FROM t`,
    logs: ['INSERT t ', 'UPDATE t ', 'DELETE t '],
  },
  'a column id that is not the key is dropped': {
    tables: 'CREATE TABLE t (code int PRIMARY KEY, id int, n int)',
    change: 'ALTER TABLE t DROP id',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 2; DELETE FROM t',
    logs: ['INSERT t 1', 'DELETE t 1', 'INSERT t 2', 'DELETE t 2'],
  },
  'a column id is added': {
    tables: U,
    change: 'ALTER TABLE t ADD id int DEFAULT 7',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET n = 1; DELETE FROM t',
    logs: ['INSERT t 1', 'UPDATE t 1', 'DELETE t 1'],
    discovered: ['INSERT t 7', 'UPDATE t 7', 'DELETE t 7'],
  },
  'the key becomes text': {
    change: `ALTER TABLE t ALTER id TYPE text USING 'no. ' || id`,
    afterwards: `INSERT INTO t VALUES ('a'); UPDATE t SET id = 'b'; DELETE FROM t`,
    logs: ['INSERT t a', 'DELETE t a', 'INSERT t b', 'DELETE t b'],
  },
  'the key becomes uuid': {
    tables: U,
    change: `ALTER TABLE t ALTER code TYPE uuid USING md5(code::text)::uuid`,
    afterwards: `INSERT INTO t VALUES (md5('')::uuid); UPDATE t SET n = 1; DELETE FROM t`,
    logs: ['INSERT', 'UPDATE', 'DELETE'].map((op) => `${op} t d41d8cd9-8f00-b204-e980-0998ecf8427e`),
  },
  'the key becomes composite': {
    tables: U,
    change: 'ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER n SET NOT NULL, ADD PRIMARY KEY (n, code)',
    afterwards: 'INSERT INTO t VALUES (1, 2); UPDATE t SET n = 3; DELETE FROM t',
    logs: ['INSERT t ["2","1"]', 'DELETE t ["2","1"]', 'INSERT t ["3","1"]', 'DELETE t ["3","1"]'],
  },
  'the key is dropped': {
    tables: U,
    change: 'ALTER TABLE t DROP CONSTRAINT t_pkey',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 3; DELETE FROM t',
    logs: ['INSERT t ', 'UPDATE t ', 'DELETE t '],
  },
  'a key is added': {
    tables: 'CREATE TABLE t (code int, n int)',
    change: 'ALTER TABLE t ADD PRIMARY KEY (code)',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 3; DELETE FROM t',
    logs: ['INSERT t ', 'UPDATE t ', 'DELETE t '],
    discovered: ['INSERT t 1', 'DELETE t 1', 'INSERT t 3', 'DELETE t 3'],
  },
  'the key gets another index': {
    tables: U,
    change: `
      CREATE UNIQUE INDEX other ON t (code);
      ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT other PRIMARY KEY USING INDEX other`,
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 3; DELETE FROM t',
    logs: ['INSERT t 1', 'DELETE t 1', 'INSERT t 3', 'DELETE t 3'],
  },
  'the key is indexed anew, concurrently': {
    tables: U,
    change: 'REINDEX TABLE CONCURRENTLY t',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 3; DELETE FROM t',
    logs: ['INSERT t 1', 'DELETE t 1', 'INSERT t 3', 'DELETE t 3'],
  },
  'the table is rewritten': {
    change: 'CLUSTER t USING t_pkey; VACUUM FULL t',
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET n = 3; DELETE FROM t',
    logs: ['INSERT t 1', 'UPDATE t 1', 'DELETE t 1'],
  },
  'the table is renamed': {
    change: 'ALTER TABLE t RENAME TO u',
    afterwards: 'INSERT INTO u VALUES (1); UPDATE u SET n = 3; DELETE FROM u; TRUNCATE u',
    logs: ['INSERT u 1', 'UPDATE u 1', 'DELETE u 1', 'TRUNCATE u *'],
  },
  'two tables swap their names': {
    tables: 'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (code text PRIMARY KEY)',
    change: 'ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u',
    afterwards: `INSERT INTO t VALUES ('a'); INSERT INTO u VALUES (1); TRUNCATE t`,
    logs: ['INSERT t a', 'INSERT u 1', 'TRUNCATE t *'],
  },
  'the table is moved to another schema': {
    change: 'CREATE SCHEMA app; ALTER TABLE t SET SCHEMA app',
    afterwards: 'INSERT INTO app.t VALUES (1); UPDATE app.t SET n = 3; DELETE FROM app.t',
    logs: ['INSERT app.t 1', 'UPDATE app.t 1', 'DELETE app.t 1'],
  },
  'the table is moved out of sight': {
    change: 'CREATE SCHEMA hidden; ALTER TABLE t SET SCHEMA hidden',
    afterwards: 'INSERT INTO hidden.t VALUES (1)',
    logs: ['INSERT hidden.t 1'],
    discovered: [],
  },
  'the table is dropped and made again': {
    change: `DROP TABLE t; ${U}`,
    afterwards: 'INSERT INTO t VALUES (1); UPDATE t SET code = 3; TRUNCATE t',
    logs: [],
    discovered: ['INSERT t 1', 'DELETE t 1', 'INSERT t 3', 'TRUNCATE t *'],
  },
  'the table is replaced by a copy': {
    change:
      'CREATE TABLE copy (LIKE t INCLUDING ALL); ALTER TABLE t RENAME TO old; ALTER TABLE copy RENAME TO t',
    afterwards: 'INSERT INTO t VALUES (1); INSERT INTO old VALUES (2)',
    logs: ['INSERT old 2'],
    discovered: ['INSERT t 1', 'INSERT old 2'],
  },
  'the schema is dropped': {
    tables: 'CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY)',
    change: 'DROP SCHEMA app CASCADE',
    afterwards: 'INSERT INTO t VALUES (1)',
    logs: ['INSERT t 1'],
  },
  'a table is attached as a partition': {
    tables: `
      CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE part (id int NOT NULL)`,
    change: 'ALTER TABLE root ATTACH PARTITION part DEFAULT',
    afterwards:
      'INSERT INTO root VALUES (1); INSERT INTO part VALUES (2); UPDATE part SET id = 3 WHERE id = 1',
    logs: ['INSERT root 1', 'INSERT part 2', 'UPDATE part 3'],
    discovered: ['INSERT root 1', 'INSERT root 2', 'DELETE root 1', 'INSERT root 3'],
  },
  'a partition is detached': {
    tables: `
      CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE part PARTITION OF root DEFAULT;
      CREATE TABLE part_1 PARTITION OF root FOR VALUES FROM (0) TO (10)`,
    change: 'ALTER TABLE root DETACH PARTITION part_1',
    afterwards: 'INSERT INTO root VALUES (1); INSERT INTO part_1 VALUES (2); TRUNCATE part_1',
    logs: ['INSERT root 1', 'INSERT root 2', 'TRUNCATE part_1 *'],
    discovered: ['INSERT root 1', 'INSERT part_1 2', 'TRUNCATE part_1 *'],
  },
  'a partition is detached concurrently': {
    tables: `
      CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
      CREATE TABLE part PARTITION OF root FOR VALUES FROM (10) TO (20);
      CREATE TABLE part_1 PARTITION OF root FOR VALUES FROM (0) TO (10)`,
    change: 'ALTER TABLE root DETACH PARTITION part_1 CONCURRENTLY',
    afterwards: 'INSERT INTO root VALUES (11); INSERT INTO part_1 VALUES (2); DELETE FROM part_1',
    logs: ['INSERT root 11', 'INSERT root 2', 'DELETE root 2'],
    discovered: ['INSERT root 11', 'INSERT part_1 2', 'DELETE part_1 2'],
  },
  'a partition is made': {
    tables: 'CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id)',
    change: 'CREATE TABLE part PARTITION OF root DEFAULT',
    afterwards: 'INSERT INTO root VALUES (1); INSERT INTO part VALUES (2); TRUNCATE root',
    logs: ['INSERT root 1', 'TRUNCATE root *'],
    discovered: ['INSERT root 1', 'INSERT root 2', 'TRUNCATE root *'],
  },
  'a child table comes': {
    change: 'CREATE TABLE child () INHERITS (t)',
    afterwards:
      'INSERT INTO child VALUES (1); INSERT INTO t VALUES (1); UPDATE t SET id = id + 1; DELETE FROM t',
    logs: ['INSERT t 1', 'DELETE t 1', 'INSERT t 2', 'DELETE t 2', 'DELETE t 2'],
    discovered: ['INSERT child 1', 'INSERT t 1', 'UPDATE t 2', 'UPDATE t 2', 'DELETE t 2', 'DELETE t 2'],
  },
  'a foreign key is added that cascades': {
    tables: 'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY)',
    change: 'ALTER TABLE u ADD FOREIGN KEY (id) REFERENCES t ON UPDATE CASCADE',
    afterwards: 'INSERT INTO t VALUES (1); INSERT INTO u VALUES (1); UPDATE t SET id = 2',
    logs: ['INSERT t 1', 'INSERT u 1', 'DELETE t 1', 'INSERT t 2', 'DELETE u 1', 'INSERT u 2'],
  },
};

describe('statements go on working, and discovery repairs their logging, when', () => {
  test.each(Object.entries(CASES))(
    '%s',
    async (_, { tables, change, afterwards, logs, discovered = logs }) => {
      const { database, changes, install, plan, names, settings } = await setupInstallation(tables ?? T, {
        schemas: ['public', 'app'],
      });
      const fingerprint = () =>
        withSession(settings, (session) => catalogFingerprint(session, settings.schemas, names));
      const before = await fingerprint();
      const writer = await database.client();
      // So that its session has cached all it can.
      if (tables === undefined || tables === U)
        await writer.query('INSERT INTO t VALUES (0); UPDATE t SET n = 0; DELETE FROM t');
      await changes();

      for (const statement of change.split(';')) await database.query(statement);
      await writer.query(afterwards);
      expect.soft(await changes()).toEqual(logs);

      // Discovery compares if and only if this differs.
      const isOutdated = (await plan()).steps.length > 0;
      const isNoticed = (await fingerprint()) !== before;
      expect.soft(isNoticed || !isOutdated).toBe(true);
      await install();
      expect((await plan()).steps).toEqual([]);
      await database.query(`DO $$ BEGIN
      EXECUTE (SELECT format('TRUNCATE %s CASCADE', string_agg(oid::regclass::text, ', ')) FROM pg_class
        WHERE relkind IN ('r', 'p') AND relnamespace::regnamespace::text IN ('public', 'app', 'hidden'));
    END $$`);
      await changes();
      await writer.query(afterwards);
      expect.soft(await changes()).toEqual(discovered);
    },
  );
});

test.each(['joining', 'holding'] as const)(
  'no change of a renamed table is logged twice by a node that is %s while another one has other options',
  async (planner) => {
    const { database, changes } = await setupInstallation(T);
    await database.query('ALTER TABLE t RENAME TO u');
    const other = installationOf(database, { tables: { exclude: ['nothing'] } });
    const logs = ['INSERT u 1', 'UPDATE u 1', 'DELETE u 1', 'TRUNCATE u *'];
    for (const each of [planner, 'claiming'] as const) {
      expect(await other.install(each)).toMatchObject({ watched: ['u'], unwatchable: [], pending: [] });
      await database.query('INSERT INTO u VALUES (1); UPDATE u SET n = 3; DELETE FROM u; TRUNCATE u');
      expect(await changes()).toEqual(logs);
    }
    expect((await other.plan()).steps).toEqual([]);
  },
);

test('an active input finds a new table, and a changed one, within its discovery interval', async () => {
  const database = await setupApplication(U);
  await using watcher = await newPostgresInput(
    { name: 'test', type: 'postgres', connectionString: database.url },
    { connectTimeout: 10_000, discoveryInterval: 100 },
  );
  const events = watcher.handle();
  await new Promise<void>((resolve) => watcher.once('active', () => resolve()));
  const installed = () =>
    new Promise((resolve) => watcher.once('installed', ({ watched }) => resolve(watched)));

  const made = installed();
  await database.query('CREATE TABLE made (id int PRIMARY KEY)');
  expect(await made).toEqual(['made', 't']);
  const renamed = installed();
  await database.query('INSERT INTO made VALUES (1); ALTER TABLE made RENAME TO renamed');
  expect(await renamed).toEqual(['renamed', 't']);
  const dropped = installed();
  await database.query('INSERT INTO renamed VALUES (2); DROP TABLE renamed');
  expect(await dropped).toEqual(['t']);
  await database.query('REINDEX TABLE CONCURRENTLY t');
  await expect.poll(async () => (await installationOf(database).plan()).steps).toEqual([]);

  const seen = [];
  for await (const { location, id } of events) if (seen.push([location, id]) === 2) break;
  expect(seen).toEqual([
    ['made', '1'],
    ['renamed', '2'],
  ]);
});

test('discovery notices a foreign part of a table, wherever it lies', async () => {
  const { database, settings, names, install } = await setupInstallation(`
    CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw; CREATE SCHEMA away;
    CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE child () INHERITS (t);
    CREATE FOREIGN TABLE away.f (id int NOT NULL) SERVER files OPTIONS (filename '/dev/null')`);
  const fingerprint = () =>
    withSession(settings, (session) => catalogFingerprint(session, settings.schemas, names));
  const before = await fingerprint();
  await database.query('ALTER FOREIGN TABLE away.f INHERIT t');
  expect(await fingerprint()).not.toBe(before);
  expect(await install()).toMatchObject({ watched: ['child'], unwatchable: [{ table: 't' }] });
});

test('the guard is asked once by each session, and again after a change of the table', async () => {
  const { database, names } = await setupInstallation(U);
  const writer = await database.client();
  await writer.query(`SET track_functions = 'all'`);
  for (let code = 1; code <= 10; code++) await writer.query('INSERT INTO t VALUES ($1)', [code]);
  await database.query('ALTER TABLE t ADD more int');
  for (let code = 11; code <= 20; code++) await writer.query('INSERT INTO t VALUES ($1)', [code]);
  await writer.end(); // it tells what it has counted
  const calls = () =>
    database.query('SELECT calls::int FROM pg_stat_user_functions WHERE funcname = $1', [
      names.guardFunction.name,
    ]);
  await expect.poll(calls).toEqual([{ calls: 2 }]);
});

test('the guard answers also where its table is gone, as in a restored database', async () => {
  const { database, names } = await setupInstallation(U);
  const guard = async (...values: unknown[]) => {
    const [row] = await database.query(`SELECT ${names.guardFunction.sql}($1, $2, $3, $4) AS stands`, values);
    return row.stands;
  };
  const [{ t, pk }] = await database.query(`SELECT 't'::regclass::oid AS t, 't_pkey'::regclass::oid AS pk`);
  expect(await guard(t, pk, ['code'], null)).toBe(true);
  expect(await guard(t, pk, ['n'], null)).toBe(false);
  expect(await guard(t, pk, ['code', 'n'], null)).toBe(false);
  expect(await guard(t, null, [], null)).toBe(true);
  for (const relation of [1, 0, pk, 1247])
    for (const index of [1, t, 2615]) expect(await guard(relation, index, ['code'], 1)).toBe(false);
  for (const column of [1, 2, 3, 32000]) expect(await guard(t, null, [], column)).toBe(false);
});

test('the identity of a row comes from one snapshot of the catalog while others change it', async () => {
  const { database, settings } = await setupInstallation(U);
  const identity = () =>
    withSession(settings, async (session) => {
      await session.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
      await session.query('SELECT FROM pg_catalog.pg_class LIMIT 1');
      await database.query('ALTER TABLE t RENAME code TO renamed');
      const [table] = await session.query<CandidateTable>(candidateTables, [settings.schemas, false]);
      return table!.identity;
    });
  expect(await identity()).toMatchObject({
    id: 'pg_catalog.concat(r.code)',
    guard: expect.stringContaining(`'{code}'`),
  });
});

test.each([
  ['the key', U, 'ALTER TABLE t RENAME code TO renamed', 'INSERT t 1'],
  [
    'a column id that is not the key',
    'CREATE TABLE t (code int PRIMARY KEY, id int)',
    'ALTER TABLE t RENAME id TO renamed',
    'INSERT t 1',
  ],
  [
    'the key, which becomes another',
    U,
    'ALTER TABLE t DROP code; ALTER TABLE t ADD PRIMARY KEY (n)',
    'INSERT t ',
  ],
])(
  'a transaction whose snapshot is older than a change of %s goes on working',
  async (_, tables, change, logs) => {
    const { database, changes } = await setupInstallation(tables);
    const writer = await database.client();
    await writer.query('BEGIN ISOLATION LEVEL REPEATABLE READ');
    await writer.query('SELECT FROM pg_catalog.pg_class LIMIT 1');
    await database.query(change);
    await writer.query('INSERT INTO t VALUES (1)');
    await writer.query('COMMIT');
    expect(await changes()).toEqual([logs]);
  },
);

test('no statement fails and no change is lost while the key is changed again and again', async () => {
  const { database, names, settings } = await setupInstallation(
    'CREATE TABLE t (id bigserial PRIMARY KEY, n int NOT NULL DEFAULT 0)',
  );
  const ending = new AbortController();
  let statements = 0;
  const repeat = async (work: () => Promise<unknown>) => {
    while (!ending.signal.aborted) await work();
  };
  const clients = await Promise.all([1, 2, 3, 4].map(() => database.client()));
  const writers = clients.map((writer, i) =>
    repeat(async () => {
      await writer.query('INSERT INTO t (n) VALUES ($1)', [i]);
      await writer.query('UPDATE t SET n = n WHERE n = $1', [i]);
      await writer.query('DELETE FROM t WHERE n = $1', [i]);
      statements += 3;
    }),
  );
  const discovery = repeat(() => withSession(settings, (session) => install(session, settings, names)));
  const ddl = [
    'ALTER TABLE t RENAME id TO code',
    'REINDEX TABLE CONCURRENTLY t',
    'ALTER TABLE t ALTER code TYPE text',
    'REINDEX TABLE CONCURRENTLY t',
    'ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n, code)',
    'ALTER TABLE t DROP CONSTRAINT t_pkey',
    'ALTER TABLE t ADD CONSTRAINT t_pkey PRIMARY KEY (code)',
    'ALTER TABLE t ALTER code TYPE bigint USING code::bigint',
    'ALTER TABLE t RENAME code TO id',
  ];
  for (let round = 0; round < 3; round++) for (const statement of ddl) await database.query(statement);
  ending.abort();
  await Promise.all([...writers, discovery]);
  const [row] = await database.query(`SELECT count(*)::int AS logged FROM ${names.logTable.sql}`);
  expect(row).toEqual({ logged: statements });
});
