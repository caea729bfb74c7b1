import { expect, onTestFinished, test, vi } from 'vitest';
import type { LeaseSettings } from '../../src/api/options.ts';
import { Lease } from '../../src/node/lease.ts';
import { Listener } from '../../src/postgres/listener.ts';
import type { Session } from '../../src/postgres/session.ts';
import { type SessionsFixture, setupSessions } from '../support/setup-sessions.ts';
import { until } from '../support/until.ts';

const never = new AbortController().signal;
const LONG: LeaseSettings = { duration: 60_000, renewInterval: 20_000, margin: 1000, pollInterval: 60_000 };

async function leaseOf(fixture: SessionsFixture, times: Partial<LeaseSettings> = {}) {
  const session = await fixture.session();
  return { session, lease: new Lease(session, fixture.names, { ...LONG, ...times }) };
}

const row = async ({ database, names }: SessionsFixture) =>
  (await database.query(`SELECT * FROM ${names.lockTable.sql}`))[0];

/** Waits until a statement waits for a lock. */
const untilBlocked = ({ database }: SessionsFixture) =>
  until(async () => {
    const waiting = await database.query(
      `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`,
    );
    return waiting.length > 0;
  });

/** Waits until the sessions of the test have begun so many statements more. */
async function untilPolled({ database }: SessionsFixture, count: number): Promise<void> {
  const seen = new Set<string>();
  await until(async () => {
    const rows = await database.query(
      `SELECT query_start::text AS began FROM pg_stat_activity
       WHERE datname = current_database() AND application_name LIKE 'dapper%'`,
    );
    for (const { began } of rows) seen.add(began);
    return seen.size > count + rows.length;
  });
}

test('one of many nodes claims the lease, and each claim raises the token', async () => {
  await using fixture = await setupSessions();
  const leases = await Promise.all(
    Array.from({ length: 10 }, async () => (await leaseOf(fixture, { pollInterval: 1 })).lease),
  );
  const tokens: bigint[] = [];
  for (let round = 0; round < 5; round++) {
    const stop = new AbortController();
    const attempts = leases.map((lease) => lease.standBy(stop.signal));
    const winner = await Promise.any(
      attempts.map(async (won, n) => ((await won) ? n : Promise.reject(new Error()))),
    );
    // The others had a good look at it, and left it alone.
    await new Promise((resolve) => setTimeout(resolve, 20));
    stop.abort();
    expect((await Promise.all(attempts)).filter(Boolean)).toHaveLength(1);
    const held = leases.filter(({ trusted, token }) => trusted && token !== null);
    expect(held).toEqual([leases[winner]]);
    expect(await row(fixture)).toMatchObject({
      holder: leases[winner]!.holding.holder,
      token: leases[winner]!.token,
    });
    tokens.push(BigInt(leases[winner]!.token!));
    await leases[winner]!.release();
  }
  expect(tokens).toEqual([...new Set(tokens)].toSorted((a, b) => (a < b ? -1 : 1)));
});

/** Holds the lease's row until the returned function is called: a claim then waits, and has observed the row as it was before. */
async function holdRow({ database, names }: SessionsFixture) {
  const blocker = await database.client();
  await blocker.query(`BEGIN; SELECT FROM ${names.lockTable.sql} FOR UPDATE`);
  return (change: string) => blocker.query(`UPDATE ${names.lockTable.sql} SET ${change}; COMMIT`);
}

test('a node that saw the lease free before another claimed it cannot claim it', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture, { pollInterval: 5 });
  const changeAndRelease = await holdRow(fixture);
  const claimed = lease.standBy(never);
  await untilBlocked(fixture);
  // Another has the lease meanwhile.
  await changeAndRelease(`
    holder = 'another', token = token + 1, expires_at = clock_timestamp() + interval '1 min',
    backend_pid = pg_backend_pid(),
    backend_start = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())`);
  await untilPolled(fixture, 3);
  expect(await row(fixture)).toMatchObject({ holder: 'another' });
  // And gives it up again.
  await fixture.database.query(`UPDATE ${fixture.names.lockTable.sql} SET holder = NULL, expires_at = NULL`);
  expect(await claimed).toBe(true);
  expect(await row(fixture)).toMatchObject({ holder: lease.holding.holder, token: lease.token });
});

