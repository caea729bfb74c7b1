CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  location tg_op%TYPE;
  asleep found%TYPE;
  body tg_op%TYPE;
  now_known record;
  logged bigint;
BEGIN
  location := CASE TG_TABLE_SCHEMA WHEN 'public' THEN TG_TABLE_NAME ELSE TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME END;
  asleep := NOT pg_try_advisory_xact_lock_shared(-7228081450872620597);
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, 16390::pg_catalog.oid, '{id}'::pg_catalog.text[], NULL::pg_catalog.int4)
    AND "postgres_input"."columns_postgres_input_golden"(16385::oid, ARRAY[2]::int4[], ARRAY['note']::text[], NULL::int4) THEN
    IF asleep THEN
      WITH change AS (
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END FROM (SELECT n.id, 'UPDATE' AS op, n.key
      FROM (SELECT pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM old_rows r) o,
        (SELECT pg_catalog.concat(r.id) AS id, '"id"'::pg_catalog.text AS key, pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM new_rows r) n
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 1) AND NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND (o.match = n.match COLLATE "C") IS TRUE AND CASE WHEN o.told AND n.told THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce(o.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce(n.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) c
      RETURNING *
    )
    SELECT CASE WHEN bool_or(c.long) THEN '' ELSE string_agg(json_build_object(
      'seq', (c.seq)::text, 'xid', c.xid::text, 'at', c.at AT TIME ZONE 'UTC',
      'tbl', c.tbl, 'id', c.id, 'op', c.op, 'key', c.key::json, 'version', 5)::text, ',' ORDER BY c.seq) FILTER (WHERE NOT c.long) END
    FROM (SELECT NULL::text AS before, NULL::text AS after, NULL::text AS shape, NULL::text AS origin, NULL::text AS context) absent,
      LATERAL (SELECT *, octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR num_nonnulls(shape, origin, context) > 0 AS long FROM change) c
    HAVING count(*) > 0 INTO body;
    ELSE
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END FROM (SELECT n.id, 'UPDATE' AS op, n.key
      FROM (SELECT pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM old_rows r) o,
        (SELECT pg_catalog.concat(r.id) AS id, '"id"'::pg_catalog.text AS key, pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM new_rows r) n
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 1) AND NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND (o.match = n.match COLLATE "C") IS TRUE AND CASE WHEN o.told AND n.told THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce(o.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce(n.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) c;
    END IF;
    IF NOT FOUND THEN
      IF EXISTS (SELECT FROM (SELECT pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM old_rows r) o, (SELECT pg_catalog.concat(r.id) AS match, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen FROM new_rows r) n
        WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 1) AND NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND (o.match = n.match COLLATE "C") IS TRUE AND (CASE WHEN o.told AND n.told THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce(o.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce(n.seen, (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) IS NOT TRUE) THEN
        RETURN NEW;
      END IF;
    IF asleep THEN
      WITH change AS (
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END FROM (SELECT c.match AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN 'INSERT' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        '"id"'::pg_catalog.text AS key
      FROM (
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match
      HAVING CASE WHEN bool_and(c.told) THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce((array_agg(c.seen) FILTER (WHERE c.step < 0))[array_position(array_agg(c.n) FILTER (WHERE c.step < 0), min(c.n) FILTER (WHERE c.step < 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce((array_agg(c.seen) FILTER (WHERE c.step > 0))[array_position(array_agg(c.n) FILTER (WHERE c.step > 0), max(c.n) FILTER (WHERE c.step > 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) c
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 50)
      ORDER BY c.op <> 'DELETE'
      RETURNING *
    )
    SELECT CASE WHEN bool_or(c.long) THEN '' ELSE string_agg(json_build_object(
      'seq', (c.seq)::text, 'xid', c.xid::text, 'at', c.at AT TIME ZONE 'UTC',
      'tbl', c.tbl, 'id', c.id, 'op', c.op, 'key', c.key::json, 'version', 5)::text, ',' ORDER BY c.seq) FILTER (WHERE NOT c.long) END
    FROM (SELECT NULL::text AS before, NULL::text AS after, NULL::text AS shape, NULL::text AS origin, NULL::text AS context) absent,
      LATERAL (SELECT *, octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR num_nonnulls(shape, origin, context) > 0 AS long FROM change) c
    HAVING count(*) > 0 INTO body;
    ELSE
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END FROM (SELECT c.match AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN 'INSERT' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        '"id"'::pg_catalog.text AS key
      FROM (
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match
      HAVING CASE WHEN bool_and(c.told) THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce((array_agg(c.seen) FILTER (WHERE c.step < 0))[array_position(array_agg(c.n) FILTER (WHERE c.step < 0), min(c.n) FILTER (WHERE c.step < 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce((array_agg(c.seen) FILTER (WHERE c.step > 0))[array_position(array_agg(c.n) FILTER (WHERE c.step > 0), max(c.n) FILTER (WHERE c.step > 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) c
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 50)
      ORDER BY c.op <> 'DELETE';
    END IF;
    END IF;
    IF NOT FOUND AND EXISTS (SELECT FROM old_rows OFFSET 50) THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size)
      SELECT written_at, location,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, ',') FILTER (WHERE c.shared IS NULL) ELSE '[' || string_agg(c.key, ',') FILTER (WHERE c.shared IS NULL) || ']' END), 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END,
        nullif(count(*), 1)
      FROM (
        SELECT c.*, (row_number() OVER () - 1) / 100 AS pack,
          CASE WHEN left(c.key, 1) = '"' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 THEN row_number() OVER () END AS long
        FROM (SELECT c.match AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN 'INSERT' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        '"id"'::pg_catalog.text AS key
      FROM (
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT row_number() OVER () AS n, "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 AS told, CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN (SELECT x.*::record FROM (SELECT r."note" AS "note") x) END AS seen, pg_catalog.concat(r.id) COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match
      HAVING CASE WHEN bool_and(c.told) THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(coalesce((array_agg(c.seen) FILTER (WHERE c.step < 0))[array_position(array_agg(c.n) FILTER (WHERE c.step < 0), min(c.n) FILTER (WHERE c.step < 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM old_rows r WHERE false) x ON true) y)), coalesce((array_agg(c.seen) FILTER (WHERE c.step > 0))[array_position(array_agg(c.n) FILTER (WHERE c.step > 0), max(c.n) FILTER (WHERE c.step > 0))], (SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y))) ELSE true END) c
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long
      ORDER BY c.op <> 'DELETE', c.pack;
      body := '';
    END IF;
  ELSE
    SELECT * INTO now_known FROM "postgres_input"."identity_postgres_input_golden"(TG_RELID);
    EXECUTE format(CASE WHEN now_known.match IS NULL THEN 'INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size)
      SELECT $2, $1,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) ELSE ''['' || string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) || '']'' END), ''null'') || '' '',
        nullif(count(*), 1)
      FROM (
        SELECT c.*, (row_number() OVER () - 1) / 100 AS pack,
          CASE WHEN left(c.key, 1) = ''"'' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 THEN row_number() OVER () END AS long
        FROM (SELECT %1$s AS id, ''UPDATE'' AS op, %2$s AS key FROM new_rows r) c
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long
      ORDER BY c.op <> ''DELETE'', c.pack' ELSE 'INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size)
      SELECT $2, $1,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) ELSE ''['' || string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) || '']'' END), ''null'') || '' '',
        nullif(count(*), 1)
      FROM (
        SELECT c.*, (row_number() OVER () - 1) / 100 AS pack,
          CASE WHEN left(c.key, 1) = ''"'' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 THEN row_number() OVER () END AS long
        FROM (SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''INSERT'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT %1$s AS id, %2$s AS key, %3$s COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      ) c
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long
      ORDER BY c.op <> ''DELETE'', c.pack' END, now_known.id, now_known.key, now_known.match)
    USING location, written_at;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged > 0 THEN
      body := '';
    END IF;
  END IF;
  IF current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN
    PERFORM set_config('postgres_input.failed_condition_7725e9b12d', '', true);
    body := left(body, 0);
  END IF;
  IF asleep AND body IS NOT NULL THEN
    PERFORM "postgres_input"."notify_postgres_input_golden"(body);
  END IF;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"() FROM PUBLIC;

CREATE TRIGGER "orders_golden_update_trigger"
AFTER UPDATE ON "public"."orders"
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"();
