DO '
BEGIN
  ALTER SEQUENCE "postgres_input"."sequence_postgres_input_golden" OWNED BY NONE;
EXCEPTION WHEN lock_not_available THEN NULL;
END';

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 3;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 3;
