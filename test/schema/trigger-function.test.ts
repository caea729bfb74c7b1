import { describe, expect, inject, test } from 'vitest';
import { ADDED_COLUMNS } from '../../src/schema/log-layout.ts';
import { majorVersion } from '../support/database.ts';
import { installationOf, setupInstallation } from '../support/setup-installation.ts';

describe('logs one change for every row that a statement changes', () => {
  test('for plain statements, in the order in which they ran', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int)');
    await database.query('INSERT INTO t VALUES (1), (2), (3)');
    expect(await changes()).toEqual(['INSERT t 1', 'INSERT t 2', 'INSERT t 3']);
    await database.query('UPDATE t SET n = 1 WHERE id < 3');
    expect((await changes()).toSorted()).toEqual(['UPDATE t 1', 'UPDATE t 2']);
    await database.query('DELETE FROM t WHERE id > 1');
    expect((await changes()).toSorted()).toEqual(['DELETE t 2', 'DELETE t 3']);
    await database.query('UPDATE t SET n = 2 WHERE id = 99; DELETE FROM t WHERE id = 99');
    expect(await changes()).toEqual([]);
  });

  test('for three updates of one row in one transaction', async () => {
    const { database, rows } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1)',
    );
    await database.query('BEGIN; UPDATE t SET n = 1; UPDATE t SET n = 2; UPDATE t SET n = 3; COMMIT');
    const logged = await rows();
    expect(logged.map(({ op, id }) => [op, id])).toEqual([1, 2, 3].map(() => ['UPDATE', '1']));
    expect(new Set(logged.map(({ xid }) => xid)).size).toBe(1);
  });

  test('with the same time for all rows of the statement', async () => {
    const { database, rows } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const client = await database.client();
    await client.query('BEGIN');
    const now = async () => (await client.query('SELECT clock_timestamp() AS now')).rows[0].now as Date;
    const before = await now();
    await client.query('INSERT INTO t VALUES (1), (2)');
    const after = await now();
    await client.query('COMMIT');
    const [first, second] = await rows();
    expect(first!.at).toEqual(second!.at);
    expect(first!.at.getTime()).toBeGreaterThanOrEqual(before.getTime());
    expect(first!.at.getTime()).toBeLessThanOrEqual(after.getTime());
  });

  test('for COPY', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n text)');
    // COPY FROM the server's own output needs no further package: its program echoes rows.
    await database.query(`COPY t FROM PROGRAM 'printf "1\\ta\\n2\\tb\\n"'`);
    expect(await changes()).toEqual(['INSERT t 1', 'INSERT t 2']);
  });

  test('for INSERT ... ON CONFLICT, both ways', async () => {
    const { database, changes } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1)',
    );
    await database.query('INSERT INTO t VALUES (1, 1), (2, 2) ON CONFLICT DO NOTHING');
    expect(await changes()).toEqual(['INSERT t 2']);
    await database.query('INSERT INTO t VALUES (1, 1), (3, 3) ON CONFLICT (id) DO UPDATE SET n = excluded.n');
    expect((await changes()).toSorted()).toEqual(['INSERT t 3', 'UPDATE t 1']);
    await database.query('INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 0 WHERE false');
    expect(await changes()).toEqual([]);
  });

  test('for MERGE', async ({ skip }) => {
    const { database, changes } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)',
    );
    if ((await majorVersion(database)) < 15) skip('there is no MERGE');
    await database.query(`
      MERGE INTO t USING (VALUES (1), (2), (4)) AS wanted (id) ON t.id = wanted.id
      WHEN MATCHED AND t.id = 1 THEN UPDATE SET n = 10
      WHEN MATCHED THEN DELETE
      WHEN NOT MATCHED THEN INSERT VALUES (wanted.id, 4)`);
    expect((await changes()).toSorted()).toEqual(['DELETE t 2', 'INSERT t 4', 'UPDATE t 1']);
  });

  test('for data-modifying CTEs', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY, n int);
      CREATE TABLE archive (id int PRIMARY KEY, n int);
      INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)`);
    await database.query(`
      WITH gone AS (DELETE FROM t WHERE id = 1 RETURNING *),
        changed AS (UPDATE t SET n = 20 WHERE id = 2 RETURNING *),
        again AS (UPDATE t SET n = 30 WHERE id = 3 RETURNING *)
      INSERT INTO archive SELECT * FROM gone UNION ALL SELECT * FROM changed`);
    expect((await changes()).toSorted()).toEqual([
      'DELETE t 1',
      'INSERT archive 1',
      'INSERT archive 2',
      'UPDATE t 2',
      'UPDATE t 3',
    ]);
  });

  test('for cascades, each row once', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE customer (id int PRIMARY KEY);
      CREATE TABLE "order" (id int PRIMARY KEY, customer int REFERENCES customer ON DELETE CASCADE ON UPDATE CASCADE,
        seller int REFERENCES customer ON DELETE SET NULL, agent int REFERENCES customer ON DELETE SET DEFAULT);
      CREATE TABLE item ("order" int REFERENCES "order" ON DELETE CASCADE, line int, PRIMARY KEY ("order", line));
      INSERT INTO customer VALUES (1), (2), (3);
      INSERT INTO "order" VALUES (10, 1, 2, 2), (11, 1, 2, 3), (12, 3, 2, 2);
      INSERT INTO item VALUES (10, 1), (10, 2), (11, 1)`);
    await database.query('DELETE FROM customer WHERE id = 1');
    expect((await changes()).toSorted()).toEqual([
      'DELETE customer 1',
      'DELETE item ["10","1"]',
      'DELETE item ["10","2"]',
      'DELETE item ["11","1"]',
      'DELETE order 10',
      'DELETE order 11',
    ]);
    // Two columns of one row are set to null, by two statements of the server's own.
    await database.query('DELETE FROM customer WHERE id = 2');
    expect((await changes()).toSorted()).toEqual(['DELETE customer 2', 'UPDATE order 12']);
  });

  test('for a tree that is deleted by its root', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE);
      INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2), (4, NULL), (5, 4)`);
    await database.query('DELETE FROM t WHERE id = 1');
    expect((await changes()).toSorted()).toEqual(['DELETE t 1', 'DELETE t 2', 'DELETE t 3']);
    await database.query('UPDATE t SET id = 6 WHERE id = 4');
    expect((await changes()).toSorted()).toEqual(['DELETE t 4', 'INSERT t 6', 'UPDATE t 5']);
  });

  test('for a statement of a million rows', { timeout: 240_000 }, async () => {
    const { database } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query('INSERT INTO t SELECT generate_series(1, 1000000)');
    const [logged] = await database.query(`
      SELECT count(*)::int AS count, sum(one::int)::int8 AS sum, count(DISTINCT at)::int AS times
      FROM postgres_input.log_postgres_input_test, json_array_elements_text(id::json) one`);
    expect(logged).toEqual({ count: 1_000_000, sum: '500000500000', times: 1 });
    await database.query('TRUNCATE postgres_input.log_postgres_input_test');
  });

  test('for an update of many rows, in a session whose plan was made for one', async () => {
    const { database, rows } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY, n int) WITH (fillfactor = 50);
      INSERT INTO t SELECT i, 0 FROM generate_series(1, 30000) i`);
    const client = await database.client();
    for (let i = 0; i < 6; i++) await client.query('UPDATE t SET n = 1 WHERE id = 1');
    // By nested loops it would take minutes.
    await client.query("SET statement_timeout = '20s'");
    await client.query('UPDATE t SET n = n + 1');
    const logged = await rows();
    expect(logged).toHaveLength(30_006);
    expect(new Set(logged.map(({ id }) => id)).size).toBe(30_000);
  });
});

