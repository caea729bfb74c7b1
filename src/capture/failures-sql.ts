/** The statements that keep what is known of changes that failed, and those that park, redrive and discard changes. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
import { isOpen } from '../schema/initial-backfill.ts';
import {
  BACKFILL_DIGITS,
  IN_PLACE_OF_ADDED,
  PUBLIC_SEQUENCE,
  READ_NUMBERS,
  SINGLE_COLUMNS,
  STAMP,
  detailsOf,
  insertRows,
  putBack,
  redrivenSql,
  unpacked,
  writtenRowSql,
} from '../schema/log-layout.ts';
import type { Names } from '../schema/names.ts';
import { encodeNodeMessage } from '../schema/node-channel.ts';
import { LOCK_TIMEOUT, held } from './acknowledgements-sql.ts';

export interface FailuresSql {
  readonly sweep: Statement;
  readonly sweepReads: Statement;
  readonly load: Statement;
  readonly fail: Statement;
  readonly suspect: Statement;
  readonly clear: Statement;
  readonly forget: Statement;
  readonly park: Statement;
  readonly parked: Statement;
  readonly countParked: Statement;
  readonly redrive: Statement;
  readonly discard: Statement;
}

/** Bare columns of the log, of which a redriven row has its change's number negated. */
const columnsOf = (seq: string): string => SINGLE_COLUMNS.replace(/^seq\b/, seq);

