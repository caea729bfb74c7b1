ALTER TABLE "postgres_input"."lock_postgres_input_golden" ADD COLUMN IF NOT EXISTS version integer NOT NULL DEFAULT 1, ADD COLUMN IF NOT EXISTS options jsonb;

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 2;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 2;