describe('a changed key', () => {
  test('is a delete of the old key and a create of the new', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int)');
    await database.query('INSERT INTO t VALUES (1), (2)');
    await changes();
    await database.query('UPDATE t SET id = 9 WHERE id = 1');
    expect(await changes()).toEqual(['DELETE t 1', 'INSERT t 9']);
    await database.query('UPDATE t SET id = id + 1, n = 1');
    const moved = await changes();
    expect(moved.slice(0, 2).toSorted()).toEqual(['DELETE t 2', 'DELETE t 9']);
    expect(moved.slice(2).toSorted()).toEqual(['INSERT t 10', 'INSERT t 3']);
  });

  test('that went to another row is an update of both', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, name text);
      INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')`);
    await database.query('UPDATE t SET id = 3 - id WHERE id < 3');
    expect((await changes()).toSorted()).toEqual(['UPDATE t 1', 'UPDATE t 2']);
    await database.query('UPDATE t SET id = id + 1');
    expect((await changes()).toSorted()).toEqual(['DELETE t 1', 'INSERT t 4', 'UPDATE t 2', 'UPDATE t 3']);
  });

  test('is told apart letter by letter, whatever the collation takes for equal', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE t (id text COLLATE anycase PRIMARY KEY); INSERT INTO t VALUES ('a')`);
    await database.query(`UPDATE t SET id = 'A'`);
    expect(await changes()).toEqual(['DELETE t a', 'INSERT t A']);
  });

  test('of which the column id is no part', async () => {
    const { database, rows } = await setupInstallation(`
      CREATE TABLE t (id int, tenant int PRIMARY KEY); INSERT INTO t VALUES (5, 1), (NULL, 2)`);
    await database.query('UPDATE t SET tenant = 3 WHERE tenant = 1');
    await database.query('UPDATE t SET id = 6 WHERE tenant = 3');
    await database.query('UPDATE t SET id = NULL, tenant = 4 WHERE tenant = 2');
    expect((await rows()).map(({ op, id, key }) => [op, id, key])).toEqual([
      ['DELETE', '5', { tenant: '1' }],
      ['INSERT', '5', { tenant: '3' }],
      ['UPDATE', '6', { tenant: '3' }],
      ['DELETE', '', { tenant: '2' }],
      ['INSERT', '', { tenant: '4' }],
    ]);
  });

  test('is followed through cascades within one table', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY, parent int REFERENCES t ON UPDATE CASCADE);
      INSERT INTO t VALUES (1, NULL), (2, 1)`);
    await database.query('UPDATE t SET id = id + 10');
    expect((await changes()).toSorted()).toEqual(['DELETE t 1', 'DELETE t 2', 'INSERT t 11', 'INSERT t 12']);
  });

  test.each([
    [['update'], ['UPDATE t 9']],
    [['create', 'update'], ['INSERT t 9']],
    [
      ['update', 'delete'],
      ['DELETE t 1', 'UPDATE t 9'],
    ],
  ] as const)('is reported to an input for %j as %j', async (operations, expected) => {
    const { database, changes } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)',
      {
        operations: [...operations],
      },
    );
    await database.query('UPDATE t SET id = 9');
    expect(await changes()).toEqual(expected);
  });
});

