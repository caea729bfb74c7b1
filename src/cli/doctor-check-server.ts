/** Doctor's checks of the server: its version, and what goes on in it besides this package. */
import { PUBLICATION_ADVICE, publicationProblem, publicationsOfAllTables } from '../schema/publications.ts';
import { type Check, note, ok, problem } from './doctor-finding.ts';

/** The major versions of PostgreSQL that the tests run on. */
const OLDEST = 14;
const NEWEST = 18;

export const version: Check = async ({ session }) => {
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

export const server: Check = async ({ session }) => {
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

/** Finds publications that send the internal tables to subscribers, also before anything is installed. */
export const publications: Check = async ({ session }) =>
  (await publicationsOfAllTables(session)).map((name) =>
    note('publications', publicationProblem(name), PUBLICATION_ADVICE),
  );
