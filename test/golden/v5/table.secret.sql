CREATE TABLE "postgres_input"."secret_postgres_input_golden" (key bytea NOT NULL, inner_pad bytea NOT NULL, outer_pad bytea NOT NULL);

REVOKE ALL ON TABLE "postgres_input"."secret_postgres_input_golden" FROM PUBLIC;

INSERT INTO "postgres_input"."secret_postgres_input_golden"
SELECT s.key, (SELECT string_agg(set_byte(decode('00', 'hex'), 0, CASE WHEN i < 32 THEN get_byte(s.key, i) ELSE 0 END # 54), ''::bytea ORDER BY i) FROM generate_series(0, 63) i), (SELECT string_agg(set_byte(decode('00', 'hex'), 0, CASE WHEN i < 32 THEN get_byte(s.key, i) ELSE 0 END # 92), ''::bytea ORDER BY i) FROM generate_series(0, 63) i)
FROM (SELECT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) AS key) s
WHERE NOT EXISTS (SELECT FROM "postgres_input"."secret_postgres_input_golden");