describe('TRUNCATE', () => {
  test.each([
    '',
    'SET enable_indexscan = off',
    'SET enable_indexscan = off; SET plan_cache_mode = force_generic_plan',
  ])('looks only at the end of the log, however many changes wait (%s)', async (settings) => {
    const { database } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query('INSERT INTO t SELECT generate_series(1, 20000)');
    const client = await database.client();
    await client.query(`${settings}; BEGIN; TRUNCATE t`);
    const { rows } = await client.query(
      `SELECT seq_tup_read + idx_tup_fetch AS read FROM pg_stat_xact_all_tables WHERE relname = 'log_postgres_input_test'`,
    );
    expect(Number(rows[0].read)).toBeLessThan(2000);
    await client.query('COMMIT');
  });

  test('is one change', async () => {
    const { database, rows } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)',
    );
    await database.query('TRUNCATE t');
    expect(await rows()).toMatchObject([{ op: 'TRUNCATE', tbl: 't', id: '*', key: null }]);
  });

  test('is one for each table that goes with it', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE a (id int PRIMARY KEY);
      CREATE TABLE b (id int PRIMARY KEY REFERENCES a);
      CREATE TABLE c (id int PRIMARY KEY)`);
    await database.query('TRUNCATE a CASCADE');
    expect((await changes()).toSorted()).toEqual(['TRUNCATE a *', 'TRUNCATE b *']);
    await database.query('TRUNCATE a, b, c');
    expect((await changes()).toSorted()).toEqual(['TRUNCATE a *', 'TRUNCATE b *', 'TRUNCATE c *']);
  });

  const partitioned = `
    CREATE TABLE customer (id int PRIMARY KEY);
    -- partitions of either table, made before and after both
    CREATE TABLE order1 (id int NOT NULL, customer int);
    CREATE TABLE item1 (id int NOT NULL, customer int);
    CREATE TABLE "order" (id int PRIMARY KEY, customer int REFERENCES customer) PARTITION BY RANGE (id);
    CREATE TABLE item (id int PRIMARY KEY, customer int REFERENCES customer) PARTITION BY RANGE (id);
    ALTER TABLE "order" ATTACH PARTITION order1 FOR VALUES FROM (0) TO (10);
    ALTER TABLE item ATTACH PARTITION item1 FOR VALUES FROM (0) TO (10);
    CREATE TABLE order2 PARTITION OF "order" FOR VALUES FROM (10) TO (20);
    CREATE TABLE item2 PARTITION OF item FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
    CREATE TABLE order3 PARTITION OF "order" FOR VALUES FROM (20) TO (30);
    CREATE TABLE item21 PARTITION OF item2 FOR VALUES FROM (10) TO (15);
    CREATE TABLE item22 PARTITION OF item2 FOR VALUES FROM (15) TO (20)`;

  test('is one for a partitioned table, however it comes to it', async () => {
    const { database, changes } = await setupInstallation(partitioned);
    await database.query('TRUNCATE item');
    expect(await changes()).toEqual(['TRUNCATE item *']);
    await database.query('TRUNCATE customer CASCADE');
    expect((await changes()).toSorted()).toEqual([
      'TRUNCATE customer *',
      'TRUNCATE item *',
      'TRUNCATE order *',
    ]);
  });

  test('of a partition alone names the partition', async () => {
    const { database, changes } = await setupInstallation(partitioned);
    await database.query('TRUNCATE item21');
    expect(await changes()).toEqual(['TRUNCATE item21 *']);
    await database.query('TRUNCATE item1, item2');
    expect((await changes()).toSorted()).toEqual(['TRUNCATE item1 *', 'TRUNCATE item2 *']);
    await database.query('TRUNCATE item1, item21, order1');
    expect((await changes()).toSorted()).toEqual([
      'TRUNCATE item1 *',
      'TRUNCATE item21 *',
      'TRUNCATE order1 *',
    ]);
    await database.query('TRUNCATE item22, item');
    expect(await changes()).toEqual(['TRUNCATE item *']);
  });

  test('of a partition, after that of its root was rolled back, or did not last', async () => {
    const { database, changes } = await setupInstallation(partitioned);
    await database.query('BEGIN; SAVEPOINT a; TRUNCATE item; ROLLBACK TO a; TRUNCATE item1; COMMIT');
    expect(await changes()).toEqual(['TRUNCATE item1 *']);
    await database.query('TRUNCATE item; INSERT INTO item VALUES (1)');
    await database.query('BEGIN; SET LOCAL track_counts = off; TRUNCATE item1; COMMIT');
    expect(await changes()).toEqual(['TRUNCATE item *', 'INSERT item 1', 'TRUNCATE item1 *']);
  });

  test('is one for each input', async () => {
    const { database, changes } = await setupInstallation(partitioned);
    const other = installationOf(database, { name: 'other' });
    await other.install();
    await database.query('TRUNCATE item');
    expect(await changes()).toEqual(['TRUNCATE item *']);
    expect(await other.changes()).toEqual(['TRUNCATE item *']);
  });

  test('whatever the application has written into the setting that remembers it', async () => {
    const { database, changes, names } = await setupInstallation(partitioned);
    const client = await database.client();
    for (const value of ['', ' ', 'x', '1 {', '0 0']) {
      await client.query('SELECT set_config($1, $2, false)', [names.truncationsSetting, value]);
      await client.query('TRUNCATE item');
      expect(await changes()).toEqual(['TRUNCATE item *']);
    }
  });

  test('of tables of their own at the same time does not clash in SERIALIZABLE transactions', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)`);
    const [one, two] = [await database.client(), await database.client()];
    for (let round = 0; round < 5; round++) {
      for (const client of [one, two]) await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE');
      await one.query('TRUNCATE a');
      await two.query('TRUNCATE b');
      await one.query('INSERT INTO a VALUES (1)');
      await two.query('INSERT INTO b VALUES (1)');
      await one.query('TRUNCATE a');
      await two.query('TRUNCATE b');
      for (const client of [one, two]) await client.query('COMMIT');
    }
    expect(await changes()).toHaveLength(30);
  });

  test('is logged again after a change in the same transaction', async () => {
    const { database, changes } = await setupInstallation(partitioned);
    await database.query(
      'BEGIN; TRUNCATE item; INSERT INTO item VALUES (1); TRUNCATE item1, "order"; COMMIT',
    );
    expect((await changes()).toSorted()).toEqual([
      'INSERT item 1',
      'TRUNCATE item *',
      'TRUNCATE item1 *',
      'TRUNCATE order *',
    ]);
    await database.query(
      'BEGIN; TRUNCATE item; SAVEPOINT a; INSERT INTO item VALUES (1); ROLLBACK TO a; COMMIT',
    );
    expect(await changes()).toEqual(['TRUNCATE item *']);
  });
});