export const failuresSql = (names: Names): FailuresSql => {
  const { logTable, lockTable, failedTable, parkedTable, backfillTable, nodeChannel } = names;
  /** $1: public sequences; null for all. */
  const chosen = '($1::text[] IS NULL OR sequence = ANY ($1::text[]))';
  return {
    /** Forgets changes that are no longer in the log. Rows that a backfill has read never were. */
    sweep: {
      name: 'failed_sweep',
      text: `
DELETE FROM ${failedTable.sql} f
WHERE seq < ${READ_NUMBERS} AND NOT EXISTS (SELECT FROM ${logTable.sql} WHERE seq IN (f.seq, ${writtenRowSql('f.seq')}))`,
    },
    /** Forgets rows whose backfills are over. */
    sweepReads: {
      name: 'failed_sweep_reads',
      text: `
DELETE FROM ${failedTable.sql} f
WHERE seq >= ${READ_NUMBERS} AND NOT EXISTS (
  SELECT FROM ${backfillTable.sql} b
  WHERE b.backfill = left(f.sequence, ${BACKFILL_DIGITS})::bigint AND b.sequence = '' AND ${isOpen('b.state')}
)`,
    },
    /** The database's clock may have been set back since a failure. So a change waits at most as long as it was told to, counted from now. */
    load: {
      name: 'failed_load',
      text: `
SELECT sequence, seq::text, attempts, deaths, error,
  coalesce(least(extract(epoch FROM next_at - clock_timestamp()) * 1000, delay), 0)::float8 AS delay
FROM ${failedTable.sql} ORDER BY seq`,
    },
    /** $1: public sequences. $2: holder. $3: token. $4: numbers. $5: attempts. $6: errors. $7: delays in milliseconds. Returns a row if the lease is held. */
    fail: {
      name: 'failed_fail',
      text: `
WITH ${held(lockTable)}, noted AS (
  INSERT INTO ${failedTable.sql} (sequence, seq, attempts, error, next_at, delay)
  SELECT sequence, seq, attempts, error, clock_timestamp() + delay * interval '1 millisecond', delay
  FROM unnest($1::text[], $4::bigint[], $5::integer[], $6::text[], $7::float8[]) f (sequence, seq, attempts, error, delay)
  WHERE EXISTS (SELECT FROM held)
  ON CONFLICT (sequence) DO UPDATE
  SET attempts = excluded.attempts, error = excluded.error, next_at = excluded.next_at, delay = excluded.delay
)
SELECT FROM held`,
    },
    /** $1: public sequences. $2: holder. $3: token. $4: numbers. Returns a row if the lease is held. */
    suspect: {
      name: 'failed_suspect',
      text: `
WITH ${held(lockTable)}, noted AS (
  INSERT INTO ${failedTable.sql} (sequence, seq, deaths)
  SELECT sequence, seq, 1 FROM unnest($1::text[], $4::bigint[]) f (sequence, seq)
  WHERE EXISTS (SELECT FROM held)
  ON CONFLICT (sequence) DO UPDATE SET deaths = ${failedTable.sql}.deaths + 1
)
SELECT FROM held`,
    },
    /** $1: public sequences. $2: holder. $3: token. They caused no death. Returns a row if the lease is held. */
    clear: {
      name: 'failed_clear',
      text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${failedTable.sql} WHERE sequence = ANY ($1::text[]) AND attempts = 0 AND EXISTS (SELECT FROM held)
), cleared AS (
  UPDATE ${failedTable.sql} SET deaths = 0
  WHERE sequence = ANY ($1::text[]) AND attempts > 0 AND deaths > 0 AND EXISTS (SELECT FROM held)
)
SELECT FROM held`,
    },
    /** $1: public sequences. $2: holder. $3: token. Returns a row if the lease is held. */
    forget: {
      name: 'failed_forget',
      text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${failedTable.sql} WHERE sequence = ANY ($1::text[]) AND EXISTS (SELECT FROM held)
)
SELECT FROM held`,
    },
    /**
     * $1: the change's number, in an array. $2: holder. $3: token. $4: the rows that can hold it: its own, or another one that is packed and of the same
     * time. $5: public sequence. $6: attempts. $7: error. Returns a row if the lease is held, and whether the log had the change: the statement does not see a single row that replaced a packed row after the
     * statement had begun. It fails as an acknowledgement does if another transaction has the change. The rest of a packed row is put back.
     */
    park: {
      name: 'log_park',
      text: `
WITH ${held(lockTable)}, gone AS (
  DELETE FROM ${logTable.sql} WHERE seq = ANY ($4::bigint[]) AND EXISTS (SELECT FROM held)
    AND (SELECT set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
    AND CASE WHEN size IS NULL THEN seq = ANY ($1::bigint[]) ELSE $5 = ($1::bigint[])[1]::text || ${STAMP} END
  RETURNING *
), rest AS (
  ${putBack(logTable, 'gone', '$1::bigint[]')}
), parked AS (
  INSERT INTO ${parkedTable.sql} (sequence, ${SINGLE_COLUMNS}, attempts, error)
  SELECT $5, ${SINGLE_COLUMNS}, $6, $7 FROM (
    SELECT single.* FROM (SELECT ${IN_PLACE_OF_ADDED}) absent,
      LATERAL (SELECT ${columnsOf('abs(seq) AS seq')} FROM gone WHERE size IS NULL AND seq = ANY ($1::bigint[])) single
    UNION ALL ${unpacked('gone', 'packed.seq + change.n = ANY ($1::bigint[])')}
  ) change
  WHERE $5 = ${PUBLIC_SEQUENCE}
  ON CONFLICT (sequence) DO NOTHING
), forgotten AS (
  DELETE FROM ${failedTable.sql} WHERE sequence = $5 AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM gone) AS found FROM held`,
    },
    /** $1: how many. $2: after this public sequence; null for the first. */
    parked: {
      name: 'parked_list',
      text: `
SELECT seq::text, at, tbl, id, op, key, NULL::integer AS size, xid::text, ${detailsOf('parked')}, attempts, error, parked_at
FROM ${parkedTable.sql} parked
WHERE $2::text IS NULL OR sequence::numeric > $2::numeric
ORDER BY sequence::numeric LIMIT $1`,
    },
    countParked: { name: 'parked_count', text: `SELECT count(*)::int AS parked FROM ${parkedTable.sql}` },
    /** $1: public sequences; null for all. Returns their number. */
    redrive: {
      name: 'parked_redrive',
      text: `
WITH chosen AS (
  DELETE FROM ${parkedTable.sql} WHERE ${chosen} RETURNING *
), redriven AS (
  ${insertRows(logTable, `SELECT ${columnsOf(`${redrivenSql('seq')} AS seq`)} FROM chosen`)}
  RETURNING seq
), told AS (
  SELECT pg_notify(${quoteLiteral(nodeChannel)}, ${quoteLiteral(encodeNodeMessage({ kind: 'redriven' }))}) FROM redriven LIMIT 1
)
SELECT (SELECT count(*)::int FROM redriven) AS count, (SELECT count(*) FROM told) AS told`,
    },
    /** $1: public sequences; null for all. Returns their number. */
    discard: {
      name: 'parked_discard',
      text: `WITH gone AS (DELETE FROM ${parkedTable.sql} WHERE ${chosen} RETURNING 1) SELECT count(*)::int AS count FROM gone`,
    },
  };
};
