CREATE OR REPLACE FUNCTION "postgres_input"."print_postgres_input_golden"(whole record) RETURNS text LANGUAGE plpgsql VOLATILE SECURITY DEFINER
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
BEGIN
  RETURN concat(whole);
EXCEPTION WHEN OTHERS THEN
  RETURN 'unreadable';
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."print_postgres_input_golden"(whole record) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."print_postgres_input_golden"(whole record) OWNER TO "owner";
