import { expect, test } from 'vitest';
import type { Installation } from '../../src/api/installation.ts';
import type { Notice } from '../../src/api/lifecycle-events.ts';
import { withSession } from '../../src/node/connect.ts';
import { Discovery } from '../../src/node/discovery.ts';
import type { Session } from '../../src/postgres/session.ts';
import { catalogFingerprint } from '../../src/schema/catalog.ts';
import { type Planner, plan } from '../../src/schema/plan.ts';
import { Consumer, once } from '../support/consumer.ts';
import { type TestDatabase, createDatabase, createRole } from '../support/database.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { installationOf, setupApplication } from '../support/setup-installation.ts';
import { type SessionsFixture, setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

/**
 * Makes every fingerprint of the catalog take long, until `signal` aborts: a catalog table that the fingerprint reads is locked, and
 * released when a fingerprint has waited for the lock for long enough, or anything else waits for the lock at all. Before that, the next lock is
 * asked for behind what waits, so that no fingerprint slips through in between.
 */
async function slowFingerprints(database: TestDatabase, signal: AbortSignal): Promise<void> {
  const lock = 'BEGIN; LOCK TABLE pg_catalog.pg_inherits';
  let [holder, next] = [await database.client(), await database.client()];
  await holder.query(lock);
  while (!signal.aborted) {
    await until(async () => {
      const due = await database.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
         AND (query NOT LIKE '%AS fingerprint%' OR clock_timestamp() - query_start > interval '110 ms')`,
      );
      return signal.aborted || due.length > 0;
    });
    const locked = next.query(lock);
    await until(async () => {
      const waiting = await database.query(
        `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query = $1`,
        [lock],
      );
      return waiting.length > 0;
    });
    await holder.query('COMMIT');
    await locked;
    [holder, next] = [next, holder];
  }
  await holder.query('COMMIT');
}

/** Whether a session has ever asked for the fingerprint. */
async function hasAsked(session: Session): Promise<boolean> {
  const prepared = await session.query(
    "SELECT FROM pg_prepared_statements WHERE name = 'catalog_fingerprint'",
  );
  return prepared.length > 0;
}

test('a slow discovery uses a connection of its own, so that no renewal of the lease waits', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 20 });
  const { database } = fixture;
  const watched: (readonly string[])[] = [];
  const others: Notice[] = [];
  const discovery = new Discovery(fixture.settings, fixture.names, (...notice) => {
    if (notice[0] === 'installed') watched.push(notice[1].watched);
    else others.push(notice);
  });
  const stop = new AbortController();
  const slowing = slowFingerprints(database, stop.signal);
  const [starting, control] = [await fixture.session(), await fixture.session()];
  await discovery.join(starting, 'joining', stop.signal);
  await database.query('CREATE TABLE later (id int PRIMARY KEY)');
  const watching = discovery.watch(control, stop.signal);
  await until(() => watched.length > 1);
  await database.query('CREATE TABLE more (id int PRIMARY KEY)');
  await until(() => watched.length > 2);
  stop.abort();
  await Promise.all([watching, slowing]);
  expect(watched).toEqual([['items'], ['items', 'later'], ['items', 'later', 'more']]);
  expect(others).toEqual([]);
  expect(await hasAsked(starting)).toBe(true);
  expect(await hasAsked(control)).toBe(false);
});

/** Refuses a kind of statement as long as the table `other.refusing` has a row: the catalog shows nothing of that. */
const refuse = ({ database }: Pick<SessionsFixture, 'database'>, tag: string, sqlstate: string) =>
  database.query(`
    CREATE SCHEMA other; CREATE TABLE other.refusing (n int); INSERT INTO other.refusing VALUES (1);
    CREATE FUNCTION other.refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
      IF EXISTS (SELECT FROM other.refusing) THEN RAISE 'not now' USING ERRCODE = '${sqlstate}'; END IF;
    END $$;
    CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('${tag}') EXECUTE FUNCTION other.refuse()`);

test.each(['P0001', '42501', '53100', '53200'])(
  'tries a table again whose step was refused with %s, though the catalog stays as it is',
  async (sqlstate) => {
    await using fixture = await setupSessions({ discoveryInterval: 10 });
    await refuse(fixture, 'CREATE TRIGGER', sqlstate);
    await fixture.database.query('CREATE TABLE later (id int PRIMARY KEY)');
    const installed: Installation[] = [];
    const discovery = new Discovery(fixture.settings, fixture.names, (...notice) => {
      if (notice[0] === 'installed') installed.push(notice[1]);
    });
    const stop = new AbortController();
    const watching = discovery.watch(await fixture.session(), stop.signal);
    await until(() => installed.length > 2);
    expect(installed.at(-1)).toMatchObject({
      watched: ['items'],
      unwatchable: [{ table: 'later', reason: 'not now' }],
    });
    await fixture.database.query('DELETE FROM other.refusing');
    await until(() => installed.at(-1)!.watched.includes('later'));
    stop.abort();
    await watching;
  },
);

test('tries a refused table again also where the fingerprint takes long', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 10 });
  await refuse(fixture, 'CREATE TRIGGER', '53100');
  await fixture.database.query('CREATE TABLE later (id int PRIMARY KEY)');
  const installed: Installation[] = [];
  const discovery = new Discovery(fixture.settings, fixture.names, (...notice) => {
    if (notice[0] === 'installed') installed.push(notice[1]);
  });
  const stop = new AbortController();
  const slowing = slowFingerprints(fixture.database, stop.signal);
  const watching = discovery.watch(await fixture.session(), stop.signal);
  await until(() => installed.length > 0);
  await fixture.database.query('DELETE FROM other.refusing');
  await until(() => installed.at(-1)!.watched.includes('later'));
  stop.abort();
  await Promise.all([watching, slowing]);
  expect(installed.at(-1)).toEqual({ watched: ['items', 'later'], unwatchable: [], pending: [] });
});

test('tells of a publication of all tables when it is there at the start, and when one is made later', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 10 });
  const { database, settings, names } = fixture;
  const installed: Installation[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    if (notice[0] === 'installed') installed.push(notice[1]);
  });
  const stop = new AbortController();
  await database.query('CREATE PUBLICATION first FOR ALL TABLES');
  await discovery.join(await fixture.session(), 'joining', stop.signal);
  expect(installed).toEqual([{ watched: ['items'], unwatchable: [], pending: [], publishedBy: ['first'] }]);
  const watching = discovery.watch(await fixture.session(), stop.signal);
  await database.query('CREATE PUBLICATION later FOR ALL TABLES');
  await until(() => installed.at(-1)!.publishedBy?.length === 2);
  await database.query('DROP PUBLICATION first, later');
  await until(() => installed.at(-1)!.publishedBy === undefined);
  stop.abort();
  await watching;
});

test('leaves a partitioned table at the next look after a foreign partition was attached: INSERT works again', async () => {
  await using fixture = await setupSessions();
  const { database, settings, names } = fixture;
  await database.query(
    'CREATE TABLE root (id int) PARTITION BY LIST (id); CREATE TABLE one PARTITION OF root FOR VALUES IN (1)',
  );
  const installed: Installation[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    if (notice[0] === 'installed') installed.push(notice[1]);
  });
  const { signal } = new AbortController();
  const session = await fixture.session();
  const look = () => discovery.ensureInstalled(session, 'holding', signal);
  await discovery.ensureInstalled(session, 'claiming', signal);
  await database.query(`
    CREATE EXTENSION postgres_fdw; CREATE SERVER self FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'replaced');
    DO $$ BEGIN
      EXECUTE format('ALTER SERVER self OPTIONS (SET dbname %L, ADD port %L, ADD host %L)', current_database(),
        current_setting('port'), split_part(current_setting('unix_socket_directories'), ',', 1));
      EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER self OPTIONS (user %L)', current_user);
    END $$;
    CREATE SCHEMA away; CREATE TABLE away.remote (id int);
    CREATE FOREIGN TABLE remote (id int) SERVER self OPTIONS (schema_name 'away');
    ALTER TABLE root ATTACH PARTITION remote FOR VALUES IN (2)`);
  await expect(database.query('INSERT INTO root VALUES (2)')).rejects.toMatchObject({ code: '0A000' });
  await look();
  await database.query('INSERT INTO root VALUES (1), (2)');
  await database.query('INSERT INTO one VALUES (1)');
  expect(installed.at(-1)).toMatchObject({ watched: ['items', 'root'], unwatchable: [{ table: 'root' }] });
  const logged = () => database.query(`SELECT tbl, op FROM ${names.logTable.sql} ORDER BY seq`);
  // The local partition is still watched when it is written to directly, under the root's name.
  expect(await logged()).toEqual([{ tbl: 'root', op: 'INSERT' }]);
  await database.query('ALTER TABLE root DETACH PARTITION remote');
  await look();
  await database.query('INSERT INTO root VALUES (1)');
  expect(await logged()).toHaveLength(2);
});

test('notices that its role became a member of the role that owns a table', async () => {
  const database = await setupApplication('CREATE TABLE items (id int PRIMARY KEY)');
  const [{ role: owner }, { role, url }] = [await createRole(database), await createRole(database)];
  await database.query(`
    GRANT CREATE ON DATABASE ${database.name} TO ${role}; ALTER TABLE items OWNER TO ${owner}`);
  const { settings, names } = installationOf(database, { discoveryInterval: 10 }, url);
  const installed: Installation[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    if (notice[0] === 'installed') installed.push(notice[1]);
  });
  const stop = new AbortController();
  const watching = withSession(settings, (session) => discovery.watch(session, stop.signal));
  await until(() => installed.length > 1);
  expect(installed.at(-1)).toMatchObject({ watched: [], unwatchable: [{ table: 'items' }] });
  await database.query(`GRANT ${owner} TO ${role}`);
  await until(() => installed.at(-1)!.watched.includes('items'));
  stop.abort();
  await watching;
});

test('a node that starts outlasts a server that lacks resources for what nothing works without', async () => {
  await using database = await createDatabase();
  await refuse({ database }, 'CREATE TABLE', '53100');
  const { settings, names } = installationOf(database);
  const failures: unknown[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    if (notice[0] !== 'discoveryFailed') return;
    failures.push(notice[1]);
    void database.query('DELETE FROM other.refusing');
  });
  await withSession(settings, (session) => discovery.join(session, 'joining', new AbortController().signal));
  expect(failures[0]).toMatchObject({ code: 'ERR_INSTALL', retryable: true });
});

test('leaves the notify function of another node, which wants bare notifications, until a term begins', async () => {
  await using fixture = await setupSessions({ notifications: 'bare' });
  const { settings, names } = fixture;
  const session = await fixture.session();
  const own = { ...settings, notifications: 'changes' as const };
  const changes = async (planner: Planner) =>
    (await plan(session, own, names, planner)).steps.some(({ essential }) => essential);
  expect(await changes('holding')).toBe(false);
  expect(await changes('claiming')).toBe(true);
});

test('tries a step again that concerns no table and was refused, though the catalog stays as it is, and tells of it', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 10 });
  const { database, settings, names } = fixture;
  await refuse(fixture, 'DROP FUNCTION', 'P0001');
  await database.query('DROP TABLE items'); // the functions of its triggers are left over
  const functions = () =>
    database.query(
      `SELECT FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace AND proname ~ '^process_'`,
    );
  expect(await functions()).not.toEqual([]);
  const failed: unknown[] = [];
  const told: string[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    told.push(notice[0]);
    if (notice[0] === 'discoveryFailed') failed.push(notice[1]);
  });
  const stop = new AbortController();
  const watching = discovery.watch(await fixture.session(), stop.signal);
  await until(() => failed.length > 2);
  expect(told.slice(0, 2)).toEqual(['installed', 'discoveryFailed']);
  expect(failed[0]).toMatchObject({
    code: 'ERR_INSTALL',
    message: expect.stringMatching(/^functions that are left over: this step was refused \(not now\)/),
  });
  await database.query('DELETE FROM other.refusing');
  await until(async () => (await functions()).length === 0);
  stop.abort();
  await watching;
});

test('what a node that joined left in place is gone once its term has begun', async () => {
  await using fixture = await setupInputs();
  const { database } = fixture;
  await database.query('CREATE TABLE others (id int PRIMARY KEY)');
  const functions = () =>
    database.query(
      `SELECT FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace AND prorettype = 'trigger'::regtype`,
    );
  const first = await fixture.input();
  const consumer = new Consumer(first);
  await once(first, 'active');
  await first.close();
  await consumer.ended;
  const before = await functions();
  await database.query('DROP TABLE others');

  const next = await fixture.input({ discoveryInterval: 3_600_000 });
  const waiting = new Consumer(next);
  await until(async () => (await functions()).length < before.length);
  expect(waiting.ids).toEqual([]);
});

test('looks at everything once more after a look has failed, and so tells that all is in order again', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 20 });
  const told: string[] = [];
  const discovery = new Discovery(fixture.settings, fixture.names, (...notice) => void told.push(notice[0]));
  const stop = new AbortController();
  const control = await fixture.session();
  await discovery.join(control, 'joining', stop.signal);
  const locker = await fixture.database.client();
  await locker.query('BEGIN; LOCK TABLE pg_catalog.pg_inherits');
  const watching = discovery.watch(control, stop.signal);
  await until(async () => {
    await fixture.database.query(
      `SELECT pg_cancel_backend(pid) FROM pg_stat_activity
       WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%AS fingerprint%'`,
    );
    return told.includes('discoveryFailed');
  });
  await locker.query('COMMIT');
  await until(() => told.lastIndexOf('installed') > told.lastIndexOf('discoveryFailed'));
  stop.abort();
  await watching;
  expect(told.at(-1)).toBe('installed');
});