test('a node that saw the lease expired before a late renewal cannot claim it', async () => {
  await using fixture = await setupSessions();
  const [first, second] = [
    await leaseOf(fixture),
    await leaseOf(fixture, { pollInterval: 5, renewInterval: 5 }),
  ];
  await first.lease.standBy(never);
  await fixture.database.query(
    `UPDATE ${fixture.names.lockTable.sql} SET expires_at = clock_timestamp() - interval '1 s'`,
  );
  const renewAndRelease = await holdRow(fixture);
  const stop = new AbortController();
  const claimed = second.lease.standBy(stop.signal);
  await untilBlocked(fixture);
  stop.abort();
  await renewAndRelease("expires_at = clock_timestamp() + interval '1 min'");
  expect(await claimed).toBe(false);
  expect(await row(fixture)).toMatchObject({ holder: first.lease.holding.holder, token: first.lease.token });
});

test('a holding ends with its lease, and does not come back when the same node claims the lease anew', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture);
  expect(lease.holding.token).toBeNull();
  await lease.standBy(never);
  const holding = lease.holding;
  expect(holding.token).toBe(lease.token);
  await lease.release();
  expect(holding.token).toBeNull();
  await lease.standBy(never);
  expect(holding.token).toBeNull();
  expect(lease.holding).toEqual({ holder: holding.holder, token: lease.token });
});

test('a release makes a standby claim at once; releasing a lease that is not held does nothing', async () => {
  await using fixture = await setupSessions();
  const [first, second] = [await leaseOf(fixture), await leaseOf(fixture)];
  const listener = await Listener.connect(second.session.endpoint, [fixture.names.nodeChannel], {
    applicationName: 'test',
    connectTimeout: 15_000,
    heartbeat: 20_000,
  });
  onTestFinished(() => listener.close());
  const heard: string[] = [];
  listener.onNotification = (_, payload) => {
    heard.push(payload);
    second.lease.noticeRelease();
  };
  await first.lease.standBy(never);
  const takeover = second.lease.standBy(never);
  await second.session.query('SELECT'); // it has observed
  await first.lease.release();
  expect(await takeover).toBe(true); // and not after the poll, which is a minute away
  expect(heard).toEqual(['released']);

  await first.lease.release();
  await second.session.query('SELECT');
  expect(await row(fixture)).toMatchObject({
    holder: second.lease.holding.holder,
    token: second.lease.token,
  });
});

test('a standby claims when the holder’s session is gone, long before expiry', async () => {
  await using fixture = await setupSessions();
  const [first, second] = [await leaseOf(fixture), await leaseOf(fixture, { pollInterval: 20 })];
  await first.lease.standBy(never);
  const { backend_pid, token } = await row(fixture);
  const takeover = second.lease.standBy(never);
  await fixture.database.query('SELECT pg_terminate_backend($1)', [backend_pid]);
  expect(await takeover).toBe(true);
  expect(BigInt(second.lease.token!)).toBeGreaterThan(BigInt(token));
});

test('a standby claims when the holder’s process id belongs to a later session', async () => {
  await using fixture = await setupSessions();
  const [first, second] = [await leaseOf(fixture), await leaseOf(fixture)];
  await first.lease.standBy(never);
  await fixture.database.query(
    `UPDATE ${fixture.names.lockTable.sql} SET backend_start = backend_start - interval '1 ms'`,
  );
  expect(await second.lease.standBy(never)).toBe(true);
});

test('a standby claims right at expiry, and the former holder can neither renew nor release', async () => {
  await using fixture = await setupSessions();
  const times = { duration: 800, margin: 100, renewInterval: 100 };
  const [first, second] = [
    await leaseOf(fixture, times),
    await leaseOf(fixture, { ...times, pollInterval: 60_000 }),
  ];
  await first.lease.standBy(never);
  const { expires_at } = await row(fixture);
  expect(await second.lease.standBy(never)).toBe(true); // its poll is a minute away
  const { acquired_at } = await row(fixture);
  expect(acquired_at.getTime()).toBeGreaterThanOrEqual(expires_at.getTime());

  await first.lease.hold(never); // returns: the trust has run out
  expect(first.lease.trusted).toBe(false);
  await first.lease.release();
  expect(await row(fixture)).toMatchObject({
    holder: second.lease.holding.holder,
    token: second.lease.token,
  });
});

