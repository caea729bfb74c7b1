CREATE TABLE "postgres_input"."lock_postgres_input_golden" (
  resource integer PRIMARY KEY,
  holder text,
  token bigint NOT NULL DEFAULT 0,
  acquired_at timestamptz,
  expires_at timestamptz,
  backend_pid integer,
  backend_start timestamptz,
  version integer NOT NULL DEFAULT 5,
  options jsonb,
  installation uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);

INSERT INTO "postgres_input"."lock_postgres_input_golden" (resource) VALUES (1) ON CONFLICT DO NOTHING;

REVOKE ALL ON TABLE "postgres_input"."lock_postgres_input_golden" FROM PUBLIC;
