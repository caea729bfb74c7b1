CREATE TABLE "postgres_input"."backfill_postgres_input_golden" (
  backfill bigint NOT NULL,
  relation oid NOT NULL,
  sequence text NOT NULL DEFAULT '',
  schema text,
  name text,
  location text,
  is_initial boolean NOT NULL DEFAULT false,
  condition text,
  chunk integer,
  key_columns text,
  after text[],
  done bigint NOT NULL DEFAULT 0,
  estimated bigint,
  state text,
  error text,
  requested_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  changed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (backfill, relation, sequence)
);

REVOKE ALL ON TABLE "postgres_input"."backfill_postgres_input_golden" FROM PUBLIC;
