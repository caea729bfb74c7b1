CREATE OR REPLACE FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) RETURNS void LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
DECLARE
  payload text := '[]';
BEGIN
  IF has_function_privilege('pg_notify(text, text)'::regprocedure, 'EXECUTE') THEN
    PERFORM pg_notify('golden', payload);
  ELSE
    EXECUTE format('NOTIFY %I, %L', 'golden', payload);
  END IF;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."notify_postgres_input_golden"(body text) OWNER TO "owner";
