CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_notes_truncate_b002acc57a"() RETURNS trigger LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
#variable_conflict use_variable
DECLARE
  written_at "postgres_input"."log_postgres_input_golden".at%TYPE := clock_timestamp();
  location tg_op%TYPE;
  asleep found%TYPE;
  body tg_op%TYPE;
  truncations text[];
BEGIN
  IF current_setting('track_counts')::boolean THEN
    truncations := string_to_array(current_setting('postgres_input.truncations_7725e9b12d', true), ' ');
    IF truncations[1] IS DISTINCT FROM pg_stat_get_xact_tuples_inserted('"postgres_input"."log_postgres_input_golden"'::regclass)::text THEN
      truncations := NULL;
    END IF;
    IF TG_RELID::text = ANY (truncations[2:])
       OR EXISTS (SELECT FROM pg_partition_ancestors(TG_RELID) a WHERE a.relid::oid::text = ANY (truncations[2:])) THEN
      RETURN NEW;
    END IF;
  END IF;
  location := CASE TG_TABLE_SCHEMA WHEN 'public' THEN TG_TABLE_NAME ELSE TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME END;
  asleep := NOT pg_try_advisory_xact_lock_shared(-7228081450872620597);
  WITH change AS (
      INSERT INTO "postgres_input"."log_postgres_input_golden" (at, tbl, id, op, key)
      SELECT written_at, location, '*', 'TRUNCATE', coalesce(NULL, 'null') || ' '
      RETURNING *
    )
    SELECT CASE WHEN bool_or(c.long) THEN '' ELSE string_agg(json_build_object(
      'seq', (c.seq)::text, 'xid', c.xid::text, 'at', c.at AT TIME ZONE 'UTC',
      'tbl', c.tbl, 'id', c.id, 'op', c.op, 'key', c.key::json, 'version', 5)::text, ',' ORDER BY c.seq) FILTER (WHERE NOT c.long) END
    FROM (SELECT NULL::text AS before, NULL::text AS after, NULL::text AS shape, NULL::text AS origin, NULL::text AS context) absent,
      LATERAL (SELECT *, octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR num_nonnulls(shape, origin, context) > 0 AS long FROM change) c
    HAVING count(*) > 0 INTO body;
  PERFORM set_config('postgres_input.truncations_7725e9b12d', concat_ws(' ', pg_stat_get_xact_tuples_inserted('"postgres_input"."log_postgres_input_golden"'::regclass), array_to_string(truncations[2:], ' '), TG_RELID), true);
  IF asleep THEN
    PERFORM "postgres_input"."notify_postgres_input_golden"(body);
  END IF;
  RETURN NEW;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_notes_truncate_b002acc57a"() FROM PUBLIC;

CREATE TRIGGER "notes_golden_truncate_trigger"
AFTER TRUNCATE ON "public"."notes"
 FOR EACH STATEMENT
EXECUTE FUNCTION "postgres_input"."process_record_golden_notes_truncate_b002acc57a"();
