CREATE OR REPLACE FUNCTION "postgres_input"."shape_of_postgres_input_golden"(names text[], nulls anyelement) RETURNS jsonb LANGUAGE sql IMMUTABLE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
SELECT coalesce(jsonb_agg(jsonb_build_array(c.name,
  ('x' || encode(substring(record_send(nulls) FROM c.n::integer * 8 - 3 FOR 4), 'hex'))::bit(32)::bigint) ORDER BY c.n), '[]')
FROM unnest(names) WITH ORDINALITY c (name, n)$body$;

REVOKE ALL ON FUNCTION "postgres_input"."shape_of_postgres_input_golden"(names text[], nulls anyelement) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."shape_of_postgres_input_golden"(names text[], nulls anyelement) OWNER TO "owner";
