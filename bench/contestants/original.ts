import pg from 'pg';
import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';

/** What the original does: each row notifies of itself; here heard by nothing but a bare LISTEN. */
export const original: Contestant = {
  name: "the original's trigger, bare LISTEN",
  by: 'notify',
  durable: false,
  async install(url) {
    await query(
      url,
      `CREATE FUNCTION process_record_bench() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         PERFORM pg_notify('bench', json_build_object('tbl', TG_TABLE_NAME, 'id', NEW.id::text, 'op', TG_OP)::text);
         RETURN NULL;
       END $$;
       CREATE TRIGGER item_bench_trigger AFTER INSERT OR UPDATE ON item
       FOR EACH ROW EXECUTE FUNCTION process_record_bench()`,
    );
  },
  async consume(url, deliver) {
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    client.on('notification', ({ payload }) => deliver((JSON.parse(payload!) as { id: string }).id));
    await client.query('LISTEN bench');
    return { stop: () => client.end() };
  },
};
