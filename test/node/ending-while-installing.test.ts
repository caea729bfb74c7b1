/** What `close()` waits for while something is being installed. */
import { expect, test } from 'vitest';
import { Session } from '../../src/postgres/session.ts';
import { install } from '../../src/schema/install.ts';
import { Consumer, reaches } from '../support/consumer.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { setupInputs } from '../support/setup-inputs.ts';
import { installationOf } from '../support/setup-installation.ts';
import { until } from '../support/until.ts';

/** As a connection that fell silent does: a step gets no answer for a long time. */
const endless = (database: TestDatabase) =>
  database.query(`
    CREATE FUNCTION public.endless() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(300); END';
    CREATE EVENT TRIGGER endless ON ddl_command_end WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION public.endless()`);
const isInStep = async (database: TestDatabase) => {
  const sleeping = await database.query(
    `SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()`,
  );
  return sleeping.length > 0;
};

test('close() does not wait for an unanswered step of the first installation', async () => {
  await using fixture = await setupInputs();
  await endless(fixture.database);
  const input = await fixture.input();
  const consumer = new Consumer(input);
  await until(() => isInStep(fixture.database));
  await input.close();
  expect(await consumer.ended).toBeUndefined();
}, 30_000);

test('close() does not wait for an unanswered step of an active node, and reports no failure', async () => {
  await using fixture = await setupInputs();
  const input = await fixture.input({ discoveryInterval: 50 });
  const failures: unknown[] = [];
  input.on('discoveryFailed', (error) => failures.push(error));
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await endless(fixture.database);
  await fixture.database.query('CREATE TABLE later (id int PRIMARY KEY)');
  await until(() => isInStep(fixture.database));
  const next = await fixture.input({ install: false });
  void new Consumer(next);
  await reaches(next, 'standby');
  await input.close();
  expect(await consumer.ended).toBeUndefined();
  expect(failures).toEqual([]);
  await reaches(next, 'active');
}, 30_000);

test('the lease is released before an unanswered step has ended', async () => {
  await using fixture = await setupInputs();
  // Long: nothing else ends the step while the test lasts.
  const lease = { duration: 100_000, renewInterval: 30_000, pollInterval: 50 };
  const input = await fixture.input({ discoveryInterval: 50, lease });
  const consumer = new Consumer(input);
  await reaches(input, 'active');
  await endless(fixture.database);
  await fixture.database.query('CREATE TABLE later (id int PRIMARY KEY)');
  await until(() => isInStep(fixture.database));
  const next = await fixture.input({ install: false, lease });
  void new Consumer(next);
  await reaches(next, 'standby');
  const closed = input.close();
  await reaches(next, 'active');
  await fixture.database.query(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
  );
  await closed;
  expect(await consumer.ended).toBeUndefined();
}, 30_000);

test('installing begins no further step once its signal has aborted', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (id int PRIMARY KEY)');
  const { settings, names } = installationOf(database);
  const session = await Session.connect(settings.target, {
    connectTimeout: 10_000,
    statementTimeout: 10_000,
    applicationName: 'test',
  });
  const stop = new AbortController();
  let steps = 0;
  const onStep = () => {
    steps++;
    stop.abort(new Error('enough'));
  };
  await expect(install(session, settings, names, { signal: stop.signal, onStep })).rejects.toThrow('enough');
  expect(steps).toBe(1);
  await session.close();
});
