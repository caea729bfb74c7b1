/** What our DDL spares the writers: attempts to get a lock are few, and keep a distance. */
import { expect, test, vi } from 'vitest';
import { Discovery } from '../../src/node/discovery.ts';
import { Session } from '../../src/postgres/session.ts';
import { AttemptSpacing } from '../../src/schema/attempt-spacing.ts';
import { install } from '../../src/schema/install.ts';
import { createDatabase } from '../support/database.ts';
import { installationOf } from '../support/setup-installation.ts';

interface Attempt {
  readonly began: number;
  readonly ended: number;
  readonly wasLocked: boolean;
}

test('attempts to get a lock are few, and far apart, from one look to the next as well', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)');
  const { settings, names } = installationOf(database, { lockTimeout: 40 });
  const holder = await database.client();
  await holder.query('BEGIN; LOCK TABLE a, b IN ROW EXCLUSIVE MODE');
  const session = await Session.connect(settings.target, {
    connectTimeout: 10_000,
    statementTimeout: 60_000,
    applicationName: 'test',
  });
  const attempts: Attempt[] = [];
  const query = session.query.bind(session);
  vi.spyOn(session, 'query').mockImplementation(async (...args: Parameters<typeof query>) => {
    const isAttempt = typeof args[0] === 'string' && args[0].startsWith('BEGIN');
    const began = performance.now();
    let wasLocked = false;
    try {
      return (await query(...args)) as never;
    } catch (error) {
      wasLocked = (error as { code?: string }).code === '55P03';
      throw error;
    } finally {
      if (isAttempt) attempts.push({ began, ended: performance.now(), wasLocked });
    }
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
  const locked = attempts.filter(({ wasLocked }) => wasLocked);
  // Four for each table and look.
  expect(locked.length).toBeLessThanOrEqual(16);
  const isTooClose = ({ began, ended }: Attempt): boolean =>
    attempts.some((next) => next.began >= ended && next.began - ended < 19 * (ended - began));
  expect(locked.filter(isTooClose)).toEqual([]);
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
