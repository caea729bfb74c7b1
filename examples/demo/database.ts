/** The demo's database: its own server, or two schemas on the one at DATABASE_DSN. */
import pg from 'pg';
import { parseConnectionString } from '../../src/config/connection-string.ts';
import { Session } from '../../src/postgres/session.ts';
import { startServer } from '../../test/support/server.ts';

export interface Database extends AsyncDisposable {
  /** As it was given, for the replicas. */
  readonly dsn: string;
  /** The same for pg, which does not read every form of it. */
  readonly connection: pg.ClientConfig;
  readonly version: string;
  /** The application's tables are in here, those of the package in another one beside it. */
  readonly schema: string;
  readonly internalSchema: string;
}

export async function openDatabase(schema: string, dsn: string | undefined): Promise<Database> {
  if (dsn) return describe(schema, dsn);
  const server = await startServer();
  try {
    const database = await describe(schema, server.url());
    return { ...database, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() };
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
}

async function describe(schema: string, dsn: string): Promise<Database> {
  const internalSchema = `${schema}_input`;
  const session = await Session.connect(parseConnectionString(dsn), {
    connectTimeout: 10_000,
    statementTimeout: 10_000,
    applicationName: 'dapper-postgres-input demo',
  });
  const [row] = await session.query<{ version: string }>(
    `SELECT pg_catalog.current_setting('server_version') AS version`,
  );
  await session.close();
  const connection = session.endpoint;
  return {
    dsn,
    connection,
    version: row!.version,
    schema,
    internalSchema,
    async [Symbol.asyncDispose]() {
      const client = new pg.Client(connection);
      await client.connect();
      await client.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      await client.query(`DROP SCHEMA IF EXISTS ${internalSchema} CASCADE`);
      await client.end();
    },
  };
}
