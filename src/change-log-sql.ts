/** The statements of the change log. */
import type { Names } from './names.ts';
import type { Statement } from './session.ts';

export interface ChangeLogSql {
  readonly firstPass: Statement;
  readonly nextPass: Statement;
  readonly acknowledge: Statement;
  readonly acknowledgeInTransaction: Statement;
  readonly backlog: Statement;
}

export const changeLogSql = ({ logTable, lockTable }: Names): ChangeLogSql => ({
  /**
   * A page of all that a snapshot sees. $1: the pass's snapshot, null to take it now. $2: after this sequence.
   * $3: rows. A row of a transaction that has not begun yet was restored from another cluster: it counts as seen.
   */
  firstPass: {
    name: 'log_first_pass',
    text: `
WITH pass AS MATERIALIZED (
  SELECT coalesce($1::pg_snapshot, pg_catalog.pg_current_snapshot()) AS snapshot,
    pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) AS not_begun
)
SELECT NULL::bigint, NULL::timestamptz, snapshot::text, NULL::text, NULL::text, NULL::text FROM pass
UNION ALL
SELECT * FROM (
  SELECT seq, at, tbl, id, op, key FROM ${logTable.sql}
  WHERE seq > $2::bigint
    AND (pg_catalog.pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass)) OR xid >= (SELECT not_begun FROM pass))
  ORDER BY seq LIMIT $3
) page`,
  },
  /**
   * A page of all that a snapshot sees and the pass before did not. $1: the pass's snapshot, null to take it now.
   * $2: the snapshot of the pass before. $3: after this sequence, or, if one of the transactions $4 has ended in the
   * meantime, after the sequence of the same place in $5, if that is lower. $6: rows.
   */
  nextPass: {
    name: 'log_next_pass',
    text: `
WITH pass AS MATERIALIZED (
  SELECT coalesce($1::pg_snapshot, pg_catalog.pg_current_snapshot()) AS snapshot
)
SELECT NULL::bigint, NULL::timestamptz, snapshot::text, NULL::text, NULL::text, NULL::text FROM pass
UNION ALL
SELECT * FROM (
  SELECT seq, at, tbl, id, op, key FROM ${logTable.sql}
  WHERE seq > (
      SELECT least($3::bigint, min(late.after))
      FROM unnest($4::xid8[], $5::bigint[]) late (xid, after)
      WHERE pg_catalog.pg_visible_in_snapshot(late.xid, (SELECT snapshot FROM pass))
    )
    AND pg_catalog.pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass))
    AND NOT pg_catalog.pg_visible_in_snapshot(xid, $2::pg_snapshot)
  ORDER BY seq LIMIT $6
) page`,
  },
  /** $1: sequences. $2: holder. $3: token. A row if the lease was held: it is locked, so that no claim comes between. */
  acknowledge: {
    name: 'log_acknowledge',
    text: `
WITH held AS MATERIALIZED (
  SELECT FROM ${lockTable.sql} WHERE resource = 1 AND holder = $2 AND token = $3 FOR SHARE
), gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY ($1::bigint[]) AND EXISTS (SELECT FROM held)
)
SELECT FROM held`,
  },
  /** In a transaction of the caller's. $1: sequence. $2: the token under which the event was handed out. */
  acknowledgeInTransaction: {
    name: 'log_acknowledge_in_transaction',
    text: `
DELETE FROM ${logTable.sql}
WHERE seq = $1 AND EXISTS (SELECT FROM ${lockTable.sql} WHERE resource = 1 AND token = $2)`,
  },
  /** How many changes wait, and since when the oldest. */
  backlog: {
    name: 'log_backlog',
    text: `
SELECT pg_catalog.count(*)::int AS backlog, (SELECT at FROM ${logTable.sql} ORDER BY seq LIMIT 1) AS oldest
FROM ${logTable.sql}`,
  },
});
