CREATE OR REPLACE FUNCTION "postgres_input"."columns_postgres_input_golden"(relation oid, numbers integer[], names text[], next integer) RETURNS boolean LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
SELECT NOT EXISTS (
  SELECT FROM unnest(numbers, names) c (number, name) WHERE (pg_identify_object_as_address('pg_class'::regclass, relation, c.number)).object_names[3] IS DISTINCT FROM c.name
) AND (next IS NULL OR (pg_identify_object_as_address('pg_class'::regclass, relation, next)).object_names[3] IS NULL)$body$;

REVOKE ALL ON FUNCTION "postgres_input"."columns_postgres_input_golden"(relation oid, numbers integer[], names text[], next integer) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."columns_postgres_input_golden"(relation oid, numbers integer[], names text[], next integer) OWNER TO "owner";