describe('a column id of any length', () => {
  const long = 1_000_001;

  test('is logged as empty above a megabyte', async () => {
    const { database, rows } = await setupInstallation(`
      CREATE TABLE keyless (id text, n int); CREATE TABLE bytes (id bytea);
      CREATE TABLE wide (id text, tenant int PRIMARY KEY, n int);
      ALTER TABLE wide ALTER id SET STORAGE EXTERNAL`);
    const told = async () =>
      (await rows()).map(({ op, tbl, id, key }) => [op, tbl, id.length > 20 ? id.length : id, key]);
    const write = `
      INSERT INTO keyless VALUES (repeat('x', ${long}), 1), ('short', 1), (NULL, 1), (repeat('x', ${long - 1}), 1);
      UPDATE keyless SET n = 2 WHERE length(id) = ${long}; DELETE FROM keyless;
      INSERT INTO bytes VALUES (decode(repeat('00', ${long >> 1}), 'hex'));
      INSERT INTO wide VALUES (repeat('x', ${long}), 7); UPDATE wide SET n = 1; DELETE FROM wide`;
    const expected = [
      ...['', 'short', '', long - 1].map((id) => ['INSERT', 'keyless', id, null]),
      ['UPDATE', 'keyless', '', null],
      ...['', 'short', '', long - 1].map((id) => ['DELETE', 'keyless', id, null]),
      ['INSERT', 'bytes', '', null],
      ...['INSERT', 'UPDATE', 'DELETE'].map((op) => [op, 'wide', '', { tenant: '7' }]),
    ];
    const sorted = (changes: unknown[]) => changes.map((change) => JSON.stringify(change)).toSorted();
    await database.query(write);
    expect(sorted(await told())).toEqual(sorted(expected));
    // The trigger functions of a table that was altered look the key up.
    await database.query('ALTER TABLE wide RENAME tenant TO owner');
    await database.query('INSERT INTO wide VALUES ($1, 7)', ['x'.repeat(long)]);
    expect(await told()).toEqual([['INSERT', 'wide', '', { owner: '7' }]]);
  });
});

