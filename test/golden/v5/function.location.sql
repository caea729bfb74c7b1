CREATE OR REPLACE FUNCTION "postgres_input"."location_postgres_input_golden"(relation oid) RETURNS text LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
SELECT CASE parts[1] WHEN 'public' THEN parts[2] ELSE parts[1] || '.' || parts[2] END
FROM (SELECT (pg_identify_object_as_address('pg_class'::regclass, relation, 0)).object_names AS parts) address$body$;

REVOKE ALL ON FUNCTION "postgres_input"."location_postgres_input_golden"(relation oid) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."location_postgres_input_golden"(relation oid) OWNER TO "owner";
