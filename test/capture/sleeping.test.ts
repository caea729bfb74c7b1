import { expect, onTestFinished, test } from 'vitest';
import type { Notice } from '../../src/api/lifecycle-events.ts';
import { readSignature } from '../../src/capture/capture.ts';
import { ChangeLog } from '../../src/capture/change-log.ts';
import { readPayload } from '../../src/capture/notification.ts';
import { Passes } from '../../src/capture/passes.ts';
import { type Announcement, Sleeping } from '../../src/capture/sleeping.ts';
import { WriteRate } from '../../src/capture/write-rate.ts';
import { Listener } from '../../src/postgres/listener.ts';
import { Wakeup } from '../../src/postgres/wakeup.ts';
import { replaceNotify } from '../support/replace-notify.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

test('a notification queue that fills up while the reader takes the sleep lock keeps the reader awake, without the lock', async () => {
  await using fixture = await setupSessions();
  const { names, database } = fixture;
  const session = await fixture.session();
  // The lock is taken first; then notifying fails as a commit does when the queue is full.
  await database.query('CREATE SEQUENCE attempts');
  await replaceNotify(
    database,
    `PERFORM nextval('public.attempts');
     RAISE 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded';`,
  );
  const heard: Notice[] = [];
  const sleeping = new Sleeping({
    session,
    names,
    passes: { hasRoom: true } as Passes,
    writeRate: new WriteRate(),
    readsAsleep: false,
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
  expect(await database.query('SELECT last_value::int AS attempts FROM attempts')).toEqual([{ attempts: 1 }]);
});

test('the order of two changes of a row is kept when the second is notified before the first is read', async () => {
  await using fixture = await setupSessions();
  const { names, database } = fixture;
  const [session, signatureReader] = [await fixture.session(), await fixture.session()];
  const signature = await readSignature(signatureReader, names);
  const listener = await Listener.connect(session.endpoint, [names.channel, names.nodeChannel], {
    applicationName: 'test',
    connectTimeout: 15_000,
    heartbeat: 20_000,
  });
  onTestFinished(() => listener.close());
  const operations: string[] = [];
  const announced = new Wakeup();
  /** Lets a change be made and announced before the last page, when the reader has the lock and has not read the log. */
  class GatedPasses extends Passes {
    isTurning = false;
    override async readPage() {
      if (this.isTurning) {
        const heard = announced.wait(Infinity, new AbortController().signal);
        await database.query('UPDATE items SET value = 1 WHERE id = 1');
        await heard;
      }
      return super.readPage();
    }
  }
  const passes = new GatedPasses(new ChangeLog(session, names), {
    room: 4000,
    roomApart: 4000,
    push: (changes) => void operations.push(...changes.map(({ operation }) => operation)),
    waitForRoom: async () => {},
  });
  await passes.readAll(new AbortController().signal);
  passes.isTurning = true;
  await database.query('INSERT INTO items VALUES (1)'); // no reader sleeps, so it is in the log alone
  const sleeping: Sleeping = new Sleeping({
    session,
    names,
    passes,
    writeRate: new WriteRate(),
    readsAsleep: false,
    markerTimeout: 10_000,
    notify: () => {},
  });
  listener.onNotification = (channel, payload) => {
    if (channel === names.nodeChannel) return sleeping.onMarker(payload);
    sleeping.onAnnouncement(readPayload(payload, signature) as Announcement);
    announced.wake();
  };
  const stop = new AbortController();
  const asleep = sleeping.sleep(stop.signal);
  await until(() => operations.length === 2);
  stop.abort();
  expect(await asleep).toBe(true);
  expect(operations).toEqual(['create', 'update']);
});

test('a change that is announced while the reader looks into the log, asleep, comes by a further look', async () => {
  await using fixture = await setupSessions({ notifications: 'bare' });
  const { names, database } = fixture;
  const session = await fixture.session();
  const listener = await Listener.connect(session.endpoint, [names.channel, names.nodeChannel], {
    applicationName: 'test',
    connectTimeout: 15_000,
    heartbeat: 20_000,
  });
  onTestFinished(() => listener.close());
  const operations: string[] = [];
  const announced = new Wakeup();
  const told: string[] = [];
  /** Lets a change be made and announced after the page has been read, and before the reader has it. */
  class GatedPasses extends Passes {
    override async readPage() {
      const page = await super.readPage();
      if (page.count > 0 && operations.length === 1) {
        await announced.wait(Infinity, new AbortController().signal); // the first one
        await database.query('UPDATE items SET value = 1 WHERE id = 1');
        await announced.wait(Infinity, new AbortController().signal);
      }
      return page;
    }
  }
  const passes = new GatedPasses(new ChangeLog(session, names), {
    room: 4000,
    roomApart: 4000,
    push: (changes) => void operations.push(...changes.map(({ operation }) => operation)),
    waitForRoom: async () => {},
  });
  await passes.readAll(new AbortController().signal);
  const sleeping: Sleeping = new Sleeping({
    session,
    names,
    passes,
    writeRate: new WriteRate(),
    readsAsleep: true,
    markerTimeout: 10_000,
    notify: (...notice) => void told.push(notice[0]),
  });
  listener.onNotification = (channel, payload) => {
    if (channel === names.nodeChannel) return sleeping.onMarker(payload);
    expect(payload).toBe('[]');
    sleeping.onAnnouncement({ kind: 'look' });
    announced.wake();
  };
  const stop = new AbortController();
  const asleep = sleeping.sleep(stop.signal);
  await until(() => told.includes('asleep'));
  await database.query('INSERT INTO items VALUES (1)');
  await until(() => operations.length === 2);
  expect(operations).toEqual(['create', 'update']);
  expect(told).toEqual(['asleep']);
  stop.abort();
  expect(await asleep).toBe(true);
});
