import type { Contestant } from '../contestant.ts';
import { query } from './database.ts';
import { eachRow } from './row-trigger.ts';

/** What Hasura's event triggers do: each row puts itself into a table, as it was and as it is. Nobody reads. */
export const rowToJson: Contestant = {
  name: 'row triggers with row_to_json, nobody reading',
  by: 'nothing',
  durable: true,
  async install(url) {
    await query(
      url,
      `CREATE TABLE event_log (
         id uuid PRIMARY KEY DEFAULT gen_random_uuid(), schema_name text NOT NULL, table_name text NOT NULL, payload jsonb NOT NULL,
         delivered boolean NOT NULL DEFAULT false, tries int NOT NULL DEFAULT 0, created_at timestamptz NOT NULL DEFAULT now());
       CREATE INDEX ON event_log (created_at) WHERE NOT delivered`,
    );
    await eachRow(
      url,
      `INSERT INTO event_log (schema_name, table_name, payload) VALUES (TG_TABLE_SCHEMA, TG_TABLE_NAME,
         jsonb_build_object('op', TG_OP, 'data', jsonb_build_object('old', row_to_json(OLD), 'new', row_to_json(NEW))))`,
    );
  },
  consume: async () => ({ stop: async () => {} }),
};
