ALTER TABLE "postgres_input"."lock_postgres_input_golden" ADD COLUMN IF NOT EXISTS installation uuid;

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN installation SET DEFAULT pg_catalog.gen_random_uuid();

UPDATE "postgres_input"."lock_postgres_input_golden" SET installation = DEFAULT WHERE installation IS NULL;

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN installation SET NOT NULL;

DO '
BEGIN
  ALTER SEQUENCE "postgres_input"."sequence_postgres_input_golden" OWNED BY NONE;
EXCEPTION WHEN lock_not_available THEN NULL;
END';

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 3;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 3;
