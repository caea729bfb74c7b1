/** The statements that read the change log. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
import {
  ADDED_COLUMNS,
  CHANGES,
  HAS_DETAILS,
  IN_PLACE_OF_ADDED,
  type LogRow,
  MAX_ROW,
  MAX_TAGS,
  READ_COLUMNS,
  STRIDE,
  detailsOf,
  insertRows,
  lastSequenceOfRow,
  sharesNumbers,
  unpackedAfterOthers,
  writtenRowSql,
} from '../schema/log-layout.ts';
import { type Names, type ObjectName } from '../schema/names.ts';
import { held } from './acknowledgements-sql.ts';
import { DATA_FACTOR, TEXT_OF_A_CHANGE } from './change.ts';

export interface ChangeLogSql {
  readonly start: Statement;
  readonly firstPass: Statement;
  readonly nextPass: Statement;
  readonly redriven: Statement;
  readonly again: Statement;
  readonly moveShared: Statement;
  readonly backlog: Statement;
}

/**
 * The highest sequence that any change logged since the numbers last fell can have, committed or not; 0 if the role may not know. A number
 * so high that the sequence of its row is no bigint counts as the highest that is one.
 */
export const drawn = ({ sql }: ObjectName): string => `(
  SELECT coalesce(CASE WHEN has_sequence_privilege(log_seq, 'SELECT')
    THEN ${lastSequenceOfRow(`least(coalesce(pg_sequence_last_value(log_seq), 0), ${MAX_ROW})`)} END, 0)
  FROM (SELECT to_regclass(${quoteLiteral(sql)})) s (log_seq)
)`;

/** How many sequences a statement steps over before it looks at the clock. A window is larger where there would be too many. */
const WINDOW = 100_000 * STRIDE;
const MAX_WINDOWS = 2000;

/** A select list for a row that is none of the log's: `values` in place of these columns, else NULL. */
const inPlaceOfRow = (values: Partial<Record<(typeof READ_COLUMNS)[number], string>>): string =>
  READ_COLUMNS.map((column) => values[column] ?? 'NULL').join(', ');
/** What is read of a row whether or not it is brought. */
const columns = READ_COLUMNS.filter((column) => column !== 'details');
/**
 * A select list of what is brought of a row of `rows`. The details are read again by the row's sequence: most rows have none, and to
 * carry five more columns to this point would cost a tenth of the statement. A packed row with which single rows share numbers has the size 0.
 */
const brought = (rows: string, log: ObjectName): string => {
  const special: typeof bounded = {
    ...bounded,
    size: `CASE WHEN ${sharesNumbers(log, rows)} THEN 0 ELSE size END`,
    details: `CASE WHEN has_details THEN (
  SELECT ${detailsOf('detailed')} FROM (SELECT ${IN_PLACE_OF_ADDED}) absent,
    LATERAL (SELECT ${ADDED_COLUMNS.join(', ')} FROM ${log.sql} WHERE seq = ${rows}.seq) detailed
) END`,
  };
  return READ_COLUMNS.map((column) => special[column] ?? column).join(', ');
};

/** A row of a page: the log's columns, and its text's weight beside that of its changes: null for little text. */
export type PageRow = [...LogRow, text: number | null];

export const weightOf = (row: PageRow): number => (row[SIZE] ?? 1) + (row[READ_COLUMNS.length] ?? 0);
const SIZE = READ_COLUMNS.indexOf('size') as 6;

/** Whether the row is packed, and single rows share its numbers: it can't be read as it is. */
export const isShared = (row: PageRow): boolean => row[SIZE] === 0;

/** SQL: the length of texts. That of a text that is stored out of line is known without reading the text. */
const lengthOf = (...columns: string[]): string =>
  columns.map((column) => `coalesce(octet_length(${column}), 0)`).join(' + ');
/** What a statement reads of a row before it knows whether the row is brought. */
const LOOK = `${columns.join(', ')}, ${HAS_DETAILS} AS has_details,
        ${CHANGES} + (octet_length(id) + ${lengthOf('key')} + CASE WHEN ${HAS_DETAILS} THEN ${DATA_FACTOR} * (${lengthOf('before', 'after')} + least(${lengthOf('context')}, ${MAX_TAGS.get('context')})) ELSE 0 END) / ${TEXT_OF_A_CHANGE} AS weight`;
/** A milestone in the place of such a row. */
const LOOK_OF_MILESTONE = ['w.below', ...columns.slice(1).map(() => 'NULL'), 'false', '1'].join(', ');
const TEXT = `nullif(weight - ${CHANGES}, 0)`;

