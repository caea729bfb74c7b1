import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { startServer } from './server.ts';

declare module 'vitest' {
  interface ProvidedContext {
    adminUrl: string;
    /** Whether that server allows them. Ours does; one as PostgreSQL sets it up does not. */
    preparedTransactions: boolean;
  }
}

/** One server for the whole run: the one at TEST_DB_URL, as a superuser, or one of our own. */
export default async function setup(project: TestProject): Promise<(() => Promise<void>) | undefined> {
  const existing = process.env['TEST_DB_URL'];
  if (existing) {
    project.provide('adminUrl', existing);
    project.provide('preparedTransactions', await allowsPreparedTransactions(existing));
    return undefined;
  }
  const server = await startServer();
  project.provide('adminUrl', server.url());
  project.provide('preparedTransactions', true);
  return async () => server[Symbol.asyncDispose]();
}

async function allowsPreparedTransactions(url: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    const { rows } = await client.query('SHOW max_prepared_transactions');
    return rows[0].max_prepared_transactions !== '0';
  } finally {
    await client.end();
  }
}
