CREATE OR REPLACE FUNCTION "postgres_input"."identity_postgres_input_golden"(relation oid) RETURNS TABLE (id text, key text, match text) LANGUAGE sql VOLATILE SECURITY DEFINER
SET search_path = 'pg_catalog', 'pg_temp'
AS $body$
-- dapper-postgres-input, version 5, input "golden"
SELECT id, key, match FROM (
SELECT
  CASE WHEN i.attname = ANY (k.names) OR i.attlen > 0 THEN i.printed
       WHEN i.attname IS NOT NULL THEN i.printed_if_short
       WHEN k.n = 0 THEN '''''::pg_catalog.text'
       ELSE k.as_one END AS id,
  CASE WHEN k.n = 0 THEN 'NULL::pg_catalog.text'
       WHEN k.n = 1 AND (i.attname IS NULL OR k.names[1] = 'id')
       THEN quote_literal(to_json(k.names[1])) || '::pg_catalog.text'
       ELSE format('pg_catalog.json_build_object(%s)::pg_catalog.text', k.pairs) END AS key,
  CASE WHEN k.n > 0 AND NOT k.has_children THEN k.as_one END AS match,
  relation::text AS relation,
  format('%s::pg_catalog.oid, %s::pg_catalog.oid, %L::pg_catalog.text[], %s::pg_catalog.int4', relation,
    coalesce(k.index::text, 'NULL'), k.names, CASE WHEN i.attname IS NOT NULL AND i.attname <> ALL (k.names) THEN i.attnum::text ELSE 'NULL' END) AS guard,
  k.formatted OR coalesce(i.formatted, false) AS formatted
FROM (
  SELECT c.n, c.index, c.names, c.pairs, c.formatted,
    CASE WHEN c.n = 1 THEN c.printed[1]
         ELSE format('pg_catalog.array_to_json(ARRAY[%s])::pg_catalog.text', array_to_string(c.printed, ', '))
    END AS as_one,
    -- an inheritance parent's transition tables hold its children's rows too, which share no key with it
    (SELECT t.relkind = 'r' AND t.relhassubclass FROM pg_class t WHERE t.oid = relation) AS has_children
  FROM (
    SELECT CASE WHEN bool_and(a.attname <> '') THEN count(*) ELSE 0 END AS n,
      coalesce(array_agg(a.attname ORDER BY c.position), '{}') AS names,
      array_agg(format('pg_catalog.concat(r.%I)', a.attname) ORDER BY c.position) AS printed,
      string_agg(format('%L, %s', a.attname, format('pg_catalog.concat(r.%I)', a.attname)), ', ' ORDER BY c.position) AS pairs,
      max(x.indexrelid) AS index,
      coalesce(bool_or(a.atttypid <> ALL (ARRAY['int2', 'int4', 'int8', 'text', 'varchar', 'uuid']::regtype[])), false) AS formatted
    FROM pg_index x
    CROSS JOIN LATERAL unnest(x.indkey::int2[]) WITH ORDINALITY c (attnum, position)
    JOIN (
  SELECT attrelid, attnum, atttypid, attlen, attisdropped, attgenerated,
    CASE WHEN has_column_privilege(attrelid, attnum, 'SELECT') IS NULL THEN ''
      ELSE (pg_identify_object_as_address('pg_class'::regclass, attrelid, attnum)).object_names[3] END AS attname
  FROM pg_attribute
) a ON a.attrelid = x.indrelid AND a.attnum = c.attnum AND c.position <= x.indnkeyatts
    WHERE x.indrelid = relation AND x.indisprimary
  ) c
) k
LEFT JOIN LATERAL (
  SELECT a.attname, a.attnum, a.attlen, format('pg_catalog.concat(r.%I)', a.attname) AS printed, format('CASE WHEN pg_catalog.pg_column_size(r.%1$I) OPERATOR(pg_catalog.<=) 2000000'
    ' AND pg_catalog.octet_length(pg_catalog.concat(r.%1$I)) OPERATOR(pg_catalog.<=) 1000000'
    ' THEN pg_catalog.concat(r.%1$I) ELSE '''' END', a.attname) AS printed_if_short, a.atttypid <> ALL (ARRAY['int2', 'int4', 'int8', 'text', 'varchar', 'uuid']::regtype[]) AS formatted
  FROM (
  SELECT attrelid, attnum, atttypid, attlen, attisdropped, attgenerated,
    CASE WHEN has_column_privilege(attrelid, attnum, 'SELECT') IS NULL THEN ''
      ELSE (pg_identify_object_as_address('pg_class'::regclass, attrelid, attnum)).object_names[3] END AS attname
  FROM pg_attribute
) a
  WHERE a.attrelid = relation AND a.attname = 'id' AND a.attnum > 0 AND NOT a.attisdropped
    -- a virtual column has no value in a transition table
    AND a.attgenerated <> 'v'
) i ON true) identity$body$;

REVOKE ALL ON FUNCTION "postgres_input"."identity_postgres_input_golden"(relation oid) FROM PUBLIC;

ALTER FUNCTION "postgres_input"."identity_postgres_input_golden"(relation oid) OWNER TO "owner";
