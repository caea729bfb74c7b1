CREATE OR REPLACE FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
DECLARE
  payload text := '[]';
  signed record;
  so_far text := coalesce(current_setting('postgres_input.signed_so_far', true), '');
  header text := CASE WHEN pg_try_advisory_xact_lock(-3825741167339709882) THEN '"}' ELSE '","crowded":true}' END;
BEGIN
  IF body <> '' AND octet_length(body) < 7857 AND length(so_far) < 50 AND getdatabaseencoding() = 'UTF8' THEN
    body := '{"database":"' || (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()) || '@'
  || (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint || '"},' || body;
    SELECT '[{"mac":"' || encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(body, 'UTF8'))), 'hex') || header || ',' || body || ']' AS payload,
      set_config('postgres_input.signed_so_far', so_far || '.', true)
    INTO signed FROM "postgres_input"."secret_postgres_input_golden" s;
    IF FOUND THEN
      payload := signed.payload;
    END IF;
  END IF;
  IF has_function_privilege('pg_notify(text, text)'::regprocedure, 'EXECUTE') THEN
    PERFORM pg_notify('golden', payload);
  ELSE
    EXECUTE format('NOTIFY %I, %L', 'golden', payload);
  END IF;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) OWNER TO "owner";
