import { expect, onTestFinished } from 'vitest';
import type { Installation } from '../../src/api/installation.ts';
import type { PostgresInputOptions } from '../../src/api/options.ts';
import type { InputConfig } from '../../src/api/orchestrator.ts';
import { type Settings, parseConfig } from '../../src/config/settings.ts';
import { withSession } from '../../src/node/connect.ts';
import { install, uninstall } from '../../src/schema/install.ts';
import { unpacked } from '../../src/schema/log-layout.ts';
import { type Names, namesOf } from '../../src/schema/names.ts';
import { type Plan, plan } from '../../src/schema/plan.ts';
import { type TestDatabase, createDatabase } from './database.ts';

/** One input's view of a database, without its reader: what installs, and what the triggers then log. */
export interface Watched {
  readonly settings: Settings;
  readonly names: Names;
  readonly install: () => Promise<Installation>;
  /** What is still to be done. */
  readonly plan: () => Promise<Plan>;
  readonly uninstall: () => Promise<void>;
  /** What has been logged since the last call, in its order: `INSERT table id`. */
  readonly changes: () => Promise<string[]>;
  /** The same as rows. */
  readonly rows: () => Promise<LoggedRow[]>;
}

export interface LoggedRow {
  seq: string;
  xid: string;
  at: Date;
  tbl: string;
  id: string;
  op: string;
  key: unknown;
}

export type WatchOptions = PostgresInputOptions & Partial<Pick<InputConfig, 'name' | 'operations'>>;

let shared: TestDatabase | undefined;

/** The test file's database, emptied, with these tables in it. */
export async function application(schema = ''): Promise<TestDatabase> {
  shared ??= await createDatabase();
  await shared.query(`
    DO $$ DECLARE name text; BEGIN
      FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
      END LOOP;
    END $$;
    CREATE SCHEMA public; GRANT USAGE ON SCHEMA public TO PUBLIC;
    ${schema}`);
  return shared;
}

/** An input named `test` that has not been installed. `url`: who it connects as. */
export function input(database: TestDatabase, options: WatchOptions = {}, url = database.url): Watched {
  const { name = 'test', operations = [], ...rest } = options;
  const settings = parseConfig(
    { name, type: 'postgres', connectionString: url, operations },
    { connectTimeout: 10_000, ...rest },
  );
  const names = namesOf(settings.id, settings.internalSchema);
  const rows = () =>
    database.query<LoggedRow>(`
      WITH gone AS (DELETE FROM ${names.logTable.sql} RETURNING *)
      SELECT seq, xid, at, tbl, id, op, key::json FROM (
        SELECT seq, xid, at, tbl, id, op, key FROM gone WHERE size IS NULL
        UNION ALL ${unpacked('gone')}
      ) single ORDER BY seq`);
  return {
    settings,
    names,
    install: () => withSession(settings, (session) => install(session, settings, names)),
    plan: () => withSession(settings, (session) => plan(session, settings, names)),
    uninstall: () => withSession(settings, (session) => uninstall(session, settings, names)),
    rows,
    changes: async () => (await rows()).map(({ op, tbl, id }) => `${op} ${tbl} ${id}`),
  };
}

/** These tables, watched by an input named `test`. */
export async function setup(
  schema: string,
  options: WatchOptions = {},
): Promise<Watched & { database: TestDatabase }> {
  const database = await application(schema);
  const watched = input(database, options);
  const { unwatchable, pending } = await watched.install();
  expect({ unwatchable, pending }).toEqual({ unwatchable: [], pending: [] });
  await watched.changes();
  return { database, ...watched };
}

let roles = 0;

/** A role that may log in and do nothing else, dropped with the test: its name, and how it connects. */
export async function createRole(
  database: TestDatabase,
  attributes = 'NOSUPERUSER',
): Promise<{ role: string; url: string }> {
  const role = `${database.name}_role_${roles++}`;
  await database.query(`CREATE ROLE ${role} LOGIN ${attributes}`);
  onTestFinished(async () => {
    await database.query(`DROP OWNED BY ${role} CASCADE; DROP ROLE ${role}`);
  });
  const url = new URL(database.url);
  url.username = role;
  return { role, url: url.href };
}

/** The server's major version. */
export async function majorVersion(database: TestDatabase): Promise<number> {
  const [row] = await database.query("SELECT current_setting('server_version_num')::int / 10000 AS major");
  return row.major;
}
