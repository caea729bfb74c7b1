import { query } from './database.ts';

/** Has each inserted or updated row of `item` do this, as most people would write it. */
export const eachRow = (url: string, statement: string): Promise<unknown> =>
  query(
    url,
    `CREATE FUNCTION record_item() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
       ${statement};
       RETURN NULL;
     END $$;
     CREATE TRIGGER record_item AFTER INSERT OR UPDATE ON item FOR EACH ROW EXECUTE FUNCTION record_item()`,
  );