/**
 * A change whose id and key have so many bytes is long. A string in JavaScript ends at half a gigabyte, so the id of a long change is
 * shortened, and its key is left out unless it is an object of little text. Packed rows have no long changes. No primary key is so long:
 * PostgreSQL indexes up to 2,704 bytes after compression.
 */
const LONG = 256 * TEXT_OF_A_CHANGE;
const SHORTENED = 1000;
const IS_COMMON = `weight < ${LONG / TEXT_OF_A_CHANGE} OR size IS NOT NULL OR ${lengthOf('id', 'key')} < ${LONG}`;
const bounded: Partial<Record<(typeof READ_COLUMNS)[number], string>> = {
  id: `CASE WHEN ${IS_COMMON} OR octet_length(id) < ${LONG / 2} THEN id ELSE left(id, ${SHORTENED}) || '...' END`,
  key: `CASE WHEN ${IS_COMMON} OR left(key, 1) = '{' AND octet_length(key) < ${LONG / 2} THEN key END`,
};

/** A page's first row, which describes the pass; `xid` is null unless the pass begins with this page. */
export const passOf = ([, , snapshot, drawn, xid]: PageRow) => ({ snapshot, drawn, xid });

/** Whether a row says how far a statement came before its time was over: its sequence is where the next statement goes on. */
export const isMilestone = ([, at]: PageRow): boolean => (at as string | null) === null;

/**
 * A page of a pass: the rows after `after` for which `wanted` holds, in the order of their sequences.
 *
 * $1: the pass's snapshot. $2: the highest sequence allocated when the pass began, 0 if unknown. Both are null for the first page,
 * which takes them, unless the pass is to end at a snapshot that another session has taken. $3: milliseconds. $4: the weight that is wanted: the page ends with the row that reaches it. $5: how many rows that is
 * at most, so that the server reads no more.
 *
 * The page's first row describes the pass. When a pass begins, it draws an xid, after its snapshot was taken and the sequence was read.
 * The statement steps window by window over rows that are deleted and not yet vacuumed. When its time is over, the page ends with a
 * row without a time, whose sequence is where the next statement goes on. The last window has no end, and there is always one: changes may have
 * higher sequences than the sequence's present number, and than the mark that a pass has left.
 */
const page = (
  { logTable, logSequence }: Names,
  { after, wanted }: { after: string; wanted: string },
): string => `
WITH pass AS MATERIALIZED (
  SELECT coalesce($1::pg_snapshot, pg_current_snapshot()) AS snapshot, pg_current_snapshot() AS present,
    coalesce($2::bigint, ${drawn(logSequence)}) AS drawn
), span AS MATERIALIZED (
  SELECT first, greatest(first, drawn - 1) AS last,
    CASE drawn WHEN 0 THEN ${2n ** 63n - 1n} - first ELSE greatest(${WINDOW}, (drawn - first) / ${MAX_WINDOWS} + 1) END AS step
  FROM pass, LATERAL (SELECT ${after} AS first OFFSET 0) a
)
SELECT ${inPlaceOfRow({
  tbl: 'snapshot::text',
  id: 'drawn::text',
  op: 'CASE WHEN $2 IS NULL THEN pg_current_xact_id()::text END',
})}, NULL
FROM pass
UNION ALL
SELECT ${brought('page', logTable)}, ${TEXT} FROM (
  SELECT found.*, sum(weight) OVER (ROWS UNBOUNDED PRECEDING) AS total FROM (
    SELECT ${IN_PLACE_OF_ADDED}, below, CASE WHEN below < last - step THEN below + step ELSE ${2n ** 63n - 1n} END AS upto, below > first
      AND clock_timestamp() > statement_timestamp() + $3::float8 * interval '1 millisecond' AS late
    FROM span, generate_series(first, last, step) below
    OFFSET 0
  ) w, LATERAL (
    (
      SELECT ${LOOK} FROM ${logTable.sql}
      WHERE NOT w.late AND seq > w.below AND seq <= w.upto AND ${wanted}
      ORDER BY seq
    )
    UNION ALL
    SELECT ${LOOK_OF_MILESTONE} WHERE w.late
  ) found
  LIMIT $5
) page
WHERE total - weight < $4`;

/**
 * Whether a row was restored from another cluster, whose xids say nothing here. `begun`, `drawn` and `at` are the xid, the highest sequence and
 * the time of the moment at which reading began: a transaction of this cluster with a greater xid writes later, and has greater sequences
 * unless the numbers have fallen.
 */
const restored = ({ begun, drawn, at }: { begun: string; drawn: string; at: string }): string =>
  `(xid > ${begun}::xid8 AND seq <= ${drawn}::bigint AND at <= ${at}::timestamptz)`;

