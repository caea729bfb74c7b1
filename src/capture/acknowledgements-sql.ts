/** The statements that acknowledge changes: they delete them from the change log. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
import { CHANGES, isMarked, putBack, sharesNumbers, writtenRowSql } from '../schema/log-layout.ts';
import { LEASE_RESOURCE, type Names, type ObjectName } from '../schema/names.ts';

export interface AcknowledgementsSql {
  readonly acknowledge: Statement;
  readonly acknowledgeUnlocked: Statement;
  readonly acknowledgeSingle: Statement;
  readonly unpack: Statement;
  readonly acknowledgeInTransaction: Statement;
  readonly isPacked: Statement;
  readonly left: Statement;
  readonly callersEnded: Statement;
}

/** For how long an acknowledgement waits for a locked row, in milliseconds: other statements wait for the session. */
export const LOCK_TIMEOUT = 50;

/** The row of the lease, if this node holds it. The lock on it keeps claims out until the statement ends. $2: holder. $3: token. */
export const held = ({ sql }: ObjectName): string => `held AS MATERIALIZED (
  SELECT FROM ${sql} WHERE resource = ${LEASE_RESOURCE} AND holder = $2 AND token = $3 FOR SHARE
)`;

/**
 * Whether the change was handed out under the lease as it is. Runs under a caller's search_path. $2: the token of the event. $3: when the change
 * was written; null if version 1 logged it.
 */
const isOfTerm = ({ sql }: ObjectName): string => `
CASE WHEN $3::pg_catalog.timestamptz IS NULL THEN NOT ${isMarked('key')} ELSE at OPERATOR(pg_catalog.=) $3::pg_catalog.timestamptz END
AND EXISTS (
  SELECT FROM ${sql} WHERE resource OPERATOR(pg_catalog.=) ${LEASE_RESOURCE} AND token OPERATOR(pg_catalog.=) $2
)`;

