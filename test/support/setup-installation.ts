/** Installs triggers and reads what they log: for tests of schema/, without any node. README.md here compares the setups. */
import { readFile, readdir } from 'node:fs/promises';
import { expect } from 'vitest';
import type { Installation } from '../../src/api/installation.ts';
import type { PostgresInputOptions } from '../../src/api/options.ts';
import type { InputConfig } from '../../src/api/orchestrator.ts';
import { type Settings, parseConfig } from '../../src/config/settings.ts';
import { withSession } from '../../src/node/connect.ts';
import { quoteLiteral } from '../../src/postgres/quoting.ts';
import { install, uninstall } from '../../src/schema/install.ts';
import { ADDED_COLUMNS, SINGLE_COLUMNS, unpacked } from '../../src/schema/log-layout.ts';
import { type Names, namesOf } from '../../src/schema/names.ts';
import { type Plan, type Planner, plan } from '../../src/schema/plan.ts';
import { type TestDatabase, createDatabase } from './database.ts';

/** What one input installs in a database, and the changes that its triggers log. No node runs. */
export interface InstallationFixture {
  readonly settings: Settings;
  readonly names: Names;
  readonly install: (planner?: Planner) => Promise<Installation>;
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
  before: string | null;
  after: string | null;
  shape: string | null;
  origin: string | null;
  context: string | null;
}

export type WatchOptions = PostgresInputOptions & Partial<Pick<InputConfig, 'name' | 'operations'>>;

let shared: TestDatabase | undefined;

/** The test file's database, emptied, with these tables in it. */
export async function setupApplication(schema = ''): Promise<TestDatabase> {
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

const GOLDEN = new URL('../golden/', import.meta.url).pathname;

/** What this version of the objects is for an input named `golden`, in a database with the golden files' tables. */
export async function installedBy(version: number): Promise<TestDatabase> {
  const database = await setupApplication(await readFile(`${GOLDEN}/application.sql`, 'utf8'));
  await database.query('CREATE SCHEMA postgres_input');
  const folder = `${GOLDEN}/v${version}`;
  // Others are of inputs with other options.
  const files = (await readdir(folder)).filter((name) => /^\w+\.(?!when)\w+\.sql$/.test(name));
  const rank = (name: string) => ['table', 'function'].indexOf(name.split('.')[0]!) >>> 0;
  for (const name of files.toSorted((a, b) => rank(a) - rank(b))) {
    const sql = await readFile(`${folder}/${name}`, 'utf8');
    await database.query(sql.replace('OWNER TO "owner"', 'OWNER TO CURRENT_USER'));
  }
  return database;
}

/** An input named `test` that has not been installed. `url`: who it connects as. */
export function installationOf(
  database: TestDatabase,
  options: WatchOptions = {},
  url = database.url,
): InstallationFixture {
  const { name = 'test', operations = [], ...rest } = options;
  const settings = parseConfig(
    { name, type: 'postgres', connectionString: url, operations },
    { connectTimeout: 10_000, ...rest },
  );
  const names = namesOf(settings.id, settings.internalSchema);
  const rows = async () => {
    const isOld =
      (
        await database.query(
          `SELECT FROM pg_attribute WHERE attrelid = ${quoteLiteral(names.logTable.sql)}::regclass AND attname = 'shape'`,
        )
      ).length === 0;
    return database.query<LoggedRow>(`
      WITH deleted AS (DELETE FROM ${names.logTable.sql} RETURNING *),
      gone AS (SELECT *${isOld ? `, ${ADDED_COLUMNS.map((column) => `NULL AS ${column}`).join(', ')}` : ''} FROM deleted)
      SELECT ${SINGLE_COLUMNS.replace('key', 'key::json')} FROM (
        SELECT ${SINGLE_COLUMNS} FROM gone WHERE size IS NULL
        UNION ALL ${unpacked('gone')}
      ) single ORDER BY seq`);
  };
  return {
    settings,
    names,
    install: (planner) => withSession(settings, (session) => install(session, settings, names, { planner })),
    plan: () => withSession(settings, (session) => plan(session, settings, names)),
    uninstall: () => withSession(settings, (session) => uninstall(session, settings, names)),
    rows,
    changes: async () => (await rows()).map(({ op, tbl, id }) => `${op} ${tbl} ${id}`),
  };
}

/** These tables, watched by an input named `test`. */
export async function setupInstallation(
  schema: string,
  options: WatchOptions = {},
): Promise<InstallationFixture & { database: TestDatabase }> {
  const database = await setupApplication(schema);
  const fixture = installationOf(database, options);
  const { unwatchable, pending } = await fixture.install();
  expect({ unwatchable, pending }).toEqual({ unwatchable: [], pending: [] });
  await fixture.changes();
  return { database, ...fixture };
}
