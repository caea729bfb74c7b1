ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 4;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 4;
