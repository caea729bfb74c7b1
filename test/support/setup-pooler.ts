/** Poolers in front of a test database, and what an application finds on their backends. */
import { expect, onTestFinished } from 'vitest';
import { type TestDatabase, createDatabase } from './database.ts';
import { hasPgBouncer, startPgBouncer } from './pgbouncer.ts';
import { type PoolerOptions, startPooler } from './pooler.ts';

export const KINDS = [
  ['a fake pooler', startPooler, {}] as const,
  ...(hasPgBouncer ? [['PgBouncer', startPgBouncer, {}] as const] : []),
];

/** A database with a table `orders`, and its URL through a pooler. */
export async function setupPooler(adminUrl: string, start: typeof startPooler, options: PoolerOptions) {
  const database = await createDatabase(adminUrl);
  await database.query('CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)');
  const { hostname, port } = new URL(adminUrl);
  const pooler = await start(hostname, Number(port), options);
  onTestFinished(async () => {
    await pooler[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });
  return { database, url: pooler.url(database.url) };
}

/** What an application finds on each backend of the pool: it holds them all at once. */
export async function findings(database: TestDatabase, url: string, backends: number) {
  const clients = await Promise.all(
    Array.from({ length: backends }, () => database.client({ connectionString: url })),
  );
  await Promise.all(clients.map((client) => client.query('BEGIN')));
  const found = await Promise.all(
    clients.map(async (client) => {
      const { rows } = await client.query(
        `SELECT pg_backend_pid() AS pid, current_setting('search_path') AS path,
                current_setting('statement_timeout') AS timeout, current_setting('enable_seqscan') AS seqscan,
                (SELECT string_agg(s.name || '=' || s.setting, ' ') FROM pg_settings s WHERE s.source = 'session'
                   AND s.name NOT IN ('DateStyle', 'TimeZone', 'client_encoding', 'application_name',
                                      'standard_conforming_strings')) AS set,
                (SELECT count(*)::int FROM pg_prepared_statements) AS prepared,
                (SELECT count(*)::int FROM pg_listening_channels()) AS channels`,
      );
      return { ...rows[0], orders: (await client.query('SELECT * FROM orders')).rows };
    }),
  );
  await Promise.all(clients.map((client) => client.query('COMMIT')));
  await Promise.all(clients.map((client) => client.end()));
  expect(new Set(found.map(({ pid }) => pid)).size).toBe(backends);
  return found.map(({ pid: _pid, ...rest }) => rest);
}

export const UNTOUCHED = {
  path: '"$user", public',
  timeout: '0',
  seqscan: 'on',
  set: null,
  prepared: 0,
  channels: 0,
  orders: [{ id: 1 }],
};