const internal = (name: string) => `postgres_input.${name}_postgres_input_test`;

test.each([
  ['the lease', `DROP TABLE ${internal('lock')}`],
  ['the secret', `DROP TABLE ${internal('secret')}`],
  ['the failures', `DROP TABLE ${internal('failed')}`],
  ['the parked changes', `DROP TABLE ${internal('parked')}`],
  ['the backfills', `DROP TABLE ${internal('backfill')}`],
  ['the sequence', `DROP SEQUENCE ${internal('sequence')} CASCADE`],
  ['a primary key', `ALTER TABLE ${internal('log')} DROP CONSTRAINT log_postgres_input_test_pkey`],
  ['a default', `ALTER TABLE ${internal('log')} ALTER xid DROP DEFAULT`],
])('puts back, while a term lasts, what the internal tables have lost: %s', async (_, damage) => {
  await using fixture = await setupSessions();
  const { database, settings, names } = fixture;
  const { signal } = new AbortController();
  const session = await fixture.session();
  const discovery = new Discovery(settings, names, () => {});
  await discovery.ensureInstalled(session, 'claiming', signal);
  await database.query(damage);
  expect((await plan(session, settings, names)).steps).not.toEqual([]);
  await discovery.ensureInstalled(session, 'holding', signal);
  expect((await plan(session, settings, names, 'holding')).steps).toEqual([]);
});

test('has nothing to look at after changes were logged, nor after their table was cleaned up', async () => {
  await using fixture = await setupSessions();
  const { database, settings, names } = fixture;
  const session = await fixture.session();
  const fingerprint = () => catalogFingerprint(session, settings.schemas, names);
  const before = await fingerprint();
  for (const statement of [
    'INSERT INTO items SELECT generate_series(1, 10000)',
    'UPDATE items SET value = 1',
    `ANALYZE ${names.logTable.sql}`,
    `DELETE FROM ${names.logTable.sql}`,
    `VACUUM ${names.logTable.sql}`,
    'INSERT INTO items SELECT generate_series(10001, 20000)',
    `VACUUM (FREEZE, ANALYZE) ${names.logTable.sql}`,
    `VACUUM (FREEZE, ANALYZE) ${names.failedTable.sql}`,
    'VACUUM (FREEZE) pg_catalog.pg_class',
    `REINDEX TABLE ${names.logTable.sql}`,
  ]) {
    await database.query(statement);
    expect(await fingerprint(), statement).toBe(before);
  }
});
