/** What the original installs for an input of that name, on these tables of schema public. */
export const originalTriggers = (id: string, tables: readonly string[]): string => `
  CREATE TABLE lock_postgres_input_${id} (resource int PRIMARY KEY);
  CREATE FUNCTION process_record_${id}() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE record_id text := '0';
    BEGIN
      IF TG_OP <> 'DELETE' THEN record_id := NEW.id; END IF;
      PERFORM pg_notify('${id}', json_build_object('tbl', TG_TABLE_NAME, 'id', record_id, 'op', TG_OP)::text);
      RETURN NULL;
    END $$;
  ${tables
    .map(
      (table) => `
        CREATE TRIGGER ${table}_${id}_trigger AFTER INSERT OR UPDATE OR DELETE ON ${table}
        FOR EACH ROW EXECUTE FUNCTION process_record_${id}();`,
    )
    .join('')}`;
