CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  changes tg_op%TYPE;
BEGIN
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, 16390::pg_catalog.oid, '{id}'::pg_catalog.text[], NULL::pg_catalog.int4) THEN
    INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.match, 'UPDATE', coalesce('"id"'::pg_catalog.text, 'null') || ' ' FROM (SELECT pg_catalog.concat(r.id) COLLATE "C" AS match FROM new_rows r LIMIT 1) c WHERE ARRAY(SELECT pg_catalog.concat(r.id) COLLATE "C" FROM old_rows r LIMIT 2) = ARRAY[c.match];
    IF FOUND AND pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN
      RETURN NEW;
    ELSIF FOUND THEN
      PERFORM "postgres_input"."announce_postgres_input_golden"(written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), pg_catalog.concat(r.id), 'UPDATE', '"id"'::pg_catalog.text) FROM new_rows r;
      RETURN NEW;
    ELSIF NOT EXISTS (SELECT FROM old_rows) THEN
      RETURN NEW;
    END IF;
    IF pg_try_advisory_xact_lock_shared(-7228081450872620597) AND NOT EXISTS (SELECT FROM old_rows OFFSET 50) THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.id, c.op, coalesce(c.key, 'null') || ' ' FROM (SELECT c.match AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN 'UPDATE' WHEN -1 THEN 'DELETE' ELSE 'UPDATE' END AS op,
        '"id"'::pg_catalog.text AS key
      FROM (
        SELECT pg_catalog.concat(r.id) COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT pg_catalog.concat(r.id) COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match
      ) c
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 50)
      ORDER BY c.op <> 'DELETE';
      RETURN NEW;
    END IF;
    changes := 'SELECT c.match AS id,
        CASE sign(sum(c.step)) WHEN 1 THEN ''UPDATE'' WHEN -1 THEN ''DELETE'' ELSE ''UPDATE'' END AS op,
        ''"id"''::pg_catalog.text AS key
      FROM (
        SELECT pg_catalog.concat(r.id) COLLATE "C" AS match, -1 AS step FROM old_rows r
        UNION ALL
        SELECT pg_catalog.concat(r.id) COLLATE "C" AS match, 1 AS step FROM new_rows r
      ) c
      GROUP BY c.match
      ';
  END IF;
  EXECUTE "postgres_input"."statement_postgres_input_golden"(TG_RELID, 'update delete', changes, NOT EXISTS (SELECT FROM old_rows OFFSET 50))
  USING "postgres_input"."location_postgres_input_golden"(TG_RELID), written_at;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"() FROM PUBLIC;

CREATE TRIGGER "orders_golden_update_trigger"
AFTER UPDATE ON "public"."orders"
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_orders_update_e39bc3763e"();
