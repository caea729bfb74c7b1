import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, inject, onTestFinished, type RunnerTask } from 'vitest';

export interface TestDatabase extends AsyncDisposable {
  readonly name: string;
  readonly url: string;
  /** The rows; those of the last statement, if there are several. */
  query<Row extends pg.QueryResultRow = any>(sql: string, params?: unknown[]): Promise<Row[]>;
  /** A connection of its own, closed with the database. */
  client(config?: pg.ClientConfig): Promise<pg.Client>;
}

const undropped = new Set<TestDatabase>();

/**
 * Creates a database on the test server, empty or a copy of another one. A test may dispose of its database; otherwise the database is dropped when the
 * test file ends, unless a test in the file has failed: then the database stays, to be looked into.
 */
export async function createDatabase(
  adminUrl: string = inject('adminUrl'),
  template = 'template1',
): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  await administer(adminUrl, `CREATE DATABASE ${name} TEMPLATE ${template}`);
  const url = urlOf(adminUrl, name);
  const pool = new pg.Pool({ connectionString: url, max: 4, idleTimeoutMillis: 500 });
  pool.on('error', () => {}); // tests kill backends, the pool's idle ones too
  const clients: pg.Client[] = [];

  const database: TestDatabase = {
    name,
    url,
    async query(sql, params) {
      const results = [await pool.query(sql, params)].flat();
      return results.at(-1)?.rows ?? [];
    },
    async client(config) {
      const client = new pg.Client({ connectionString: url, ...config });
      client.on('error', () => {});
      clients.push(client);
      await client.connect();
      return client;
    },
    async [Symbol.asyncDispose]() {
      if (!undropped.delete(database)) return;
      await Promise.all([pool.end(), ...clients.map((client) => client.end())]);
      await administer(adminUrl, `DROP DATABASE ${name} WITH (FORCE)`);
    },
  };
  undropped.add(database);
  return database;
}

let roles = 0;

/** A role that may log in and do nothing else, with the URL that it connects by. It is dropped when the test ends. */
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

afterAll(async ({}, file) => {
  if (!failed(file)) {
    await Promise.all([...undropped].map((database) => database[Symbol.asyncDispose]()));
  } else if (process.env['TEST_DB_URL']) {
    for (const database of undropped) console.info(`Kept after a failure in ${file.name}: ${database.url}`);
  }
});

function failed(task: Readonly<RunnerTask>): boolean {
  return task.result?.state === 'fail' || ('tasks' in task && task.tasks.some(failed));
}

function urlOf(adminUrl: string, database: string): string {
  const url = new URL(adminUrl);
  url.pathname = `/${database}`;
  return url.href;
}

async function administer(adminUrl: string, sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: adminUrl });
  await client.connect();
  try {
    await client.query(sql);
  } finally {
    await client.end();
  }
}
