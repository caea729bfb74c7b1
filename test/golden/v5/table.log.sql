CREATE SEQUENCE IF NOT EXISTS "postgres_input"."sequence_postgres_input_golden";

CREATE TABLE "postgres_input"."log_postgres_input_golden" (
  seq bigint PRIMARY KEY DEFAULT nextval('"postgres_input"."sequence_postgres_input_golden"'::regclass) * 1000,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  at timestamptz NOT NULL,
  tbl text NOT NULL,
  id text NOT NULL,
  op text NOT NULL,
  key text,
  size integer,
  before text,
  after text,
  shape text,
  origin text,
  context text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000,
  vacuum_truncate = off, toast.vacuum_truncate = off);

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN before SET STORAGE EXTERNAL;

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN after SET STORAGE EXTERNAL;

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN origin SET DEFAULT nullif(pg_catalog.current_setting('postgres_input.origin', true), '');

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN context SET DEFAULT nullif(pg_catalog.current_setting('postgres_input.context', true), '');

REVOKE ALL ON TABLE "postgres_input"."log_postgres_input_golden" FROM PUBLIC;

REVOKE ALL ON SEQUENCE "postgres_input"."sequence_postgres_input_golden" FROM PUBLIC;
