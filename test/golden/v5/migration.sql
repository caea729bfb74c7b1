LOCK TABLE "postgres_input"."lock_postgres_input_golden" IN ACCESS EXCLUSIVE MODE;

ALTER TABLE "postgres_input"."failed_postgres_input_golden" ADD COLUMN IF NOT EXISTS delay double precision;

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 5;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 5;
