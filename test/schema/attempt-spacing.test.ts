/** What our DDL spares the writers: attempts to get a lock are few, and keep a distance. */
import { expect, test } from 'vitest';
import { Discovery } from '../../src/node/discovery.ts';
import { Session } from '../../src/postgres/session.ts';
import { AttemptSpacing } from '../../src/schema/attempt-spacing.ts';
import { install } from '../../src/schema/install.ts';
import { type TestDatabase, createDatabase } from '../support/database.ts';
import { installationOf } from '../support/setup-installation.ts';

/** The server's clock and the limit of the wait, in milliseconds. */
interface Attempt {
  readonly began: number;
  readonly limit: number;
}

/**
 * Notes each attempt to make a trigger just before it asks for the table's lock, and gives the attempts so far. Attempts are
 * kept in sequences, which keep their values when an attempt is rolled back.
 */
async function noteAttempts(database: TestDatabase): Promise<() => Promise<Attempt[]>> {
  await database.query(`
    CREATE SCHEMA witness;
    CREATE SEQUENCE witness.attempts;
    DO $$ BEGIN
      FOR n IN 1..100 LOOP
        EXECUTE format('CREATE SEQUENCE witness.began_%1$s; CREATE SEQUENCE witness.limit_%1$s', n);
      END LOOP;
    END $$;
    CREATE FUNCTION witness.note() RETURNS event_trigger LANGUAGE plpgsql AS $$
    DECLARE n bigint := nextval('witness.attempts');
    BEGIN
      PERFORM setval('witness.began_' || n, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint),
        setval('witness.limit_' || n, (extract(epoch FROM current_setting('lock_timeout')::interval) * 1000)::bigint);
    END $$;
    CREATE EVENT TRIGGER note ON ddl_command_start WHEN TAG IN ('CREATE TRIGGER') EXECUTE FUNCTION witness.note()`);
  return () =>
    database.query(`
      SELECT pg_sequence_last_value('witness.began_' || n)::float8 / 1000 AS began,
        pg_sequence_last_value('witness.limit_' || n)::int AS "limit"
      FROM generate_series(1, pg_sequence_last_value('witness.attempts')) n ORDER BY n`);
}

test('attempts to get a lock are few, and far apart, from one look to the next as well', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)');
  const attemptsSoFar = await noteAttempts(database);
  const { settings, names } = installationOf(database, { lockTimeout: 40 });
  const holder = await database.client();
  await holder.query('BEGIN; LOCK TABLE a, b IN ROW EXCLUSIVE MODE');
  const session = await Session.connect(settings.target, {
    connectTimeout: 10_000,
    statementTimeout: 60_000,
    applicationName: 'test',
  });
  const pending: (readonly string[])[] = [];
  const discovery = new Discovery(settings, names, (...notice) => {
    if (notice[0] === 'installed') pending.push(notice[1].pending);
  });
  for (let look = 0; look < 2; look++)
    await discovery.ensureInstalled(session, 'claiming', new AbortController().signal);
  expect(pending).toEqual([
    ['a', 'b'],
    ['a', 'b'],
  ]);
  const attempts = await attemptsSoFar();
  // At least one and at most four for each table and look.
  expect(attempts.length).toBeGreaterThanOrEqual(4);
  expect(attempts.length).toBeLessThanOrEqual(16);
  // The tables are locked all the time, so every attempt waits to its limit.
  const isTooClose = ({ began, limit }: Attempt, index: number): boolean =>
    attempts.slice(index + 1, index + 2).some((next) => next.began - (began + limit) < 19 * limit);
  expect(attempts.filter(isTooClose)).toEqual([]);
  await holder.query('COMMIT');
  await discovery.ensureInstalled(session, 'holding', new AbortController().signal);
  expect(pending.at(-1)).toEqual([]);
  await session.close();
});

test('installing that rests ends once its signal has aborted', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE a (id int PRIMARY KEY)');
  const { settings, names } = installationOf(database);
  const spacing = new AttemptSpacing();
  // An attempt that took an hour.
  spacing.noteAttempt(performance.now() - 3_600_000);
  const session = await Session.connect(settings.target, {
    connectTimeout: 10_000,
    statementTimeout: 10_000,
    applicationName: 'test',
  });
  const stop = new AbortController();
  const installing = install(session, settings, names, { signal: stop.signal, spacing });
  stop.abort(new Error('enough'));
  await expect(installing).rejects.toThrow('enough');
  await session.close();
});
