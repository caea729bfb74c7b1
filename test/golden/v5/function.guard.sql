CREATE OR REPLACE FUNCTION "postgres_input"."guard_postgres_input_golden"(relation oid, index oid, key text[], id integer) RETURNS boolean LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
SELECT NOT EXISTS (
  SELECT FROM unnest(key) WITH ORDINALITY k (name, position)
  WHERE pg_get_indexdef(index, position::integer, true) IS DISTINCT FROM quote_ident(name)
) AND (
  id IS NULL
  OR (pg_identify_object_as_address('pg_class'::regclass, relation, id)).object_names[3] IS NOT DISTINCT FROM 'id'
)$body$;

REVOKE ALL ON FUNCTION "postgres_input"."guard_postgres_input_golden"(relation oid, index oid, key text[], id integer) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."guard_postgres_input_golden"(relation oid, index oid, key text[], id integer) OWNER TO "owner";