/** From now on the database's clock seems to be ahead by this much when it writes the expiry, and not when it judges it. */
const setClock = ({ database, names }: SessionsFixture, ahead: string) =>
  database.query(`
    CREATE FUNCTION jump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      NEW.expires_at := NEW.expires_at + interval '${ahead}';
      RETURN NEW;
    END $$;
    CREATE TRIGGER jump BEFORE UPDATE ON ${names.lockTable.sql} FOR EACH ROW EXECUTE FUNCTION jump();
    UPDATE ${names.lockTable.sql} SET holder = holder`);

/** How many statements of a session were seen so far, by the server's word; some run unseen between two looks. */
async function statementsSeen(
  { database }: SessionsFixture,
  session: Session,
): Promise<() => Promise<number>> {
  const [self] = await session.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
  const begun = new Set<string>();
  return async () => {
    const [row] = await database.query(
      'SELECT query_start::text AS at FROM pg_stat_activity WHERE pid = $1',
      [self!.pid],
    );
    begun.add(row.at);
    return begun.size - 1;
  };
}

test('a holder that renews keeps the lease although the database’s clock was set forward', async () => {
  await using fixture = await setupSessions();
  const times = { duration: 30_000, renewInterval: 300, pollInterval: 10 };
  const [first, second] = [await leaseOf(fixture, times), await leaseOf(fixture, times)];
  await first.lease.standBy(never);
  await setClock(fixture, '-1 hour');
  const statements = await statementsSeen(fixture, second.session);
  let isClaimed = false;
  const takeover = second.lease.standBy(never).then(() => (isClaimed = true));
  const stop = new AbortController();
  let renewals = 0;
  const holding = first.lease.hold(stop.signal, () => renewals++);
  await until(async () => (await statements()) > 10 && renewals > 4);
  expect(isClaimed).toBe(false);
  // A holder that falls silent is replaced after two renewals, and not only after the duration.
  stop.abort();
  await holding;
  await takeover;
});

test('a standby claims after the lease’s duration although the database’s clock was set back', async () => {
  await using fixture = await setupSessions();
  const times = { duration: 500, margin: 100, renewInterval: 100 };
  const [first, second] = [
    await leaseOf(fixture, times),
    await leaseOf(fixture, { ...times, pollInterval: 60_000 }),
  ];
  await first.lease.standBy(never);
  await setClock(fixture, '1 hour');
  const began = performance.now();
  expect(await second.lease.standBy(never)).toBe(true);
  expect(performance.now() - began).toBeGreaterThan(500);
});

test('a node that saw the lease unchanged for its duration cannot claim it after a renewal', async () => {
  await using fixture = await setupSessions();
  const times = { duration: 200, margin: 50, renewInterval: 50, pollInterval: 5 };
  const [first, second] = [await leaseOf(fixture), await leaseOf(fixture, times)];
  await first.lease.standBy(never);
  const renewAndRelease = await holdRow(fixture);
  const stop = new AbortController();
  const claimed = second.lease.standBy(stop.signal);
  await untilBlocked(fixture);
  stop.abort();
  await renewAndRelease("expires_at = clock_timestamp() + interval '1 min'");
  expect(await claimed).toBe(false);
  expect(await row(fixture)).toMatchObject({ holder: first.lease.holding.holder, token: first.lease.token });
});

test('the token exceeds the last one, and is at least the time in microseconds', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture);
  const before = BigInt(Date.now()) * 1000n;
  await lease.standBy(never);
  expect(BigInt(lease.token!)).toBeGreaterThanOrEqual(before);
  await lease.release();
  await fixture.database.query(`UPDATE ${fixture.names.lockTable.sql} SET token = $1`, [2n ** 62n]);
  await lease.standBy(never);
  expect(lease.token).toBe(String(2n ** 62n + 1n));
});

