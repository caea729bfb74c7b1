import { expect, test } from 'vitest';
import type { Notice } from '../../src/api/lifecycle-events.ts';
import type { Passes } from '../../src/capture/passes.ts';
import { Sleeping } from '../../src/capture/sleeping.ts';
import { WriteRate } from '../../src/capture/write-rate.ts';
import { setupSessions } from '../support/setup-sessions.ts';

test('a notification queue that fills up while the reader takes the sleep lock keeps the reader awake, without the lock', async () => {
  await using fixture = await setupSessions();
  const { names, database } = fixture;
  const session = await fixture.session();
  const query = session.query.bind(session);
  // The lock is taken for real; then the commit fails as it does when the queue is full.
  session.query = async (statement, ...rest) => {
    const rows = await query(statement, ...rest);
    if (typeof statement === 'object' && statement.name === 'reader_fall_asleep') {
      throw Object.assign(new Error('too many notifications in the NOTIFY queue'), { code: '54000' });
    }
    return rows as never;
  };
  const heard: Notice[] = [];
  const sleeping = new Sleeping({
    session,
    names,
    passes: { hasRoom: true } as Passes,
    writeRate: new WriteRate(),
    markerTimeout: 10_000,
    notify: (...notice) => heard.push(notice),
  });
  const { signal } = new AbortController();
  expect(await sleeping.sleep(signal)).toBe(false);
  expect(heard).toEqual([['notificationQueue', { usage: 1, isFilling: true }]]);
  expect(
    await database.query(
      `SELECT FROM pg_locks WHERE locktype = 'advisory'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    ),
  ).toEqual([]);
  // Until the queue has been looked at again, the lock is not even tried: a writer might notify meanwhile.
  expect(await sleeping.sleep(signal)).toBe(false);
});
