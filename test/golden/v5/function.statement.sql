CREATE OR REPLACE FUNCTION "postgres_input"."statement_postgres_input_golden"(relation oid, events text, changes text, few boolean) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
DECLARE
  awake boolean := pg_try_advisory_xact_lock_shared(-7228081450872620597);
BEGIN
  IF changes IS NULL THEN
    few := false;
    SELECT format(CASE
      WHEN events = 'insert' THEN 'SELECT %1$s AS id, ''INSERT'' AS op, %2$s AS key FROM new_rows r'
      WHEN events = 'delete' THEN 'SELECT %1$s AS id, ''DELETE'' AS op, %2$s AS key FROM old_rows r'
      WHEN now_known.match IS NULL THEN 'SELECT %1$s AS id, ''UPDATE'' AS op, %2$s AS key FROM new_rows r'
      WHEN events = 'update insert delete' THEN 'SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''INSERT'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      '
      WHEN events = 'update insert' THEN 'SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''INSERT'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      HAVING sum(c.step) >= 0'
      WHEN events = 'update delete' THEN 'SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''UPDATE'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      '
      ELSE 'SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''UPDATE'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      HAVING sum(c.step) >= 0' END, now_known.id, now_known.key, now_known.match)
    INTO changes FROM "postgres_input"."identity_postgres_input_golden"(relation) now_known;
  END IF;
  RETURN replace(CASE
    WHEN few AND awake THEN 'INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT $2, $1, c.id, c.op, coalesce(c.key, ''null'') || '' '' FROM ($changes$) c ORDER BY c.op <> ''DELETE'''
    WHEN few THEN 'WITH change AS (
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT $2, $1, c.id, c.op, coalesce(c.key, ''null'') || '' '' FROM ($changes$) c ORDER BY c.op <> ''DELETE''
      RETURNING *
    )
    SELECT "postgres_input"."notify_postgres_input_golden"(CASE WHEN bool_or(c.long) THEN '''' ELSE string_agg(json_build_object(
      ''seq'', (c.seq)::text, ''xid'', c.xid::text, ''at'', c.at AT TIME ZONE ''UTC'',
      ''tbl'', c.tbl, ''id'', c.id, ''op'', c.op, ''key'', c.key::json, ''version'', 5)::text, '','' ORDER BY c.seq) FILTER (WHERE NOT c.long) END)
    FROM (SELECT NULL::text AS before, NULL::text AS after, NULL::text AS shape, NULL::text AS origin, NULL::text AS context) absent,
      LATERAL (SELECT *, octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR num_nonnulls(shape, origin, context) > 0 AS long FROM change) c
    HAVING count(*) > 0'
    WHEN awake THEN 'INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size)
      SELECT $2, $1,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) ELSE ''['' || string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) || '']'' END), ''null'') || '' '',
        nullif(count(*), 1)
      FROM (
        SELECT c.*, (row_number() OVER () - 1) / 100 AS pack,
          CASE WHEN left(c.key, 1) = ''"'' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 THEN row_number() OVER () END AS long
        FROM ($changes$) c
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long
      ORDER BY c.op <> ''DELETE'', c.pack'
    ELSE 'WITH change AS (
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size)
      SELECT $2, $1,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) ELSE ''['' || string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) || '']'' END), ''null'') || '' '',
        nullif(count(*), 1)
      FROM (
        SELECT c.*, (row_number() OVER () - 1) / 100 AS pack,
          CASE WHEN left(c.key, 1) = ''"'' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 THEN row_number() OVER () END AS long
        FROM ($changes$) c
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long
      ORDER BY c.op <> ''DELETE'', c.pack
      RETURNING seq
    )
    SELECT "postgres_input"."notify_postgres_input_golden"('''') FROM change LIMIT 1' END, '$changes$', changes);
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."statement_postgres_input_golden"(relation oid, events text, changes text, few boolean) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."statement_postgres_input_golden"(relation oid, events text, changes text, few boolean) OWNER TO "owner";
