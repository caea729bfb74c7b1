ALTER TABLE "postgres_input"."log_postgres_input_golden" ADD COLUMN IF NOT EXISTS before text, ADD COLUMN IF NOT EXISTS after text, ADD COLUMN IF NOT EXISTS shape text, ADD COLUMN IF NOT EXISTS origin text, ADD COLUMN IF NOT EXISTS context text;

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN before SET STORAGE EXTERNAL;

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN after SET STORAGE EXTERNAL;

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN origin SET DEFAULT nullif(pg_catalog.current_setting('postgres_input.origin', true), '');

ALTER TABLE "postgres_input"."log_postgres_input_golden" ALTER COLUMN context SET DEFAULT nullif(pg_catalog.current_setting('postgres_input.context', true), '');

ALTER TABLE "postgres_input"."lock_postgres_input_golden" ALTER COLUMN version SET DEFAULT 4;

UPDATE "postgres_input"."lock_postgres_input_golden" SET version = 4;
