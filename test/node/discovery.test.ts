import { setTimeout as delay } from 'node:timers/promises';
import { expect, test, vi } from 'vitest';
import type { Notice } from '../../src/api/lifecycle-events.ts';
import { Discovery } from '../../src/node/discovery.ts';
import type { Session } from '../../src/postgres/session.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

/** Makes the fingerprint of the catalog take so many milliseconds, and counts how often it was asked for. */
function slowFingerprint(session: Session, ms: number) {
  const counter = { asked: 0 };
  const query = session.query.bind(session);
  vi.spyOn(session, 'query').mockImplementation(async (...args: Parameters<typeof query>) => {
    if (typeof args[0] === 'object' && args[0].name === 'catalog_fingerprint') {
      counter.asked++;
      await delay(ms);
    }
    return (await query(...args)) as never;
  });
  return counter;
}

test('a slow discovery uses a connection of its own, so that no renewal of the lease waits', async () => {
  await using fixture = await setupSessions({ discoveryInterval: 20 });
  const watched: (readonly string[])[] = [];
  const others: Notice[] = [];
  const discovery = new Discovery(fixture.settings, fixture.names, (...notice) => {
    if (notice[0] === 'installed') watched.push(notice[1].watched);
    else others.push(notice);
  });
  const stop = new AbortController();
  const [starting, control] = [await fixture.session(), await fixture.session()];
  slowFingerprint(starting, 200);
  await discovery.join(starting, 'joining', stop.signal);
  const counter = slowFingerprint(control, 0);
  const watching = discovery.watch(control, stop.signal);
  await fixture.database.query('CREATE TABLE later (id int PRIMARY KEY)');
  await until(() => watched.length > 1);
  stop.abort();
  await watching;
  expect(watched).toEqual([['items'], ['items', 'later']]);
  expect(others).toEqual([]);
  expect(counter.asked).toBe(0);
});
