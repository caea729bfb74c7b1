CREATE TABLE "postgres_input"."parked_postgres_input_golden" (
  sequence text PRIMARY KEY,
  seq bigint NOT NULL,
  xid xid8 NOT NULL,
  at timestamptz NOT NULL,
  tbl text NOT NULL,
  id text NOT NULL,
  op text NOT NULL,
  key text,
  before text,
  after text,
  shape text,
  origin text,
  context text,
  attempts integer NOT NULL,
  error text NOT NULL,
  parked_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

REVOKE ALL ON TABLE "postgres_input"."parked_postgres_input_golden" FROM PUBLIC;
