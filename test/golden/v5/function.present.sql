CREATE OR REPLACE FUNCTION "postgres_input"."present_postgres_input_golden"(relation oid, wanted text[], with_unseen boolean) RETURNS TABLE (columns text, typed text, size text, names text, doubtful boolean) LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
WITH RECURSIVE present (number, name) AS (
  SELECT 1, (pg_identify_object_as_address('pg_class'::regclass, relation, 1)).object_names[3]
  UNION ALL
  SELECT number + 1, (pg_identify_object_as_address('pg_class'::regclass, relation, number + 1)).object_names[3] FROM present WHERE name IS NOT NULL
)
SELECT coalesce(string_agg(format('r.%I', c.name), ', ' ORDER BY c.number), ''),
  coalesce(string_agg(format('CASE WHEN false THEN r.%I END', c.name), ', ' ORDER BY c.number), ''),
  format('(SELECT coalesce(sum(size), 0) FROM unnest(ARRAY[%s]::integer[]) size)', string_agg(format('pg_column_size(r.%I)', c.name), ', ' ORDER BY c.number)),
  format('%L::text[]', coalesce(array_agg(c.name ORDER BY c.number), '{}')),
  coalesce(bool_or(a.attnum IS NULL AND NOT current_setting('server_version_num')::integer < 180000), false)
FROM present c LEFT JOIN pg_attribute a ON a.attrelid = relation AND a.attnum = c.number
WHERE has_column_privilege(relation, c.number::int2, 'SELECT') IS NOT NULL
  AND coalesce(a.attgenerated <> 'v', with_unseen OR current_setting('server_version_num')::integer < 180000)
  AND (wanted IS NULL OR c.name = ANY (wanted))$body$;

REVOKE ALL ON FUNCTION "postgres_input"."present_postgres_input_golden"(relation oid, wanted text[], with_unseen boolean) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."present_postgres_input_golden"(relation oid, wanted text[], with_unseen boolean) OWNER TO "owner";
