/** What doctor looks at while things run: the server, and whether changes flow. */
import { readStatus } from '../node/status.ts';
import { namesOf } from '../schema/names.ts';
import { inSession } from './command.ts';
import { type Check, type Finding, note, ok, problem, readable } from './doctor-finding.ts';
import { duration, plural } from './output.ts';
import { ageOf } from './status.ts';

const OLDEST = 14;
const NEWEST = 18;

const version: Check = async ({ session }) => {
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

/** In milliseconds. A change that is older than this has been forgotten, or the consumer does not keep up. */
const OLD = 60_000;

const backlog: Check = async ({ session, names, status }) => {
  if (!status) return [];
  const { lease, backlog, oldestChangeAt } = status;
  const age = (await ageOf(session, oldestChangeAt)) ?? 0;
  const active = lease ? `a node has been active since ${lease.acquiredAt}` : 'no node is active';
  const waiting = `${active}; ${plural(backlog, 'change')} in the log`;
  if (!lease && backlog === 0) return [note('backlog', waiting, 'changes gather until a node starts')];
  if (lease && age < OLD) return [ok('backlog', waiting)];
  const later = await readStatus(session, names);
  return [
    problem(
      'backlog',
      `${waiting}, the oldest ${duration(age)} old; ${plural(later.backlog, 'change')} a moment later`,
      lease
        ? 'the consumer does not keep up, or does not acknowledge what it has: look at its log; with ack: manual it ' +
            'can work on many at once'
        : 'start a node; or, if none is to come again, uninstall',
    ),
  ];
};

/** Inputs that somebody left behind: their triggers go on writing. */
const others: Check = async ({ session, settings, names }) => {
  const prefix = 'lock_postgres_input_';
  const found = await session.query<{ name: string }>(
    `SELECT c.relname AS name FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind = 'r' AND pg_catalog.starts_with(c.relname, $2) AND c.relname <> $3
       AND pg_catalog.has_table_privilege(c.oid, 'SELECT')
     ORDER BY 1`,
    [names.schema, prefix, names.lockTable.name],
  );
  const findings: Finding[] = [];
  for (const { name } of found) {
    const id = name.slice(prefix.length);
    // Statements are prepared, for one input's tables in each session.
    const other = await inSession(settings, (apart) =>
      readable(readStatus(apart, namesOf(id, names.schema))),
    );
    if (!other || other.lease || other.backlog === 0) continue;
    const age = await ageOf(session, other.oldestChangeAt);
    const waiting = `${plural(other.backlog, 'change')}, the oldest ${duration(age ?? 0)} old`;
    findings.push(
      problem(
        'other inputs',
        `input ${id} has no active node; backlog: ${waiting}`,
        `start one; or, if none is to come again: uninstall --name ${id}`,
      ),
    );
  }
  return findings;
};

const server: Check = async ({ session }) => {
  const [row] = await session.query<{ queue: number; prepared: number }>(
    `SELECT pg_catalog.pg_notification_queue_usage()::float8 AS queue,
       pg_catalog.current_setting('max_prepared_transactions')::int AS prepared`,
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

export const OPERATION: readonly Check[] = [version, backlog, others, server];
