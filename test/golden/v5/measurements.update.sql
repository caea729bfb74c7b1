CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_measurements_update_5d68478bcd"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
SET DateStyle = 'ISO'
SET IntervalStyle = 'postgres'
SET TimeZone = 'UTC'
SET bytea_output = 'hex'
SET extra_float_digits = '1'
SET lc_monetary = 'C'
SET quote_all_identifiers = 'off'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  changes tg_op%TYPE;
BEGIN
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, 16390::pg_catalog.oid, '{day,id}'::pg_catalog.text[], NULL::pg_catalog.int4) THEN
    INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.id, 'UPDATE', coalesce(c.key, 'null') || ' ' FROM (SELECT pg_catalog.concat(r.id) AS id, pg_catalog.json_build_object('day', pg_catalog.concat(r.day), 'id', pg_catalog.concat(r.id))::pg_catalog.text AS key, pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" AS match FROM new_rows r LIMIT 1) c WHERE ARRAY(SELECT pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" FROM old_rows r LIMIT 2) = ARRAY[c.match];
    IF FOUND AND pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN
      RETURN NEW;
    ELSIF FOUND THEN
      PERFORM "postgres_input"."announce_postgres_input_golden"(written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), pg_catalog.concat(r.id), 'UPDATE', pg_catalog.json_build_object('day', pg_catalog.concat(r.day), 'id', pg_catalog.concat(r.id))::pg_catalog.text) FROM new_rows r;
      RETURN NEW;
    ELSIF NOT EXISTS (SELECT FROM old_rows) THEN
      RETURN NEW;
    END IF;
    IF pg_try_advisory_xact_lock_shared(-7228081450872620597) AND NOT EXISTS (SELECT FROM old_rows OFFSET 50) THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.id, c.op, coalesce(c.key, 'null') || ' ' FROM (SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN 'INSERT' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        c.key AS key
      FROM (
        SELECT pg_catalog.concat(r.id) AS id, pg_catalog.json_build_object('day', pg_catalog.concat(r.day), 'id', pg_catalog.concat(r.id))::pg_catalog.text AS key, pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT pg_catalog.concat(r.id) AS id, pg_catalog.json_build_object('day', pg_catalog.concat(r.day), 'id', pg_catalog.concat(r.id))::pg_catalog.text AS key, pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      ) c
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 50)
      ORDER BY c.op <> 'DELETE';
      RETURN NEW;
    END IF;
    changes := 'SELECT coalesce(max(c.id) FILTER (WHERE c.step > 0), max(c.id)) AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''INSERT'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        c.key AS key
      FROM (
        SELECT pg_catalog.concat(r.id) AS id, pg_catalog.json_build_object(''day'', pg_catalog.concat(r.day), ''id'', pg_catalog.concat(r.id))::pg_catalog.text AS key, pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT pg_catalog.concat(r.id) AS id, pg_catalog.json_build_object(''day'', pg_catalog.concat(r.day), ''id'', pg_catalog.concat(r.id))::pg_catalog.text AS key, pg_catalog.array_to_json(ARRAY[pg_catalog.concat(r.day), pg_catalog.concat(r.id)])::pg_catalog.text COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match, c.key
      ';
  END IF;
  EXECUTE "postgres_input"."statement_postgres_input_golden"(TG_RELID, 'update insert delete', changes, NOT EXISTS (SELECT FROM old_rows OFFSET 50))
  USING "postgres_input"."location_postgres_input_golden"(TG_RELID), written_at;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_measurements_update_5d68478bcd"() FROM PUBLIC;

CREATE TRIGGER "measurements_golden_update_trigger"
AFTER UPDATE ON "public"."measurements"
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_measurements_update_5d68478bcd"();
