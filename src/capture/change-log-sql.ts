/** The statements of the change log. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
import { CHANGES, type LogRow, READ_COLUMNS, STRIDE, lastSequenceOfRow } from '../schema/log-layout.ts';
import { type Names, type ObjectName } from '../schema/names.ts';

export interface ChangeLogSql {
  readonly start: Statement;
  readonly firstPass: Statement;
  readonly nextPass: Statement;
  readonly backlog: Statement;
}

/** The highest sequence that a change may bear whose row was drawn so far, by whomever; 0 for a role that may not know. */
const drawn = ({ sql }: ObjectName): string => `(
  SELECT coalesce(CASE WHEN has_sequence_privilege(log_seq, 'SELECT')
    THEN ${lastSequenceOfRow('pg_sequence_last_value(log_seq)')} END, 0)
  FROM (SELECT pg_get_serial_sequence(${quoteLiteral(sql)}, 'seq')::regclass) s (log_seq)
)`;

/** Sequences that are stepped over before the clock is looked at; more where those would be too many windows. */
const WINDOW = 100_000 * STRIDE;
const MAX_WINDOWS = 2000;

/** What stands where the log's rows have their columns. */
const inPlaceOfRow = (values: Partial<Record<(typeof READ_COLUMNS)[number], string>>): string =>
  READ_COLUMNS.map((column) => values[column] ?? 'NULL').join(', ');
const columns = READ_COLUMNS.join(', ');

/** What a page's first row says of its pass; `xid` only when the pass begins. */
export const passOf = ([, , snapshot, drawn, xid]: LogRow) => ({ snapshot, drawn, xid });

/** Whether a row says how far a statement came that took long: after which sequence the next has to go on. */
export const isMilestone = ([, at]: LogRow): boolean => (at as string | null) === null;

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
  SELECT coalesce($1::pg_snapshot, pg_current_snapshot()) AS snapshot,
    pg_snapshot_xmax(pg_current_snapshot()) AS not_begun,
    coalesce($2::bigint, ${drawn(log)}) AS drawn
), span AS MATERIALIZED (
  SELECT first, CASE drawn WHEN 0 THEN first ELSE drawn - 1 END AS last,
    CASE drawn WHEN 0 THEN ${2n ** 63n - 1n} - first ELSE greatest(${WINDOW}, (drawn - first) / ${MAX_WINDOWS} + 1) END AS step
  FROM pass, LATERAL (SELECT ${after} AS first OFFSET 0) a
)
SELECT ${inPlaceOfRow({
  tbl: 'snapshot::text',
  id: 'drawn::text',
  op: 'CASE WHEN $1 IS NULL THEN pg_current_xact_id()::text END',
})}
FROM pass
UNION ALL
SELECT ${columns} FROM (
  SELECT found.*, sum(${CHANGES}) OVER (ROWS UNBOUNDED PRECEDING) AS changes FROM (
    SELECT after, after + step AS upto, after > first
      AND clock_timestamp() > statement_timestamp() + $3::float8 * interval '1 millisecond' AS late
    FROM span, generate_series(first, last, step) after
    OFFSET 0
  ) w, LATERAL (
    (
      SELECT ${columns} FROM ${log.sql}
      WHERE NOT w.late AND seq > w.after AND seq <= w.upto AND ${wanted}
      ORDER BY seq
    )
    UNION ALL
    SELECT ${inPlaceOfRow({ seq: 'w.after' })} WHERE w.late
  ) found
  LIMIT $5
) page
WHERE changes - ${CHANGES} < $4`;

export const changeLogSql = ({ logTable }: Names): ChangeLogSql => ({
  /** A start without a pass. */
  start: {
    name: 'log_start',
    text: `SELECT ${drawn(logTable)}::text AS drawn, pg_current_xact_id()::text AS xid`,
  },
  /**
   * A page of all that a snapshot sees. $6: after this sequence. A row of a transaction that has not begun yet was
   * restored from another cluster: it counts as seen.
   */
  firstPass: {
    name: 'log_first_pass',
    text: page(logTable, {
      after: '$6::bigint',
      wanted: `(pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass)) OR xid >= (SELECT not_begun FROM pass))`,
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
    WHERE pg_visible_in_snapshot(late.xid, pass.snapshot)
  ))`,
      wanted: `pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass))
        AND NOT pg_visible_in_snapshot(xid, $9::pg_snapshot)`,
    }),
  },
  /** How many changes wait, and since when the oldest. */
  backlog: {
    name: 'log_backlog',
    text: `
SELECT coalesce(sum(${CHANGES}), 0)::int AS backlog, (SELECT at FROM ${logTable.sql} ORDER BY seq LIMIT 1) AS oldest
FROM ${logTable.sql}`,
  },
});
