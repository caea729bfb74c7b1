import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
/** The statements of the change log. */
import { STRIDE } from '../schema/log-layout.ts';
import { type Names, type ObjectName } from '../schema/names.ts';

export interface ChangeLogSql {
  readonly start: Statement;
  readonly firstPass: Statement;
  readonly nextPass: Statement;
  readonly acknowledge: Statement;
  readonly unpack: Statement;
  readonly acknowledgeUnlocked: Statement;
  readonly acknowledgeInTransaction: Statement;
  readonly noneAcknowledges: Statement;
  readonly backlog: Statement;
}

/** The highest sequence that a change may bear whose row was drawn so far, by whomever; 0 for a role that may not know. */
const drawn = ({ sql }: ObjectName): string => `(
  SELECT coalesce(CASE WHEN pg_catalog.has_sequence_privilege(log_seq, 'SELECT')
    THEN (pg_catalog.pg_sequence_last_value(log_seq) + 1) * ${STRIDE} - 1 END, 0)
  FROM (SELECT pg_catalog.pg_get_serial_sequence(${quoteLiteral(sql)}, 'seq')::pg_catalog.regclass) s (log_seq)
)`;

/** Sequences that are stepped over before the clock is looked at; more where those would be too many windows. */
const WINDOW = 100_000 * STRIDE;
const MAX_WINDOWS = 2000;

/**
 * A page of a pass: what is wanted of it, in the order of the sequences. $1: the pass's snapshot. $2: the highest sequence
 * drawn when it began, 0 if that is not known; both null to take them now. $3: milliseconds. $4: changes: it ends with the
 * row that holds the last of them. $5: rows, for the server not to go through more than these changes need.
 *
 * The first row tells of the pass, which draws an xid when it begins, after its snapshot was taken and the sequence was
 * read. What is not yet vacuumed is stepped over window by window. When the time is over, a row without a time says after
 * which sequence to go on, and is the page's end.
 */
const page = (log: ObjectName, { after, wanted }: { after: string; wanted: string }): string => `
WITH pass AS MATERIALIZED (
  SELECT coalesce($1::pg_snapshot, pg_catalog.pg_current_snapshot()) AS snapshot,
    pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot()) AS not_begun,
    coalesce($2::bigint, ${drawn(log)}) AS drawn
), span AS MATERIALIZED (
  SELECT first, CASE drawn WHEN 0 THEN first ELSE drawn - 1 END AS last,
    CASE drawn WHEN 0 THEN ${2n ** 63n - 1n} - first ELSE greatest(${WINDOW}, (drawn - first) / ${MAX_WINDOWS} + 1) END AS step
  FROM pass, LATERAL (SELECT ${after} AS first OFFSET 0) a
)
SELECT NULL::bigint, NULL::timestamptz, snapshot::text, drawn::text,
  CASE WHEN $1 IS NULL THEN pg_catalog.pg_current_xact_id()::text END, NULL::text, NULL::int
FROM pass
UNION ALL
SELECT seq, at, tbl, id, op, key, size FROM (
  SELECT found.*, pg_catalog.sum(coalesce(size, 1)) OVER (ROWS UNBOUNDED PRECEDING) AS changes FROM (
    SELECT after, after + step AS upto, after > first
      AND pg_catalog.clock_timestamp() > pg_catalog.statement_timestamp() + $3::float8 * interval '1 millisecond' AS late
    FROM span, pg_catalog.generate_series(first, last, step) after
    OFFSET 0
  ) w, LATERAL (
    (
      SELECT seq, at, tbl, id, op, key, size FROM ${log.sql}
      WHERE NOT w.late AND seq > w.after AND seq <= w.upto AND ${wanted}
      ORDER BY seq
    )
    UNION ALL
    SELECT w.after, NULL, NULL, NULL, NULL, NULL, NULL WHERE w.late
  ) found
  LIMIT $5
) page
WHERE changes - coalesce(size, 1) < $4`;

/** For how long acknowledging waits for one, in milliseconds: the session has more to do. */
const LOCK_TIMEOUT = 50;

/** $2: holder. $3: token. */
const held = ({ sql }: ObjectName): string => `held AS MATERIALIZED (
  SELECT FROM ${sql} WHERE resource = 1 AND holder = $2 AND token = $3 FOR SHARE
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

export const changeLogSql = ({ logTable, lockTable, acknowledgingKey }: Names): ChangeLogSql => ({
  /** A start without a pass. */
  start: {
    name: 'log_start',
    text: `SELECT ${drawn(logTable)}::text AS drawn, pg_catalog.pg_current_xact_id()::text AS xid`,
  },
  /**
   * A page of all that a snapshot sees. $6: after this sequence. A row of a transaction that has not begun yet was
   * restored from another cluster: it counts as seen.
   */
  firstPass: {
    name: 'log_first_pass',
    text: page(logTable, {
      after: '$6::bigint',
      wanted: `(pg_catalog.pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass)) OR xid >= (SELECT not_begun FROM pass))`,
    }),
  },
  /**
   * A page of all that a snapshot sees and the pass before did not. $6: after this sequence, or, if one of the transactions
   * $7 has ended in the meantime, after the sequence of the same place in $8, if that is lower. $9: the snapshot of the
   * pass before.
   */
  nextPass: {
    name: 'log_next_pass',
    text: page(logTable, {
      after: `least($6::bigint, (
    SELECT min(late.after) FROM unnest($7::xid8[], $8::bigint[]) late (xid, after)
    WHERE pg_catalog.pg_visible_in_snapshot(late.xid, pass.snapshot)
  ))`,
      wanted: `pg_catalog.pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass))
        AND NOT pg_catalog.pg_visible_in_snapshot(xid, $9::pg_snapshot)`,
    }),
  },
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
WHERE seq = ANY ($1::bigint[]) AND EXISTS (SELECT FROM ${lockTable.sql} WHERE resource = 1 AND token = $2)
RETURNING pg_catalog.pg_try_advisory_xact_lock_shared(${acknowledgingKey}), 1 / (size IS NULL)::int`,
  },
  /** Whether no such transaction is open. */
  noneAcknowledges: {
    name: 'log_none_acknowledges',
    text: `SELECT pg_catalog.pg_try_advisory_xact_lock(${acknowledgingKey}) AS none`,
  },
  /** How many changes wait, and since when the oldest. */
  backlog: {
    name: 'log_backlog',
    text: `
SELECT coalesce(pg_catalog.sum(coalesce(size, 1)), 0)::int AS backlog, (SELECT at FROM ${logTable.sql} ORDER BY seq LIMIT 1) AS oldest
FROM ${logTable.sql}`,
  },
});