describe('partitions and inheritance', () => {
  const partitioned = `
    CREATE TABLE event (day date, id int, note text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2026-02-01') TO ('2026-03-01') PARTITION BY LIST (id);
    -- its columns lie elsewhere than the root's
    CREATE TABLE event_2a (gone int, note text, id int NOT NULL, day date NOT NULL);
    ALTER TABLE event_2a DROP COLUMN gone;
    ALTER TABLE event_2 ATTACH PARTITION event_2a FOR VALUES IN (1);
    CREATE TABLE event_2b PARTITION OF event_2 DEFAULT`;

  test('a partition is its root, through whichever of them it is written', async () => {
    const { database, changes, rows } = await setupInstallation(partitioned);
    await database.query(`INSERT INTO event VALUES ('2026-01-05', 1), ('2026-02-05', 1), ('2026-02-05', 2)`);
    expect((await rows()).map(({ tbl, id, key }) => [tbl, id, key])).toEqual([
      ['event', '1', { day: '2026-01-05', id: '1' }],
      ['event', '1', { day: '2026-02-05', id: '1' }],
      ['event', '2', { day: '2026-02-05', id: '2' }],
    ]);
    await database.query(`INSERT INTO event_2a (id, day) VALUES (1, '2026-02-06')`);
    await database.query(`UPDATE event_2 SET note = 'x' WHERE day = '2026-02-06'`);
    await database.query(`DELETE FROM event_2a WHERE day = '2026-02-06'`);
    expect(await changes()).toEqual(['INSERT event 1', 'UPDATE event 1', 'DELETE event 1']);
  });

  test('a row that moves to another partition and changes its key is a delete and a create', async () => {
    const { database, rows } = await setupInstallation(partitioned);
    await database.query(`INSERT INTO event VALUES ('2026-01-05', 1), ('2026-02-05', 2)`);
    await rows();
    await database.query(`UPDATE event SET day = '2026-02-07' WHERE id = 1`);
    await database.query(`UPDATE event_2 SET id = 1 WHERE id = 2`);
    expect((await rows()).map(({ op, tbl, key }) => [op, tbl, key])).toEqual([
      ['DELETE', 'event', { day: '2026-01-05', id: '1' }],
      ['INSERT', 'event', { day: '2026-02-07', id: '1' }],
      ['DELETE', 'event', { day: '2026-02-05', id: '2' }],
      ['INSERT', 'event', { day: '2026-02-05', id: '1' }],
    ]);
  });

  test('a row that moves and keeps its key is an update', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int, region text) PARTITION BY LIST (region);
      CREATE TABLE t_a PARTITION OF t FOR VALUES IN ('a');
      CREATE TABLE t_b PARTITION OF t FOR VALUES IN ('b');
      INSERT INTO t VALUES (1, 'a')`);
    await database.query(`UPDATE t SET region = 'b'`);
    expect(await changes()).toEqual(['UPDATE t 1']);
  });

  test('rows of child tables are logged under the table that was written to', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE parent (id int PRIMARY KEY, n int);
      CREATE TABLE child (more int) INHERITS (parent)`);
    // Nothing keeps a child's keys from being the parent's.
    await database.query('INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1), (1)');
    expect(await changes()).toEqual(['INSERT parent 1', 'INSERT child 1', 'INSERT child 1']);
    await database.query('UPDATE parent SET n = 1');
    expect(await changes()).toEqual(Array(3).fill('UPDATE parent 1'));
    await database.query('UPDATE ONLY parent SET n = 2; DELETE FROM child; TRUNCATE parent');
    expect((await changes()).toSorted()).toEqual([
      'DELETE child 1',
      'DELETE child 1',
      'TRUNCATE child *',
      'TRUNCATE parent *',
      'UPDATE parent 1',
    ]);
  });
});

