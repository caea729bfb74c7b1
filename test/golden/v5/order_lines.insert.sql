CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_order_lines_insert_50671dff45"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
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
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, 16390::pg_catalog.oid, '{order_id,line,made_at}'::pg_catalog.text[], 4::pg_catalog.int4) THEN
    INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), pg_catalog.concat(r.id), 'INSERT', coalesce(pg_catalog.json_build_object('order_id', pg_catalog.concat(r.order_id), 'line', pg_catalog.concat(r.line), 'made_at', pg_catalog.concat(r.made_at))::pg_catalog.text, 'null') || ' ' FROM new_rows r WHERE NOT EXISTS (SELECT FROM new_rows OFFSET CASE WHEN pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN 50 ELSE 1 END);
    IF FOUND AND pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN
      RETURN NEW;
    ELSIF FOUND THEN
      PERFORM "postgres_input"."announce_postgres_input_golden"(written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), pg_catalog.concat(r.id), 'INSERT', pg_catalog.json_build_object('order_id', pg_catalog.concat(r.order_id), 'line', pg_catalog.concat(r.line), 'made_at', pg_catalog.concat(r.made_at))::pg_catalog.text) FROM new_rows r;
      RETURN NEW;
    ELSIF NOT EXISTS (SELECT FROM new_rows) THEN
      RETURN NEW;
    END IF;
    changes := 'SELECT pg_catalog.concat(r.id) AS id, ''INSERT'' AS op, pg_catalog.json_build_object(''order_id'', pg_catalog.concat(r.order_id), ''line'', pg_catalog.concat(r.line), ''made_at'', pg_catalog.concat(r.made_at))::pg_catalog.text AS key FROM new_rows r';
  END IF;
  EXECUTE "postgres_input"."statement_postgres_input_golden"(TG_RELID, 'insert', changes, NOT EXISTS (SELECT FROM new_rows OFFSET 50))
  USING "postgres_input"."location_postgres_input_golden"(TG_RELID), written_at;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_order_lines_insert_50671dff45"() FROM PUBLIC;

CREATE TRIGGER "order_lines_golden_insert_trigger"
AFTER INSERT ON "public"."order_lines"
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_order_lines_insert_50671dff45"();
