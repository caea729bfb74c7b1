CREATE OR REPLACE FUNCTION "postgres_input"."length_postgres_input_golden"(value anyelement) RETURNS bigint LANGUAGE plpgsql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
BEGIN
  IF pg_typeof(value) = ANY ('{text,varchar}'::regtype[]) THEN
    RETURN coalesce(octet_length(value::text), 0);
  ELSIF pg_typeof(value) = 'bpchar'::regtype THEN
    RETURN coalesce(octet_length(value::bpchar), 0);
  ELSIF pg_typeof(value) = 'bytea'::regtype THEN
    RETURN coalesce(octet_length(value::bytea), 0);
  END IF;
  RETURN 0;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."length_postgres_input_golden"(value anyelement) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."length_postgres_input_golden"(value anyelement) OWNER TO "owner";