describe('transactions', () => {
  test('log what is committed, and nothing else', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query(`
      BEGIN;
      INSERT INTO t VALUES (1);
      SAVEPOINT a; INSERT INTO t VALUES (2); ROLLBACK TO a;
      SAVEPOINT b; INSERT INTO t VALUES (3); RELEASE b;
      COMMIT`);
    await database.query('BEGIN; INSERT INTO t VALUES (4); ROLLBACK');
    await expect(database.query('INSERT INTO t VALUES (5), (1)')).rejects.toThrow('duplicate key');
    expect(await changes()).toEqual(['INSERT t 1', 'INSERT t 3']);
  });

  test.runIf(inject('preparedTransactions'))('may be prepared while no reader is asleep', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    const name = database.name;
    await database.query(`BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION '${name}_1'`);
    await database.query(`BEGIN; INSERT INTO t VALUES (2); PREPARE TRANSACTION '${name}_2'`);
    expect(await changes()).toEqual([]);
    await database.query(`COMMIT PREPARED '${name}_2'`);
    expect(await changes()).toEqual(['INSERT t 2']);
    await database.query(`ROLLBACK PREPARED '${name}_1'`);
    expect(await changes()).toEqual([]);
  });

  test.each(['READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE'])(
    'of level %s do not clash in the log',
    async (level) => {
      const { database, changes } = await setupInstallation(
        'CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)',
      );
      const [one, two] = [await database.client(), await database.client()];
      for (const client of [one, two]) await client.query(`BEGIN ISOLATION LEVEL ${level}`);
      await one.query('INSERT INTO a VALUES (1)');
      await two.query('INSERT INTO b VALUES (1)');
      await one.query('TRUNCATE a');
      await two.query('UPDATE b SET id = 2');
      for (const client of [one, two]) await client.query('COMMIT');
      expect(await changes()).toEqual([
        'INSERT a 1',
        'INSERT b 1',
        'TRUNCATE a *',
        'DELETE b 1',
        'INSERT b 2',
      ]);
    },
  );

  test('in which triggers are off log nothing', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY)');
    await database.query(
      'BEGIN; SET LOCAL session_replication_role = replica; INSERT INTO t VALUES (1); COMMIT',
    );
    await database.query('INSERT INTO t VALUES (2)');
    expect(await changes()).toEqual(['INSERT t 2']);
  });
});

