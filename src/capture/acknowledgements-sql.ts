/** The statements that acknowledge, that is delete from the change log. */
import type { Statement } from '../postgres/session.ts';
import { STRIDE } from '../schema/log-layout.ts';
import { LEASE_RESOURCE, type Names, type ObjectName } from '../schema/names.ts';

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
  SELECT FROM ${sql} WHERE resource = ${LEASE_RESOURCE} AND holder = $2 AND token = $3 FOR SHARE
)`;

/** Of the rows `gone` that were packed, what is not acknowledged is put back, a row each. $1: what is. */
const putBack = ({ sql }: ObjectName): string => `rest AS (
  INSERT INTO ${sql} (seq, xid, at, tbl, id, op, key)
  SELECT gone.seq + change.n, gone.xid, gone.at, gone.tbl, change.id, gone.op, coalesce(change.key::text, gone.key)
  FROM gone, ROWS FROM (
    pg_catalog.json_array_elements_text(gone.id::json),
    pg_catalog.json_array_elements(CASE WHEN gone.key LIKE '[%' THEN gone.key ELSE '[]' END::json)
  ) WITH ORDINALITY change (id, key, n)
  WHERE gone.size IS NOT NULL AND gone.seq + change.n NOT IN (SELECT unnest($1::bigint[]))
  RETURNING seq
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
    AND (SELECT pg_catalog.set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
  RETURNING *
), ${putBack(logTable)}
SELECT (SELECT coalesce(pg_catalog.sum(coalesce(size, 1)), 0) FROM gone)::int - (SELECT pg_catalog.count(*) FROM rest)::int AS found
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
), ${putBack(logTable)}
SELECT ARRAY(
  SELECT named::text FROM unnest($1::bigint[]) named
  WHERE EXISTS (
    SELECT FROM ${logTable.sql}
    WHERE seq IN (named, named - named % ${STRIDE}) AND seq <> ALL (ARRAY(SELECT seq FROM free))
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
), ${putBack(logTable)}
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
WHERE seq = ANY ($1::bigint[]) AND EXISTS (SELECT FROM ${lockTable.sql} WHERE resource = ${LEASE_RESOURCE} AND token = $2)
RETURNING pg_catalog.pg_try_advisory_xact_lock_shared(${acknowledgingKey}), 1 / (size IS NULL)::int`,
  },
  /** Whether no such transaction is open. */
  noneAcknowledges: {
    name: 'log_none_acknowledges',
    text: `SELECT pg_catalog.pg_try_advisory_xact_lock(${acknowledgingKey}) AS none`,
  },
});
