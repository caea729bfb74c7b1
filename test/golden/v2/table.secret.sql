CREATE TABLE "postgres_input"."secret_postgres_input_golden" (key bytea NOT NULL, inner_pad bytea NOT NULL, outer_pad bytea NOT NULL);

REVOKE ALL ON TABLE "postgres_input"."secret_postgres_input_golden" FROM PUBLIC;

INSERT INTO "postgres_input"."secret_postgres_input_golden"
SELECT s.key, (SELECT pg_catalog.string_agg(pg_catalog.set_byte(pg_catalog.decode('00', 'hex'), 0, CASE WHEN i < 32 THEN pg_catalog.get_byte(s.key, i) ELSE 0 END # 54), ''::bytea ORDER BY i) FROM pg_catalog.generate_series(0, 63) i), (SELECT pg_catalog.string_agg(pg_catalog.set_byte(pg_catalog.decode('00', 'hex'), 0, CASE WHEN i < 32 THEN pg_catalog.get_byte(s.key, i) ELSE 0 END # 92), ''::bytea ORDER BY i) FROM pg_catalog.generate_series(0, 63) i)
FROM (SELECT pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) || pg_catalog.uuid_send(pg_catalog.gen_random_uuid()) AS key) s;
