/** The statements that keep backfills: what was asked for, how far it is, and what callers' transactions have acknowledged. */
import { quoteLiteral } from '../postgres/quoting.ts';
import type { Statement } from '../postgres/session.ts';
import { NEW_BACKFILL, estimateOf, isOpen, tellOfBackfill } from '../schema/initial-backfill.ts';
import { READ, SINGLE_COLUMNS } from '../schema/log-layout.ts';
import { LEASE_RESOURCE, type Names, locationByNames } from '../schema/names.ts';
import { LOCK_TIMEOUT, held } from './acknowledgements-sql.ts';

export interface BackfillSql {
  readonly mayTakePart: Statement;
  readonly load: Statement;
  readonly acknowledged: Statement;
  readonly begin: Statement;
  readonly finish: Statement;
  readonly fail: Statement;
  readonly keep: Statement;
  readonly held: Statement;
  readonly acknowledgeInTransaction: string;
  readonly park: Statement;
  readonly request: Statement;
  readonly progress: Statement;
  readonly turn: Statement;
  readonly latest: Statement;
}

export const backfillSql = (names: Names): BackfillSql => {
  const { backfillTable: table, lockTable, failedTable, parkedTable } = names;
  const told = tellOfBackfill(names);
  const one = `backfill = $1::bigint AND relation = $4::oid AND sequence = ''`;
  return {
    mayTakePart: {
      name: 'backfill_may_take_part',
      text: `
SELECT bool_and(has_table_privilege(to_regclass(${quoteLiteral(table.sql)}), privilege)) AS take
FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) privilege`,
    },
    /**
     * What is to be done. A restored dump has the tables under other oids, so the table of a backfill is the one that has its location now. If there
     * is none, it may have been renamed, and the oid tells. Forgets the events of backfills that are over, if the lease is held. $1: backfills of which
     * events are out: one that is cancelled may need them. $2: holder. $3: token.
     */
    load: {
      name: 'backfill_load',
      text: `
WITH ${held(lockTable)}, swept AS (
  DELETE FROM ${table.sql} e WHERE relation = 0 AND backfill <> ALL ($1::bigint[]) AND EXISTS (SELECT FROM held) AND NOT EXISTS (
    SELECT FROM ${table.sql} b WHERE b.backfill = e.backfill AND b.sequence = '' AND ${isOpen('b.state')}
  )
)
SELECT DISTINCT ON (backfill, location, relation) backfill::text, relation::text, coalesce(named.oid, relation)::text AS table,
  location, condition, chunk, key_columns AS "keyColumns", coalesce(after, '{}') AS after, state
FROM ${table.sql} LEFT JOIN (
  SELECT c.oid, ${locationByNames('n.nspname', 'c.relname::text')} AS location
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')
) named USING (location)
WHERE sequence = '' AND ${isOpen()} ORDER BY backfill, location, relation, named.oid = relation DESC`,
    },
    /** The events of a backfill, $1, that were acknowledged one by one. */
    acknowledged: {
      name: 'backfill_acknowledged',
      text: `SELECT sequence FROM ${table.sql} WHERE backfill = $1::bigint AND relation = 0`,
    },
    // In the next three: $1: the backfill. $2: holder. $3: token. $4: the table. They return a row if the lease is held.
    begin: {
      name: 'backfill_begin',
      text: `
WITH ${held(lockTable)}, begun AS (
  UPDATE ${table.sql} SET state = CASE state WHEN 'waiting' THEN 'running' ELSE state END, key_columns = $5, after = NULL, changed_at = clock_timestamp()
  WHERE ${one} AND state <> 'done' AND EXISTS (SELECT FROM held)
)
SELECT FROM held`,
    },
    /**
     * $5: the last key of the chunk; null: the progress stays where it is. $6: how many rows were handed out. $7: whether the table is done. $8: the
     * chunk's sequences that callers have acknowledged. Returns whether the backfill of the table is done.
     */
    finish: {
      name: 'backfill_finish',
      text: `
WITH ${held(lockTable)}, moved AS (
  UPDATE ${table.sql} SET after = coalesce($5::text[], after), done = done + $6::bigint, changed_at = clock_timestamp(),
    state = CASE WHEN $7::boolean AND state <> 'cancelled' THEN 'done' ELSE state END
  WHERE ${one} AND EXISTS (SELECT FROM held)
  RETURNING state
), cleared AS (
  DELETE FROM ${table.sql} WHERE backfill = $1::bigint AND relation = 0 AND sequence = ANY ($8::text[]) AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM moved WHERE state = 'done') AS found FROM held`,
    },
    /** $5: why the table can't be read. Returns whether the backfill was still open. */
    fail: {
      name: 'backfill_fail',
      text: `
WITH ${held(lockTable)}, failed AS (
  UPDATE ${table.sql} SET state = 'cancelled', error = $5, changed_at = clock_timestamp()
  WHERE ${one} AND ${isOpen()} AND EXISTS (SELECT FROM held)
  RETURNING 1
)
SELECT EXISTS (SELECT FROM failed) AS found FROM held`,
    },
    /** $1: backfills. $2: holder. $3: token. $4: for each an event that was acknowledged, although its chunk was not. */
    keep: {
      name: 'backfill_keep',
      text: `
WITH ${held(lockTable)}, kept AS (
  INSERT INTO ${table.sql} (backfill, relation, sequence)
  SELECT backfill, 0, sequence FROM unnest($1::bigint[], $4::text[]) e (backfill, sequence) WHERE EXISTS (SELECT FROM held)
  ON CONFLICT DO NOTHING
)
SELECT FROM held`,
    },
    /** $1: holder. $2: token. Returns a row if the lease is held. */
    held: {
      name: 'backfill_held',
      text: `SELECT FROM ${lockTable.sql} WHERE resource = ${LEASE_RESOURCE} AND holder = $1 AND token = $2`,
    },
    /**
     * Runs in the caller's transaction, under the caller's search_path. $1: the backfill. $2: the event. $3: the token under which it was handed
     * out. A transaction that acknowledges the same event waits for the first one to end. The lease is as the transaction's snapshot shows it.
     */
    acknowledgeInTransaction: `
INSERT INTO ${table.sql} (backfill, relation, sequence)
SELECT $1::pg_catalog.int8, 0, $2::pg_catalog.text WHERE EXISTS (
  SELECT FROM ${lockTable.sql} WHERE resource OPERATOR(pg_catalog.=) ${LEASE_RESOURCE} AND token OPERATOR(pg_catalog.=) $3::pg_catalog.int8
)
ON CONFLICT DO NOTHING
RETURNING pg_catalog.current_setting('transaction_isolation') AS isolation`,
    /**
     * Parks the event of a row that was read, and acknowledges it beside the progress, unless it is acknowledged already. It fails as an acknowledgement of a
     * change does if an open transaction has acknowledged it. $1: the event. $2: holder. $3: token. $4: the backfill.
     * $5: the event's number. $6 to $10: time, location, id, key, row. $11: shape. $12: attempts. $13: error.
     */
    park: {
      name: 'backfill_park',
      text: `
WITH ${held(lockTable)}, kept AS (
  INSERT INTO ${table.sql} (backfill, relation, sequence)
  SELECT $4::bigint, 0, $1 WHERE EXISTS (SELECT FROM held) AND (SELECT set_config('lock_timeout', '${LOCK_TIMEOUT}', true)) IS NOT NULL
  ON CONFLICT DO NOTHING
  RETURNING 1
), parked AS (
  INSERT INTO ${parkedTable.sql} (sequence, ${SINGLE_COLUMNS}, attempts, error)
  SELECT $1, $5::bigint, pg_current_xact_id(), $6::timestamptz, $7, $8, '${READ}', coalesce($9, 'null') || ' ', NULL, $10, $11, $1, NULL, $12::integer, $13
  FROM kept
  ON CONFLICT (sequence) DO NOTHING
), forgotten AS (
  DELETE FROM ${failedTable.sql} WHERE sequence = $1 AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM kept) AS found FROM held`,
    },
    /** $1: oids of tables. $2: their locations. $3: condition. $4: rows at once. Returns the backfill's id. */
    request: {
      name: 'backfill_request',
      text: `
WITH asked AS (
  INSERT INTO ${table.sql} (backfill, relation, location, condition, chunk, state, estimated)
  SELECT id, asked.relation, asked.location, $3, $4::integer, 'waiting', ${estimateOf('asked.relation')}
  FROM (SELECT ${NEW_BACKFILL} AS id OFFSET 0) new, unnest($1::oid[], $2::text[]) asked (relation, location)
  RETURNING backfill
)
SELECT id, ${told} FROM (SELECT DISTINCT backfill::text AS id FROM asked) asked`,
    },
    /** $1: the backfill. */
    progress: {
      name: 'backfill_progress',
      text: `
SELECT location AS table, done::float8 AS done, greatest(estimated, done, 0)::float8 AS estimated, state, error
FROM ${table.sql} WHERE backfill = $1::bigint AND sequence = '' ORDER BY location`,
    },
    /** $1: the backfill. $2: the new state. $3: the states in which it can be turned. Returns how many tables have turned. */
    turn: {
      name: 'backfill_turn',
      text: `
WITH turned AS (
  UPDATE ${table.sql} SET state = CASE WHEN $2 = 'waiting' AND key_columns IS NOT NULL THEN 'running' ELSE $2 END, changed_at = clock_timestamp()
  WHERE backfill = $1::bigint AND sequence = '' AND state = ANY ($3::text[]) RETURNING 1
)
SELECT (SELECT count(*)::int FROM turned) AS count, ${told}`,
    },
    /** The backfills that are not over, the newest first. */
    latest: {
      name: 'backfill_latest',
      text: `
SELECT DISTINCT backfill::text AS id FROM ${table.sql}
WHERE sequence = '' AND ${isOpen()} ORDER BY 1 DESC`,
    },
  };
};
