CREATE TABLE "postgres_input"."failed_postgres_input_golden" (
  sequence text PRIMARY KEY,
  seq bigint NOT NULL,
  attempts integer NOT NULL DEFAULT 0,
  deaths integer NOT NULL DEFAULT 0,
  error text,
  next_at timestamptz,
  delay double precision
);

REVOKE ALL ON TABLE "postgres_input"."failed_postgres_input_golden" FROM PUBLIC;