test('logs into a log that is still without the columns of version 4, whether the reader is asleep or awake', async () => {
  const { database, names, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, v int)');
  await database.query(
    `ALTER TABLE ${names.logTable.sql} ${ADDED_COLUMNS.map((column) => `DROP COLUMN ${column}`).join(', ')}`,
  );
  const reader = await database.client();
  for (const isAsleep of [false, true]) {
    if (isAsleep) await reader.query('SELECT pg_advisory_lock($1)', [names.sleepKey]);
    await database.query(`
      INSERT INTO t VALUES (1), (2); UPDATE t SET v = 1 WHERE id = 1; UPDATE t SET v = 2; UPDATE t SET id = 3 WHERE id = 1; DELETE FROM t;
      INSERT INTO t SELECT generate_series(1, 60); TRUNCATE t`);
    expect((await changes()).filter((change) => !/^INSERT t ([4-9]|\d\d)$/.test(change)).toSorted()).toEqual(
      [
        'INSERT t 1',
        'INSERT t 2',
        'UPDATE t 1',
        'UPDATE t 1',
        'UPDATE t 2',
        'DELETE t 1',
        'INSERT t 3',
        'DELETE t 2',
        'DELETE t 3',
        'INSERT t 1',
        'INSERT t 2',
        'INSERT t 3',
        'TRUNCATE t *',
      ].toSorted(),
    );
  }
  await reader.query('SELECT pg_advisory_unlock_all()');
});

test('a trigger takes no subtransaction, which would use up a transaction id for each statement', async () => {
  const { database } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE u (n int)',
  );
  const write =
    'INSERT INTO t VALUES (1); UPDATE t SET n = 1; DELETE FROM t; TRUNCATE t; INSERT INTO u VALUES (1)';
  await database.query(write);
  const reader = await database.client();
  await reader.query('SELECT pg_advisory_lock($1)', [installationOf(database).names.sleepKey]);
  await database.query(write);
  await reader.end();
  expect(
    await database.query(`
      SELECT count(*)::int AS all, count(*) FILTER (WHERE xmin::text::bigint = xid::text::bigint % (1::bigint << 32))::int AS plain
      FROM postgres_input.log_postgres_input_test`),
  ).toEqual([{ all: 10, plain: 10 }]);
});

test('reads no other column than the key, so that wide rows stay where they are', async () => {
  const { database } = await setupInstallation(`
    CREATE TABLE t (id int PRIMARY KEY, n int, wide text);
    ALTER TABLE t ALTER wide SET STORAGE EXTERNAL`);
  const toastRead = async (changes: number) => {
    const stats = async () =>
      (
        await database.query(`
          SELECT (n_tup_ins + n_tup_upd)::int AS changes, (toast_blks_hit + toast_blks_read)::int AS blocks
          FROM pg_statio_user_tables io JOIN pg_stat_user_tables USING (relid) WHERE io.relname = 't'`)
      )[0];
    // A session's figures come together, at its end at the latest.
    await expect.poll(async () => (await stats()).changes).toBe(changes);
    return (await stats()).blocks as number;
  };
  const run = async (sql: string) => {
    const client = await database.client();
    await client.query(sql);
    await client.end();
  };
  await run("INSERT INTO t SELECT i, 0, repeat('x', 100000) FROM generate_series(1, 20) i");
  const before = await toastRead(20);
  await run('UPDATE t SET n = 2');
  expect(await toastRead(40)).toBe(before);
  await run('ALTER TABLE t RENAME id TO code');
  await run('UPDATE t SET n = 3');
  expect(await toastRead(60)).toBe(before);
  await run('UPDATE t SET n = length(wide || n)');
  expect(await toastRead(80)).toBeGreaterThan(before);
});
