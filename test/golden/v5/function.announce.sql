CREATE OR REPLACE FUNCTION "postgres_input"."announce_postgres_input_golden"(at timestamptz, tbl text, id text, op text, key text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
BEGIN
  PERFORM "postgres_input"."notify_postgres_input_golden"(CASE
    WHEN octet_length(id) + coalesce(octet_length(key), 0) >= 7900 OR coalesce(current_setting('postgres_input.origin', true), '') <> '' OR coalesce(current_setting('postgres_input.context', true), '') <> '' THEN ''
    ELSE json_build_object(
      'seq', (currval('"postgres_input"."sequence_postgres_input_golden"'::regclass) * 1000)::text, 'xid', pg_current_xact_id()::text, 'at', at AT TIME ZONE 'UTC',
      'tbl', tbl, 'id', id, 'op', op, 'key', coalesce(key, 'null')::json, 'version', 5)::text END);
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."announce_postgres_input_golden"(at timestamptz, tbl text, id text, op text, key text) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."announce_postgres_input_golden"(at timestamptz, tbl text, id text, op text, key text) OWNER TO "owner";
