/**
 * A role may have a search_path that finds another schema before PostgreSQL's own. Nothing of that schema is called, neither by an
 * input's control sessions, which set a search_path of their own, nor by what runs in a session of the caller's.
 */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { setupApplication } from '../support/setup-installation.ts';

const SOURCE = new URL('../../src', import.meta.url).pathname;
const source = readdirSync(SOURCE, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts'))
  .map((file) => readFileSync(join(SOURCE, file), 'utf8'))
  .join('\n');
/** Every word of our source: among them are the names of all that our SQL can call. */
const words = [...new Set(source.match(/\b[a-z_0-9]+\b/g))];

/** A schema with a function, an operator, a type and a view for each of PostgreSQL's own, which fail when they are used. */
async function createEvil(database: TestDatabase): Promise<void> {
  await database.query(`CREATE SCHEMA evil;
    CREATE FUNCTION evil.fail() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'something evil was called'; END $$`);
  const [{ script }] = await database.query(
    `WITH plain AS (
       SELECT oid, format_type(oid, NULL) AS name FROM pg_type
       WHERE typnamespace = 'pg_catalog'::regnamespace AND typtype = 'b'
     ), shadow (kind, sql) AS (
       SELECT DISTINCT ON (proname, oidvectortypes(proargtypes)) 1, format(
         'CREATE FUNCTION evil.%I(%s) RETURNS %s LANGUAGE plpgsql AS $$ BEGIN PERFORM evil.fail(); END $$',
         proname, oidvectortypes(proargtypes), format_type(prorettype, NULL))
       FROM pg_proc
       WHERE pronamespace = 'pg_catalog'::regnamespace AND proname = ANY ($1) AND prokind = 'f' AND provariadic = 0 AND NOT proretset
         AND proargtypes::oid[] <@ ARRAY(SELECT oid FROM plain) AND prorettype IN (SELECT oid FROM plain)
       UNION ALL
       SELECT 2, format('CREATE FUNCTION evil.operate(%s, %s) RETURNS boolean LANGUAGE sql AS $$ SELECT evil.fail() $$', l.name, r.name)
       FROM (SELECT DISTINCT oprleft, oprright FROM pg_operator) o JOIN plain l ON l.oid = oprleft JOIN plain r ON r.oid = oprright
       UNION ALL
       SELECT 3, format('CREATE OPERATOR evil.%s (FUNCTION = evil.operate, LEFTARG = %s, RIGHTARG = %s)', oprname, l.name, r.name)
       FROM pg_operator JOIN plain l ON l.oid = oprleft JOIN plain r ON r.oid = oprright
       WHERE oprnamespace = 'pg_catalog'::regnamespace
       UNION ALL
       SELECT 4, format('CREATE VIEW evil.%I AS SELECT evil.fail()', relname) FROM pg_class
       WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind IN ('r', 'v') AND relname = ANY ($1)
       UNION ALL
       SELECT 5, format('CREATE DOMAIN evil.%I AS pg_catalog.%I CHECK (evil.fail())', typname, typname) FROM pg_type
       WHERE oid IN (SELECT oid FROM plain) AND typname = ANY ($1)
     )
     SELECT string_agg(sql, ';' ORDER BY kind) AS script FROM shadow`,
    [words],
  );
  await database.query(script);
}

test('a hostile search_path makes us call no function of its schemas', async () => {
  const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
  await createEvil(database);
  const { role, url } = await createRole(database, 'SUPERUSER');
  await database.query(`ALTER ROLE ${role} SET search_path = evil, pg_catalog, public`);
  const client = await database.client({ connectionString: url });
  await expect(client.query('SELECT pg_current_xact_id()')).rejects.toThrow('something evil');
  await expect(client.query('SELECT 1::bigint = 1::bigint')).rejects.toThrow('something evil');

  const watcher = await newPostgresInput(
    { name: 'test', type: 'postgres', connectionString: url },
    // The listener's sign of life, SELECT pg_backend_pid(), is pg-listen's own and runs under the role's search_path: it has to come later.
    { connectTimeout: 10_000, lease: { duration: 180_000, renewInterval: 60_000, margin: 60_000 } },
  );
  onTestFinished(() => watcher[Symbol.asyncDispose]());
  const asleep = new Promise<void>((resolve) => watcher.once('asleep', () => resolve()));
  const events = watcher.handle({ ack: 'manual' });
  const first = events.next();
  await Promise.race([asleep, first]);
  await database.query('INSERT INTO t VALUES (1), (2)');
  await watcher.ack((await first).value!);
  await watcher.ack((await events.next()).value!);
  await database.query('INSERT INTO t SELECT generate_series(3, 102)');
  for (let n = 0; n < 100; n++) {
    const event = (await events.next()).value!;
    if (n % 2) {
      await watcher.ack(event);
    } else {
      await client.query('BEGIN');
      await watcher.ack(event, client);
      await client.query('COMMIT');
    }
  }
  expect((await watcher.status()).backlog).toBe(0);
  await events.return!();
  await watcher.uninstall();
});
