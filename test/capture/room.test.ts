/** The reader minds the room of its sink, awake and asleep. */
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { readSignature } from '../../src/capture/capture.ts';
import { Reader } from '../../src/capture/reader.ts';
import { systemClock } from '../../src/delivery/clock.ts';
import { Delivery } from '../../src/delivery/delivery.ts';
import { RowDecoder } from '../../src/delivery/row-decoder.ts';
import { Traffic } from '../../src/observe/traffic.ts';
import { Listener } from '../../src/postgres/listener.ts';
import { setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

/** A reader that is asleep, the delivery that it reads into, and what its sink has seen. */
async function readIntoDelivery() {
  const fixture = await setupSessions();
  onTestFinished(() => fixture[Symbol.asyncDispose]());
  const { names, database } = fixture;
  const session = await fixture.session();
  const delivery = new Delivery({
    clock: systemClock,
    decoder: new RowDecoder(pg.types),
    traffic: new Traffic('test'),
    trigger: 'test',
    fencingToken: '1',
    maxInFlight: 9000,
    mayHandOut: () => true,
    acknowledge: () => {},
    ready: () => {},
  });
  const seen = { leastRoom: Infinity, isWaiting: false, isAsleep: false };
  const reader = new Reader({
    rows: 'none',
    session,
    names,
    signature: await readSignature(session, names),
    hold: { holder: '', token: null },
    sink: {
      get room() {
        return delivery.room;
      },
      get roomApart() {
        return delivery.room;
      },
      push(changes) {
        delivery.push(changes);
        seen.leastRoom = Math.min(seen.leastRoom, delivery.room);
      },
      async waitForRoom(weight, signal) {
        seen.isWaiting = delivery.room < weight;
        await delivery.waitForRoom(weight, signal);
      },
    },
    foreignNotifications: 'accept',
    notifications: 'changes',
    markerTimeout: 60_000,
    notify: (...[notice]) => {
      if (notice === 'asleep' || notice === 'awake') seen.isAsleep = notice === 'asleep';
    },
    fail: () => {},
  });
  const listener = await Listener.connect(session.endpoint, [names.channel, names.nodeChannel], {
    applicationName: 'test',
    connectTimeout: 15_000,
    heartbeat: 20_000,
  });
  onTestFinished(() => listener.close());
  listener.onNotification = (channel, payload) => {
    if (channel === names.channel) reader.onNotification(payload);
    else reader.onMarker(payload);
  };
  const stop = new AbortController();
  const reading = reader.run(stop.signal);
  onTestFinished(async () => {
    stop.abort();
    await reading;
  });
  await until(() => seen.isAsleep);
  return { database, delivery, seen };
}

test('reads no more than the sink has room for', async () => {
  const { database, delivery, seen } = await readIntoDelivery();
  for (let from = 1; from < 9001; from += 50) {
    await database.query('INSERT INTO items SELECT generate_series($1::int, $1::int + 49)', [from]);
  }
  await until(() => seen.isWaiting);
  const ids: string[] = [];
  await until(() => {
    // A few at a time, so that the reader meets every amount of room.
    for (let n = 0; n < 100 && delivery.canHandOut; n++) ids.push(delivery.handOut().id);
    return ids.length >= 9000;
  });
  expect(ids).toEqual(Array.from({ length: 9000 }, (_, n) => String(n + 1)));
  expect(seen.leastRoom).toBeGreaterThanOrEqual(0);
});

test('leaves notified changes for which the sink has no room in the log', async () => {
  const { database, delivery, seen } = await readIntoDelivery();
  await database.query(
    `SELECT pg_notify('test', json_build_object('tbl', 'theirs', 'id', n, 'op', 'INSERT')::text)
     FROM generate_series(1, $1::int) n`,
    [delivery.room - 1],
  );
  await until(() => delivery.room === 1);
  expect(seen.isAsleep).toBe(true);
  await database.query('INSERT INTO items VALUES (1), (2)');
  await until(() => seen.isWaiting);
  expect(seen.leastRoom).toBe(1);
});