/** `back` puts back the rest of packed rows. */
export const acknowledgementsSql = (
  { logTable, lockTable, backfillTable }: Names,
  back = putBack,
): AcknowledgementsSql => ({
  /**
   * $1: the sequences of the changes that are named one by one. $4: the sequences of the rows to look for: those in which these changes are or were, and $5.
   * $5: the sequences of packed rows that go as a whole, if they have as many changes as $6 says: nothing has to be looked for in their texts.
   * $7: the sequences of rows that were written with changes of $1, and are not in $1. Such a row goes only if it is packed: after unpacking, and after
   * somebody has set the sequence back, a change that nobody has acknowledged may have the sequence. Only the numbers of rows are looked for in $7: to go through
   * $1 or $7 for each change would cost more than the rest of the statement. A packed row with which single rows share numbers stays: the changes of the single
   * rows are meant.
   *
   * Returns a row if the lease is held. `found` may be lower than the number of changes: the statement does not see single rows that replaced a
   * packed row after the statement had begun, and leaves a row of $5 alone if it is not as it was thought to be. It fails with {@link LOCKED} if another
   * transaction has one of the changes: waiting would keep the lease's row locked.
   */
  acknowledge: {
    name: `log_acknowledge_${back.name}`,
    text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${logTable.sql} log WHERE seq = ANY ($4::bigint[]) AND EXISTS (SELECT FROM held)
    AND (SELECT set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
    AND NOT ${sharesNumbers(logTable, 'log')}
    AND CASE WHEN seq = ANY ($5::bigint[]) THEN size = ($6::int[])[array_position($5::bigint[], seq)]
      ELSE size IS NOT NULL OR seq <> ${writtenRowSql('seq')} OR seq <> ALL ($7::bigint[]) END
  RETURNING *
), part AS (
  SELECT * FROM gone WHERE seq <> ALL ($5::bigint[])
), rest AS (
  ${back(logTable, 'part', '$1::bigint[]')}
)
SELECT (SELECT coalesce(sum(${CHANGES}), 0) FROM gone)::int - (SELECT count(*) FROM rest)::int AS found
FROM held`,
  },
  /** The same for changes that are all named one by one. It skips those that other transactions have, and returns them. It needs the right to UPDATE. */
  acknowledgeUnlocked: {
    name: `log_acknowledge_unlocked_${back.name}`,
    text: `
WITH ${held(lockTable)}, free AS MATERIALIZED (
  SELECT seq FROM ${logTable.sql} log WHERE seq = ANY ($4::bigint[]) AND EXISTS (SELECT FROM held)
    AND (size IS NOT NULL OR seq = ANY ($1::bigint[])) AND NOT ${sharesNumbers(logTable, 'log')}
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY (ARRAY(SELECT seq FROM free))
  RETURNING *
), rest AS (
  ${back(logTable, 'gone', '$1::bigint[]')}
)
SELECT ARRAY(
  SELECT named::text FROM unnest($1::bigint[]) named
  WHERE EXISTS (
    SELECT FROM ${logTable.sql} log
    WHERE seq IN (named, ${writtenRowSql('named')}) AND (size IS NOT NULL OR seq = named) AND NOT ${sharesNumbers(logTable, 'log')}
      AND seq <> ALL (ARRAY(SELECT seq FROM free))
  )
) AS locked
FROM held`,
  },
  /**
   * $1: sequences of changes that are rows of their own, as those of short statements are: it costs two thirds of `acknowledge`. Returns a row if the
   * lease is held. It fails as `acknowledge` does.
   */
  acknowledgeSingle: {
    name: 'log_acknowledge_single',
    text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY ($1::bigint[]) AND size IS NULL AND EXISTS (SELECT FROM held)
    AND (SELECT set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
)
SELECT FROM held`,
  },
  /** Replaces packed rows by single ones, whether this node holds the lease or not. $1: an empty array. $2: sequences of the rows. */
  unpack: {
    name: 'log_unpack',
    text: `
WITH gone AS (
  DELETE FROM ${logTable.sql} log WHERE seq = ANY ($2::bigint[]) AND size IS NOT NULL AND NOT ${sharesNumbers(logTable, 'log')}
  RETURNING *
), rest AS (
  ${putBack(logTable, 'gone', '$1::bigint[]')}
)
SELECT`,
  },
  /**
   * Runs in the caller's transaction, under the caller's search_path: names and operators are qualified.
   *
   * $1: the change's own row and, after unpacking, the packed row that it came from. If that row still exists, deleting it would acknowledge
   * its other changes too, so the division by zero fails the statement. If only the transaction's old snapshot still shows it,
   * PostgreSQL reports a serialization failure. $2: the token under which the event was handed out. $3: when the change was written; null if
   * version 1 logged it.
   *
   * The token alone is not enough. Until the first claim after a crash or a restored backup, the lease has a token from before, while
   * the application may already log other changes under numbers that were lost.
   */
  acknowledgeInTransaction: {
    name: 'log_acknowledge_in_transaction',
    text: `
DELETE FROM ${logTable.sql}
WHERE seq OPERATOR(pg_catalog.=) ANY ($1::bigint[])
AND ${isOfTerm(lockTable)}
RETURNING 1 OPERATOR(pg_catalog./) (size IS NULL)::int`,
  },
  /** The same for a packed row, $1: returns a row if the log still has it. */
  isPacked: {
    name: 'log_is_packed',
    text: `
SELECT FROM ${logTable.sql}
WHERE seq OPERATOR(pg_catalog.=) $1::bigint AND size IS NOT NULL
AND ${isOfTerm(lockTable)}`,
  },
  /** $1: the sequences of rows. Returns those that are in the log, and whether no transaction has them. It needs the right to UPDATE. */
  left: {
    name: 'log_left',
    text: `
WITH free AS MATERIALIZED (
  SELECT seq FROM ${logTable.sql} WHERE seq = ANY ($1::bigint[]) FOR KEY SHARE SKIP LOCKED
)
SELECT seq, EXISTS (SELECT FROM free WHERE free.seq = log.seq) AS free,
  size IS NOT NULL AND NOT ${sharesNumbers(logTable, 'log')} AS packed
FROM ${logTable.sql} log WHERE seq = ANY ($1::bigint[])`,
  },
  /**
   * Whether no caller's transaction that has acknowledged is open. Such a transaction keeps its locks on both tables: the log's for
   * deleting, the lock table's for reading. Writers of the application have the one only, dumps and standbys the other. Roles without rights
   * on the tables get neither.
   */
  callersEnded: {
    name: 'log_callers_ended',
    text: `
SELECT NOT EXISTS (
  SELECT FROM pg_locks deleted JOIN pg_locks fenced USING (virtualtransaction, database, locktype)
  WHERE locktype = 'relation' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND deleted.relation IN (${quoteLiteral(logTable.sql)}::regclass, to_regclass(${quoteLiteral(backfillTable.sql)})) AND deleted.mode = 'RowExclusiveLock'
    AND fenced.relation = ${quoteLiteral(lockTable.sql)}::regclass AND fenced.mode = 'AccessShareLock'
    AND deleted.pid IS DISTINCT FROM pg_backend_pid()
) AS ended`,
  },
});
