CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_notes_insert_27da7be200"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  changes tg_op%TYPE;
BEGIN
  IF TG_RELID = 16385 AND "postgres_input"."guard_postgres_input_golden"(16385::pg_catalog.oid, NULL::pg_catalog.oid, '{}'::pg_catalog.text[], NULL::pg_catalog.int4) THEN
    INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), ''::pg_catalog.text, 'INSERT', coalesce(NULL::pg_catalog.text, 'null') || ' ' FROM new_rows r WHERE NOT EXISTS (SELECT FROM new_rows OFFSET CASE WHEN pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN 50 ELSE 1 END);
    IF FOUND AND pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN
      RETURN NEW;
    ELSIF FOUND THEN
      PERFORM "postgres_input"."announce_postgres_input_golden"(written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), ''::pg_catalog.text, 'INSERT', NULL::pg_catalog.text) FROM new_rows r;
      RETURN NEW;
    ELSIF NOT EXISTS (SELECT FROM new_rows) THEN
      RETURN NEW;
    END IF;
    changes := 'SELECT ''''::pg_catalog.text AS id, ''INSERT'' AS op, NULL::pg_catalog.text AS key FROM new_rows r';
  END IF;
  EXECUTE "postgres_input"."statement_postgres_input_golden"(TG_RELID, 'insert', changes, NOT EXISTS (SELECT FROM new_rows OFFSET 50))
  USING "postgres_input"."location_postgres_input_golden"(TG_RELID), written_at;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_notes_insert_27da7be200"() FROM PUBLIC;

CREATE TRIGGER "notes_golden_insert_trigger"
AFTER INSERT ON "public"."notes"
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_notes_insert_27da7be200"();
