/** Doctor's checks of the server: its version, and what goes on in it besides this package. */
import { PUBLICATION_ADVICE, publicationProblem, publicationsOfAllTables } from '../schema/publications.ts';
import { type Check, type DatabaseCheck, note, ok, problem } from './doctor-finding.ts';
import { isUnreadable } from './input-state.ts';

/** The major versions of PostgreSQL that the tests run on. */
const OLDEST = 14;
const NEWEST = 18;

export const version: DatabaseCheck = async ({ session }) => {
  const [server] = await session.query<{ number: number; text: string }>(
    "SELECT current_setting('server_version_num')::int AS number, current_setting('server_version') AS text",
  );
  const { number, text } = server!;
  const major = Math.floor(number / 10_000);
  const found = `PostgreSQL ${text}`;
  if (major < OLDEST)
    return [problem('version', found, `upgrade the server: ${OLDEST} to ${NEWEST} are supported`)];
  if (major > NEWEST)
    return [
      note('version', found, `this package was tested with ${OLDEST} to ${NEWEST}: look for a newer one`),
    ];
  return [ok('version', found)];
};

export const server: DatabaseCheck = async ({ session }) => {
  const [row] = await session.query<{ queue: number; prepared: number }>(
    `SELECT pg_notification_queue_usage()::float8 AS queue,
       current_setting('max_prepared_transactions')::int AS prepared`,
  );
  const { queue, prepared } = row!;
  const full = `${(queue * 100).toFixed(1)} % full`;
  const findings = [
    queue < 0.1
      ? ok('notification queue', full)
      : problem(
          'notification queue',
          full,
          'some session that listens has had a transaction open for long, and when the queue is full every NOTIFY ' +
            'fails: look at xact_start in pg_stat_activity, and end it',
        ),
  ];
  if (prepared > 0) {
    findings.push(
      note(
        'prepared transactions',
        `max_prepared_transactions is ${prepared}`,
        'PREPARE TRANSACTION fails for a transaction that wrote to a watched table while the reader slept, since ' +
          'PostgreSQL prepares none that has executed NOTIFY: retry such a transaction, or exclude its tables',
      ),
    );
  }
  return findings;
};

/**
 * Finds a session that holds the sleep lock and is not the active node's. Anybody who may connect can take the lock: its key is the hash of
 * known names, and PostgreSQL has no privileges for advisory locks. A transaction that shares the lock is a writer's.
 */
export const sleepLock: Check = async ({ session, names, catalog, state }) => {
  if (!state || isUnreadable(state, names.lockTable) || !catalog.tables.includes(names.lockTable.name))
    return [];
  const holders = await session.query<{ pid: number; role: string | null }>(
    `SELECT l.pid, a.usename AS role FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
     WHERE l.locktype = 'advisory' AND l.granted AND l.mode = 'ExclusiveLock' AND l.objsubid = 1
       AND ((l.classid::bigint << 32) | l.objid::bigint) = $1
       AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND NOT EXISTS (SELECT FROM ${names.lockTable.sql} WHERE backend_pid = l.pid)`,
    [names.sleepKey],
  );
  return holders.map(({ pid, role }) =>
    problem(
      'sleep lock',
      `the session with pid ${pid}, of role ${role ?? 'unknown'}, holds it and is not the active node: every commit to a watched table ` +
        'notifies, the active node reads the log all the time, and PREPARE TRANSACTION fails',
      'end that session, and restrict who may connect',
    ),
  );
};

/** Finds publications that send the internal tables to subscribers, also before anything is installed. */
export const publications: DatabaseCheck = async ({ session }) =>
  (await publicationsOfAllTables(session)).map((name) =>
    note('publications', publicationProblem(name), PUBLICATION_ADVICE),
  );