test('the holder renews until another node has the lease, which is no error', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture, { renewInterval: 10 });
  await lease.standBy(never);
  let renewals = 0;
  const holding = lease.hold(never, () => renewals++);
  const { expires_at, token } = await row(fixture);
  await until(() => renewals > 3);
  expect((await row(fixture)).expires_at.getTime()).toBeGreaterThan(expires_at.getTime());
  await fixture.database.query(
    `UPDATE ${fixture.names.lockTable.sql} SET holder = 'another', token = token + 1`,
  );
  await holding;
  expect([lease.trusted, lease.token]).toEqual([false, null]);
  await lease.release();
  expect(await row(fixture)).toMatchObject({ holder: 'another', token: String(BigInt(token) + 1n) });
});

test('renewing stops when the signal aborts', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture);
  const stop = new AbortController();
  await lease.standBy(never);
  const holding = lease.hold(stop.signal);
  stop.abort();
  await holding;
  expect(lease.trusted).toBe(true);
});

test.each([
  // The wall clock may be set back meanwhile; the monotonic one stands still while a machine is suspended.
  ['monotonic', { monotonic: 59_001, wall: -1e9 }],
  ['wall', { monotonic: 0, wall: 59_001 }],
])('the holder trusts the lease for its duration less the margin, by the %s clock', async (_, ahead) => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture);
  expect(lease.trusted).toBe(false);
  await lease.standBy(never);
  const { wall, monotonic } = { wall: Date.now(), monotonic: performance.now() };
  expect(lease.trusted).toBe(true);
  vi.spyOn(Date, 'now').mockImplementation(() => wall + ahead.wall);
  vi.spyOn(performance, 'now').mockImplementation(() => monotonic + ahead.monotonic);
  onTestFinished(() => void vi.restoreAllMocks());
  expect(lease.trusted).toBe(false);
  ahead.wall -= 20_000;
  ahead.monotonic -= 20_000;
  expect(lease.trusted).toBe(true);
});

test('trust counts from the start of a renewal, not from its answer', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture, { duration: 1000, margin: 200, renewInterval: 100 });
  const blocker = await fixture.database.client();
  await blocker.query(`BEGIN; SELECT FROM ${fixture.names.lockTable.sql} FOR UPDATE`);
  const claiming = lease.standBy(never);
  await untilBlocked(fixture);
  await new Promise((resolve) => setTimeout(resolve, 850));
  await blocker.query('COMMIT');
  await claiming;
  expect(lease.token).toBe((await row(fixture)).token);
  expect(lease.trusted).toBe(false);
});

test('the lease is lost when a renewal is answered too late, although the database has renewed it', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture, { duration: 1000, margin: 200, renewInterval: 100 });
  const blocker = await fixture.database.client();
  await lease.standBy(never);
  await blocker.query(`BEGIN; SELECT FROM ${fixture.names.lockTable.sql} FOR UPDATE`);
  let renewals = 0;
  const holding = lease.hold(never, () => renewals++);
  await untilBlocked(fixture);
  await new Promise((resolve) => setTimeout(resolve, 850));
  await blocker.query('COMMIT');
  await holding;
  expect(renewals).toBe(0);
  expect(lease.trusted).toBe(false);
});

test('a lock row that somebody removed is named in the error', async () => {
  await using fixture = await setupSessions();
  const { lease } = await leaseOf(fixture);
  await fixture.database.query(`DELETE FROM ${fixture.names.lockTable.sql}`);
  await expect(lease.standBy(never)).rejects.toMatchObject({ code: 'ERR_INSTALL' });
});

test('waiting for the lease reads no change log, holds no snapshot, and ends at once', async () => {
  await using fixture = await setupSessions();
  const [first, second] = [await leaseOf(fixture), await leaseOf(fixture, { pollInterval: 5 })];
  await first.lease.standBy(never);
  const jealous = await fixture.database.client();
  await jealous.query(`BEGIN; LOCK TABLE ${fixture.names.logTable.sql}, items`);
  const stop = new AbortController();
  const waiting = second.lease.standBy(stop.signal);
  await untilPolled(fixture, 20);
  const snapshots = await fixture.database.query(
    `SELECT FROM pg_stat_activity WHERE backend_xmin IS NOT NULL AND state <> 'active'
     AND datname = current_database() AND application_name LIKE 'dapper%'`,
  );
  expect(snapshots).toEqual([]);
  stop.abort();
  expect(await waiting).toBe(false);
});
