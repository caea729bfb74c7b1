import { once } from 'node:events';
import pg from 'pg';
import { expect, test } from 'vitest';
import { parseConfig } from '../../src/config/settings.ts';
import { newPostgresInput } from '../../src/index.ts';
import type { Engine, NodeLife } from '../../src/node/engine.ts';
import { PostgresInput } from '../../src/postgres-input.ts';
import { PooledBackend } from '../../src/postgres/pooled-backend.ts';
import { createDatabase } from '../support/database.ts';
import { startServer } from '../support/server.ts';

test('close() inside the loop ends it with the next pull, however many events wait', async () => {
  await using database = await createDatabase();
  await database.query('CREATE TABLE t (id int primary key)');
  const config = { name: 'in', type: 'postgres', connectionString: database.url };
  const input = await newPostgresInput(config, { connectTimeout: 10_000 });
  const events = input.handle();
  await new Promise<void>((resolve) => input.once('active', () => resolve()));
  await database.query('INSERT INTO t SELECT generate_series(1, 100)');

  const seen: string[] = [];
  for await (const event of events) {
    seen.push(event.id);
    await input.close();
  }
  expect(seen).toEqual(['1']);
  expect(await database.query('SELECT count(*)::int FROM postgres_input.log_postgres_input_in')).toEqual([
    { count: 99 },
  ]);
});

test('a node whose pooler leads to a hot standby after a failover tries again', async () => {
  await using primary = await startServer();
  await using standby = await startServer({ standbyOf: primary });
  const client = new pg.Client({ connectionString: standby.url() });
  await client.connect();
  const statement = { text: 'SELECT pg_current_xact_id()', values: [] };
  const refusals: unknown[] = [
    await new PooledBackend(client).ask(statement, 10_000).catch((error: unknown) => error),
    await client.query(statement).catch((error: unknown) => error),
  ];
  await client.end();

  expect(refusals).toMatchObject([{ code: '0A000' }, { code: '25006' }]);

  // Each life ends with an error of the standby's, and the last one when it is told to.
  const ended = new AbortController();
  const life: NodeLife = {
    delivery: null,
    end: () => ended.abort(),
    run: async () => {
      if (refusals.length > 0) throw refusals.shift();
      lasts.abort();
      if (!ended.signal.aborted) await once(ended.signal, 'abort');
    },
  };
  const lasts = new AbortController();
  const engine = { connect: async () => life, close: async () => {} } as Partial<Engine> as Engine;
  const config = { name: 'in', connectionString: primary.url() };
  const input = new PostgresInput(parseConfig(config, {}), engine);
  const attempts: unknown[] = [];
  input.on('reconnecting', ({ error, attempt }) => attempts.push([error.code, attempt]));
  const processed = input.process(() => {}, { reconnect: { minDelay: 1 } });
  await Promise.race([once(lasts.signal, 'abort'), processed]);
  await input.close();
  await processed;
  expect(attempts).toEqual([
    ['ERR_CONNECTION_LOST', 1],
    ['ERR_CONNECTION_LOST', 2],
  ]);
}, 60_000);
