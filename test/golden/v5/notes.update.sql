CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_notes_update_2efa9eb86f"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
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
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.id, 'UPDATE', coalesce(c.key, 'null') || ' ' FROM (SELECT ''::pg_catalog.text AS id, NULL::pg_catalog.text AS key FROM new_rows r LIMIT 1) c WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 1);
    IF FOUND AND pg_try_advisory_xact_lock_shared(-7228081450872620597) THEN
      RETURN NEW;
    ELSIF FOUND THEN
      PERFORM "postgres_input"."announce_postgres_input_golden"(written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), ''::pg_catalog.text, 'UPDATE', NULL::pg_catalog.text) FROM new_rows r;
      RETURN NEW;
    ELSIF NOT EXISTS (SELECT FROM old_rows) THEN
      RETURN NEW;
    END IF;
    IF pg_try_advisory_xact_lock_shared(-7228081450872620597) AND NOT EXISTS (SELECT FROM old_rows OFFSET 50) THEN
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, "postgres_input"."location_postgres_input_golden"(16385::oid), c.id, c.op, coalesce(c.key, 'null') || ' ' FROM (SELECT ''::pg_catalog.text AS id, 'UPDATE' AS op, NULL::pg_catalog.text AS key FROM new_rows r) c
      WHERE NOT EXISTS (SELECT FROM old_rows OFFSET 50)
      ORDER BY c.op <> 'DELETE';
      RETURN NEW;
    END IF;
    changes := 'SELECT ''''::pg_catalog.text AS id, ''UPDATE'' AS op, NULL::pg_catalog.text AS key FROM new_rows r';
  END IF;
  EXECUTE "postgres_input"."statement_postgres_input_golden"(TG_RELID, 'update insert delete', changes, NOT EXISTS (SELECT FROM old_rows OFFSET 50))
  USING "postgres_input"."location_postgres_input_golden"(TG_RELID), written_at;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_notes_update_2efa9eb86f"() FROM PUBLIC;

CREATE TRIGGER "notes_golden_update_trigger"
AFTER UPDATE ON "public"."notes"
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_notes_update_2efa9eb86f"();
