CREATE TABLE "postgres_input"."shape_postgres_input_golden" (name text PRIMARY KEY, columns jsonb NOT NULL);

REVOKE ALL ON TABLE "postgres_input"."shape_postgres_input_golden" FROM PUBLIC;