export const changeLogSql = (names: Names): ChangeLogSql => ({
  /**
   * The start of a pass that is not read: what the first pass needs to know of the one before it. If the role may not know the highest
   * sequence, the highest one in the log stands in for it, which is lower.
   */
  start: {
    name: 'log_start',
    text: `
SELECT coalesce(nullif(${drawn(names.logSequence)}, 0), (SELECT max(seq) FROM ${names.logTable.sql}), 0)::text AS drawn,
  pg_current_xact_id()::text AS xid, clock_timestamp()::text AS at`,
  },
  /**
   * A page of all rows that the snapshot sees, after sequence $6. $7, $8 and $9: xid, highest sequence and time of the moment at which
   * reading began, by which rows are known that were restored from another cluster. The snapshot can't tell of these, so they count as seen.
   * So do rows that are there although their transaction has not ended, or not begun.
   */
  firstPass: {
    name: 'log_first_pass',
    text: page(names, {
      after: '$6::bigint',
      wanted: `(pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass)) OR ${restored({ begun: '$7', drawn: '$8', at: '$9' })}
        OR NOT pg_visible_in_snapshot(xid, (SELECT present FROM pass)))`,
    }),
  },
  /**
   * A page of all rows that the snapshot sees and the previous pass's snapshot, $12, did not. It starts after sequence $6. It starts
   * lower if a transaction in $10 has ended since: after the sequence at the same place in $11. The first pass has read the rows that were
   * restored, which are known by $7 to $9.
   */
  nextPass: {
    name: 'log_next_pass',
    text: page(names, {
      after: `least($6::bigint, (
    SELECT min(late.after) FROM unnest($10::xid8[], $11::bigint[]) late (xid, after)
    WHERE pg_visible_in_snapshot(late.xid, pass.snapshot)
  ))`,
      wanted: `pg_visible_in_snapshot(xid, (SELECT snapshot FROM pass))
        AND NOT pg_visible_in_snapshot(xid, $12::pg_snapshot) AND NOT ${restored({ begun: '$7', drawn: '$8', at: '$9' })}`,
    }),
  },
  /** Changes that were redriven, which are single rows below zero: after number $1, the oldest first, up to the one that reaches weight $2. */
  redriven: {
    name: 'log_redriven',
    text: `
SELECT ${brought('page', names.logTable)}, ${TEXT} FROM (
  SELECT found.*, sum(weight) OVER (ROWS UNBOUNDED PRECEDING) AS total
  FROM (SELECT ${IN_PLACE_OF_ADDED}) absent,
    LATERAL (SELECT ${LOOK} FROM ${names.logTable.sql} WHERE seq < $1::bigint ORDER BY seq DESC LIMIT $2) found
) page
WHERE total - weight < $2
ORDER BY seq DESC`,
  },
  /**
   * A page of the rows that have been read and are still there, after sequence $6: those that the last complete pass's snapshot, $10, sees, and
   * those up to $12 that the snapshot of the pass under way, $11, sees. Both are null if there is no such pass. $7 to $9, and the numbers in
   * $13 that were written with their changes, tell which rows were restored.
   */
  again: {
    name: 'log_again',
    text: page(names, {
      after: '$6::bigint',
      wanted: `(pg_visible_in_snapshot(xid, $10::pg_snapshot) OR seq <= $12::bigint AND pg_visible_in_snapshot(xid, $11::pg_snapshot)
        OR ($10::pg_snapshot IS NOT NULL OR seq <= $12::bigint)
          AND (${restored({ begun: '$7', drawn: '$8', at: '$9' })} OR ${writtenRowSql('seq')} = ANY ($13::bigint[])))`,
    }),
  },
  /**
   * Replaces packed rows with which single rows share numbers by single rows under other numbers. $1: sequences of the packed rows. $2: holder.
   * $3: token. Returns a row if the lease is held: without the lease, another node may be handing these changes out.
   */
  moveShared: {
    name: 'log_move_shared',
    text: `
WITH ${held(names.lockTable)}, gone AS (
  DELETE FROM ${names.logTable.sql} log
  WHERE seq = ANY ($1::bigint[]) AND EXISTS (SELECT FROM held) AND ${sharesNumbers(names.logTable, 'log')}
  RETURNING *
), moved AS (
  ${insertRows(names.logTable, unpackedAfterOthers(names.logTable, 'gone'))}
)
SELECT FROM held`,
  },
  /** How many changes are in the log, and when the oldest was written. */
  backlog: {
    name: 'log_backlog',
    text: `
SELECT coalesce(sum(${CHANGES}), 0)::int AS backlog, (SELECT at FROM ${names.logTable.sql} ORDER BY seq LIMIT 1) AS oldest
FROM ${names.logTable.sql}`,
  },
});
