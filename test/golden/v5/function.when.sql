CREATE OR REPLACE FUNCTION "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(before record, after record) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
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
  RETURN coalesce((
after.note = 'shipped'
  ), false);
EXCEPTION WHEN OTHERS OR assert_failure THEN
  PERFORM set_config('postgres_input.failed_condition_7725e9b12d', 'failed', true);
  RETURN true;
END$body$;

REVOKE ALL ON FUNCTION "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(before record, after record) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."process_record_golden_orders_when_f7ae2fad5a"(before record, after record) OWNER TO "owner";
