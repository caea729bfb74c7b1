/** The statements that acknowledge, that is delete from the change log. */
import type { Statement } from '../postgres/session.ts';
import { CHANGES, putBack, writtenRowSql } from '../schema/log-layout.ts';
import type { Names, ObjectName } from '../schema/names.ts';

export interface AcknowledgementsSql {
  readonly acknowledge: Statement;
  readonly unpack: Statement;
  readonly acknowledgeUnlocked: Statement;
  readonly acknowledgeInTransaction: Statement;
  readonly noneAcknowledges: Statement;
}

/** For how long acknowledging waits for one, in milliseconds: the session has more to do. */
const LOCK_TIMEOUT = 50;

/** $2: holder. $3: token. */
const held = ({ sql }: ObjectName): string => `held AS MATERIALIZED (
  SELECT FROM ${sql} WHERE resource = 1 AND holder = $2 AND token = $3 FOR SHARE
)`;

export const acknowledgementsSql = ({
  logTable,
  lockTable,
  acknowledgingKey,
}: Names): AcknowledgementsSql => ({
  /**
   * $1: sequences. $4: of the rows that hold, or held, their changes. A row if the lease was held: it is locked, so that
   * no claim comes between. It tells how many were found: the statement does not see the rows that took a row's place
   * after it began. Fails with {@link LOCKED} rather than wait, and so keep the lease, for a transaction that has one
   * of the changes.
   */
  acknowledge: {
    name: 'log_acknowledge',
    text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY ($4::bigint[]) AND EXISTS (SELECT FROM held)
    AND (SELECT set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
  RETURNING *
), rest AS (
  ${putBack(logTable, 'gone', '$1::bigint[]')}
)
SELECT (SELECT coalesce(sum(${CHANGES}), 0) FROM gone)::int - (SELECT count(*) FROM rest)::int AS found
FROM held`,
  },
  /** The same, but leaves alone what other transactions have, and tells which. It needs the right to UPDATE. */
  acknowledgeUnlocked: {
    name: 'log_acknowledge_unlocked',
    text: `
WITH ${held(lockTable)}, free AS MATERIALIZED (
  SELECT seq FROM ${logTable.sql} WHERE seq = ANY ($4::bigint[]) AND EXISTS (SELECT FROM held)
  FOR UPDATE SKIP LOCKED
), gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY (ARRAY(SELECT seq FROM free))
  RETURNING *
), rest AS (
  ${putBack(logTable, 'gone', '$1::bigint[]')}
)
SELECT ARRAY(
  SELECT named::text FROM unnest($1::bigint[]) named
  WHERE EXISTS (
    SELECT FROM ${logTable.sql}
    WHERE seq IN (named, ${writtenRowSql('named')}) AND seq <> ALL (ARRAY(SELECT seq FROM free))
  )
) AS locked
FROM held`,
  },
  /** Gives the changes of packed rows rows of their own, whoever holds the lease. $1: none. $2: sequences of the rows. */
  unpack: {
    name: 'log_unpack',
    text: `
WITH gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY ($2::bigint[]) AND size IS NOT NULL
  RETURNING *
), rest AS (
  ${putBack(logTable, 'gone', '$1::bigint[]')}
)
SELECT`,
  },
  /**
   * In a transaction of the caller's. $1: of the change's row, and of a packed one whose place that has taken: if the transaction's
   * snapshot shows it still, PostgreSQL says that it could not be serialized. Should it be there yet, that is a division by
   * zero: the others in it are not acknowledged. $2: the token under which the event was handed out.
   */
  acknowledgeInTransaction: {
    name: 'log_acknowledge_in_transaction',
    text: `
DELETE FROM ${logTable.sql}
WHERE seq OPERATOR(pg_catalog.=) ANY ($1::bigint[]) AND EXISTS (
  SELECT FROM ${lockTable.sql} WHERE resource OPERATOR(pg_catalog.=) 1 AND token OPERATOR(pg_catalog.=) $2
)
RETURNING pg_catalog.pg_try_advisory_xact_lock_shared(${acknowledgingKey}), 1 OPERATOR(pg_catalog./) (size IS NULL)::int`,
  },
  /** Whether no such transaction is open. */
  noneAcknowledges: {
    name: 'log_none_acknowledges',
    text: `SELECT pg_try_advisory_xact_lock(${acknowledgingKey}) AS none`,
  },
});
