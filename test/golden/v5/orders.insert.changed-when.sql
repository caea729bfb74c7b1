CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_orders_insert_e457aa329f"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  location tg_op%TYPE;
  asleep found%TYPE;
  body tg_op%TYPE;
  is_known found%TYPE;
  now_known record;
  now_present record;
  logged bigint;
BEGIN
  IF current_setting('postgres_input.origin', true) IN ('golden') THEN
    RETURN NEW;
  END IF;
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, 16390::pg_catalog.oid, '{id}'::pg_catalog.text[], NULL::pg_catalog.int4)
    AND "postgres_input"."columns_postgres_input_golden"(16385::oid, ARRAY[1, 2]::int4[], ARRAY['id', 'note']::text[], 3::int4)
    AND "postgres_input"."columns_postgres_input_golden"(16385::oid, ARRAY[2]::int4[], ARRAY['note']::text[], NULL::int4) THEN
    is_known := true;
  END IF;
  location := CASE TG_TABLE_SCHEMA WHEN 'public' THEN TG_TABLE_NAME ELSE TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME END;
  asleep := NOT pg_try_advisory_xact_lock_shared(-7228081450872620597);
  IF is_known THEN
    INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, after, shape)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END, c.after, '37ec2c5f4ca93e1b' FROM (SELECT pg_catalog.concat(r.id) AS id, 'INSERT' AS op, '"id"'::pg_catalog.text AS key, concat(ROW(r."id", r."note")) AS after
      FROM new_rows r WHERE "postgres_input"."shape_of_postgres_input_golden"(ARRAY['id', 'note']::text[], ROW(CASE WHEN false THEN r."id" END, CASE WHEN false THEN r."note" END)) = '[["id",2950],["note",25]]'::jsonb AND coalesce(greatest(pg_column_size(r."note")) <= 8192, true) AND CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"((SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y), (SELECT x.*::record FROM (SELECT r."note" AS "note") x)) ELSE true END OFFSET 0) c WHERE NOT EXISTS (SELECT FROM new_rows OFFSET 1) AND octet_length(c.after) <= 1000000;
    IF NOT FOUND THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, after, shape)
      SELECT written_at, location, c.id, c.op, coalesce(c.key, 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END, CASE WHEN (octet_length(c.after) <= 1000000) IS NOT FALSE THEN c.after END, CASE WHEN coalesce(c.after) IS NULL THEN NULL WHEN (octet_length(c.after) <= 1000000) IS NOT FALSE THEN '37ec2c5f4ca93e1b' ELSE 'too-large' END FROM (SELECT pg_catalog.concat(r.id) AS id, 'INSERT' AS op, '"id"'::pg_catalog.text AS key, concat(ROW(r."id", r."note")) AS after FROM new_rows r WHERE "postgres_input"."shape_of_postgres_input_golden"(ARRAY['id', 'note']::text[], ROW(CASE WHEN false THEN r."id" END, CASE WHEN false THEN r."note" END)) = '[["id",2950],["note",25]]'::jsonb AND CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"((SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y), (SELECT x.*::record FROM (SELECT r."note" AS "note") x)) ELSE true END OFFSET 0) c
      WHERE NOT EXISTS (SELECT FROM new_rows OFFSET 50) AND NOT EXISTS (SELECT FROM new_rows r WHERE NOT (coalesce(greatest(pg_column_size(r."note")) <= 8192, true)))
      ;
    END IF;
    IF NOT FOUND AND EXISTS (SELECT FROM new_rows) THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size, after, shape)
      SELECT written_at, location,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, ',') FILTER (WHERE c.shared IS NULL) ELSE '[' || string_agg(c.key, ',') FILTER (WHERE c.shared IS NULL) || ']' END), 'null') || CASE WHEN current_setting('postgres_input.failed_condition_7725e9b12d', true) = 'failed' THEN '  ' ELSE ' ' END,
        nullif(count(*), 1), string_agg(c.after, ''), c.shape
      FROM (
        SELECT c.*, (row_number() OVER w - 1) / 100 AS pack, sum(coalesce(octet_length(c.after), 0)) OVER w / 65536 AS part,
          CASE WHEN left(c.key, 1) = '"' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR c.shape IN ('too-large', 'unreadable') OR coalesce(octet_length(c.after), 0) >= 65536 THEN row_number() OVER w END AS long
        FROM (SELECT c.id, c.op, c.key, CASE WHEN (octet_length(c.after) <= 1000000 AND starts_with(c.after, '(')) IS NOT FALSE THEN c.after END AS after, CASE WHEN coalesce(c.after) IS NULL THEN NULL WHEN (octet_length(c.after) <= 1000000 AND starts_with(c.after, '(')) IS NOT FALSE THEN '37ec2c5f4ca93e1b' WHEN 'unreadable' IN (c.after) THEN 'unreadable' ELSE 'too-large' END AS shape FROM (SELECT pg_catalog.concat(r.id) AS id, 'INSERT' AS op, '"id"'::pg_catalog.text AS key, CASE WHEN coalesce(greatest(pg_column_size(r."note")) <= 8192, true) THEN concat(ROW(r."id", r."note")) WHEN coalesce(pg_column_size(r."note"), 0)::int8 <= 8008192 AND "postgres_input"."length_postgres_input_golden"(CASE WHEN true THEN r."note" END)::int8 <= 1000000 THEN "postgres_input"."print_postgres_input_golden"(ROW(r."id", r."note")) ELSE 'too-large' END AS after FROM new_rows r WHERE "postgres_input"."shape_of_postgres_input_golden"(ARRAY['id', 'note']::text[], ROW(CASE WHEN false THEN r."id" END, CASE WHEN false THEN r."note" END)) = '[["id",2950],["note",25]]'::jsonb AND CASE WHEN "postgres_input"."shape_of_postgres_input_golden"(ARRAY['note']::text[], ROW(CASE WHEN false THEN r."note" END)) = '[["note",25]]'::jsonb AND coalesce(pg_column_size(r."note"), 0)::int8 <= 250000000 THEN "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"((SELECT y.*::record FROM (SELECT x."note" FROM (SELECT) o LEFT JOIN (SELECT r."note" AS "note" FROM new_rows r WHERE false) x ON true) y), (SELECT x.*::record FROM (SELECT r."note" AS "note") x)) ELSE true END OFFSET 0) c) c WINDOW w AS (ROWS UNBOUNDED PRECEDING)
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long, c.part, c.shape
      ORDER BY c.op <> 'DELETE', c.pack, c.part;
      is_known := FOUND OR EXISTS (SELECT FROM new_rows r WHERE "postgres_input"."shape_of_postgres_input_golden"(ARRAY['id', 'note']::text[], ROW(CASE WHEN false THEN r."id" END, CASE WHEN false THEN r."note" END)) = '[["id",2950],["note",25]]'::jsonb);
    END IF;
    GET DIAGNOSTICS logged = ROW_COUNT;
    IF logged > 0 THEN
      body := '';
    END IF;
  END IF;
  IF is_known IS NOT TRUE THEN
    SELECT * INTO now_known FROM "postgres_input"."identity_postgres_input_golden"(TG_RELID);
    SELECT * INTO now_present FROM "postgres_input"."present_postgres_input_golden"(TG_RELID, NULL::text[], true);
    IF now_present.doubtful THEN
      BEGIN
        EXECUTE format('SELECT %s FROM new_rows r LIMIT 1', now_present.size);
      EXCEPTION WHEN internal_error THEN
        SELECT * INTO now_present FROM "postgres_input"."present_postgres_input_golden"(TG_RELID, NULL::text[], false);
      END;
    END IF;
    EXECUTE format('INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key, size, after, shape)
      SELECT $2, $1,
        CASE count(*) WHEN 1 THEN (array_agg(c.id))[1] ELSE array_to_json(array_agg(c.id))::text END,
        c.op,
        coalesce(coalesce(c.shared, CASE count(*) WHEN 1 THEN string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) ELSE ''['' || string_agg(c.key, '','') FILTER (WHERE c.shared IS NULL) || '']'' END), ''null'') || '' '',
        nullif(count(*), 1), string_agg(c.after, ''''), c.shape
      FROM (
        SELECT c.*, (row_number() OVER w - 1) / 100 AS pack, sum(coalesce(octet_length(c.after), 0)) OVER w / 65536 AS part,
          CASE WHEN left(c.key, 1) = ''"'' THEN c.key END AS shared,
          CASE WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR c.shape IN (''too-large'', ''unreadable'') OR coalesce(octet_length(c.after), 0) >= 65536 THEN row_number() OVER w END AS long
        FROM (SELECT c.id, c.op, c.key, CASE WHEN (octet_length(c.after) <= 1000000 AND starts_with(c.after, ''('')) IS NOT FALSE THEN c.after END AS after, CASE WHEN coalesce(c.after) IS NULL THEN NULL WHEN (octet_length(c.after) <= 1000000 AND starts_with(c.after, ''('')) IS NOT FALSE THEN (SELECT "postgres_input"."shape_of_postgres_input_golden"(%7$s, ROW(%5$s))::text
        FROM (SELECT) o LEFT JOIN (SELECT %4$s FROM new_rows r WHERE false) r ON true) WHEN ''unreadable'' IN (c.after) THEN ''unreadable'' ELSE ''too-large'' END AS shape FROM (SELECT %1$s AS id, ''INSERT'' AS op, %2$s AS key, CASE WHEN %6$s <= 8008192 THEN "postgres_input"."print_postgres_input_golden"(ROW(%4$s)) ELSE ''too-large'' END AS after FROM new_rows r OFFSET 0) c) c WINDOW w AS (ROWS UNBOUNDED PRECEDING)
      ) c
      GROUP BY c.pack, c.op, c.shared, c.long, c.part, c.shape
      ORDER BY c.op <> ''DELETE'', c.pack, c.part', now_known.id, now_known.key, now_known.match,
      now_present.columns, now_present.typed, now_present.size, now_present.names)
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

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_orders_insert_e457aa329f"() FROM PUBLIC;

CREATE TRIGGER "orders_golden_insert_trigger"
AFTER INSERT ON "public"."orders"
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_orders_insert_e457aa329f"();
