/** Who needs which rights, and what those without them can't do. */
import { readFile } from 'node:fs/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type PostgresInputOptions, newPostgresInput } from '../../src/index.ts';
import { quoteIdentifier } from '../../src/postgres/quoting.ts';
import { grantTo, runtimeGrants } from '../../src/schema/grants.ts';
import { namesOf } from '../../src/schema/names.ts';
import { createRole } from '../support/database.ts';
import { setupApplication, installationOf, setupInstallation } from '../support/setup-installation.ts';

/** A running input, connected as `url` says. */
async function run(url: string, options: PostgresInputOptions = {}) {
  const watcher = await newPostgresInput(
    { name: 'test', type: 'postgres', connectionString: url },
    { connectTimeout: 10_000, discoveryInterval: 50, ...options },
  );
  onTestFinished(() => watcher[Symbol.asyncDispose]());
  const asleep = new Promise<void>((resolve) => watcher.once('asleep', () => resolve()));
  const events = watcher.handle();
  return {
    watcher,
    events,
    /** Resolves when it waits for notifications. */
    asleep,
    next: async () => {
      const { value } = await events.next();
      return `${value!.operation} ${value!.location} ${value!.id}`;
    },
  };
}

/** The SQL of a role that wants to know, and to abuse, who calls what it has named like ours. */
const trap = (signature: string, returns: string, result: string) => `
  CREATE FUNCTION evil.${signature} RETURNS ${returns} LANGUAGE plpgsql AS $$
    BEGIN INSERT INTO evil.calls VALUES ('${signature}'); RETURN ${result}; END $$;`;
const TRAPS = `
  CREATE SCHEMA evil;
  CREATE TABLE evil.calls (what text, who name DEFAULT current_user);
  ${trap('pg_notify(text, text)', 'void', '')}
  ${trap('pg_try_advisory_xact_lock_shared(bigint)', 'boolean', 'true')}
  ${trap('clock_timestamp()', 'timestamptz', 'null')}
  ${trap('concat(text)', 'text', "''")}
  ${trap('format(text, text)', 'text', "''")}
  ${trap('format(text, text, text)', 'text', "''")}
  ${trap('string_agg(text, text)', 'text', "''")}
  ${trap('max(text)', 'text', "''")}
  ${trap('sign(bigint)', 'integer', '0')}
  ${trap('sha256(bytea)', 'bytea', "''")}
  ${trap('encode(bytea, text)', 'text', "''")}
  ${trap('pg_get_indexdef(oid, integer, boolean)', 'text', "'x'")}
  ${trap('same(text, text)', 'boolean', 'true')}
  ${trap('same(oid, oid)', 'boolean', 'true')}
  ${trap('joined(text, text)', 'text', "''")}
  CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.same);
  CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.same);
  CREATE OPERATOR evil.|| (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.joined);`;

describe('the application', () => {
  test('needs rights on its own table only, whatever its search_path finds first', async () => {
    const { database, names, changes } = await setupInstallation(`
      CREATE TABLE t (id numeric PRIMARY KEY, n int);
      CREATE TABLE u (code text PRIMARY KEY, n int)`);
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role};
      GRANT INSERT, SELECT, UPDATE, DELETE, TRUNCATE ON t, u TO ${role}`);
    const writer = await database.client({ connectionString: url });
    await writer.query(`
      ${TRAPS}
      CREATE TEMPORARY TABLE log_postgres_input_test (seq int);
      CREATE TEMPORARY TABLE pg_attribute (attrelid oid);
      CREATE TEMPORARY TABLE pg_index (indrelid oid);
      CREATE TEMPORARY TABLE new_rows (id int)`);
    await writer.query('SET search_path = evil, pg_temp, public, pg_catalog');
    const write = `
      INSERT INTO t VALUES (1.0); UPDATE t SET n = 1; DELETE FROM t;
      INSERT INTO u VALUES ('a'); UPDATE u SET code = 'b'; TRUNCATE u`;
    const expected = [
      'INSERT t 1.0',
      'UPDATE t 1.0',
      'DELETE t 1.0',
      'INSERT u a',
      'DELETE u a',
      'INSERT u b',
      'TRUNCATE u *',
    ];
    await writer.query(write);
    expect(await changes()).toEqual(expected);

    // The same by the other road, and when the key has to be looked up.
    const reader = await database.client();
    await reader.query('SELECT pg_advisory_lock($1)', [names.sleepKey]);
    onTestFinished(() => reader.end());
    await database.query('ALTER TABLE u RENAME code TO renamed');
    await writer.query(write.replace('code', 'renamed'));
    expect(await changes()).toEqual(expected);
    expect(await database.query('SELECT * FROM evil.calls')).toEqual([]);
    // They do lie in wait.
    await writer.query(`SELECT 'a' = 'b'::text, concat('a'::text)`);
    expect(await database.query('SELECT * FROM evil.calls')).toHaveLength(2);
  });

  test('gains nothing by the types, casts and operators of a table that it owns', async () => {
    const { database, changes } = await setupInstallation('CREATE TABLE t (id int PRIMARY KEY, n int)');
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT CREATE ON SCHEMA public TO ${role};
      ALTER TABLE t OWNER TO ${role}`);
    const owner = await database.client({ connectionString: url });
    await owner.query(`
      CREATE SCHEMA evil;
      CREATE TABLE evil.calls (what text, who name DEFAULT current_user);
      CREATE TYPE mood AS ENUM ('good', 'bad');
      CREATE TYPE pair AS (a int, b int);
      CREATE DOMAIN checked AS int;
      ${trap('cast_mood(public.mood)', 'text', "'x'")} ${trap('cast_pair(public.pair)', 'text', "'x'")}
      ${trap('cast_checked(public.checked)', 'text', "'x'")} ${trap('is_checked(int)', 'boolean', 'true')}
      ${trap('same(public.mood, public.mood)', 'boolean', 'true')}
      CREATE CAST (mood AS text) WITH FUNCTION evil.cast_mood(mood) AS IMPLICIT;
      CREATE CAST (pair AS text) WITH FUNCTION evil.cast_pair(pair) AS IMPLICIT;
      CREATE CAST (mood AS varchar) WITH FUNCTION evil.cast_mood(mood) AS IMPLICIT;
      CREATE OPERATOR public.= (LEFTARG = mood, RIGHTARG = mood, FUNCTION = evil.same)`);
    for (const [type, value] of [
      ['mood', "'good'"],
      ['pair', "'(1,2)'"],
      ['checked', '5'],
    ]) {
      await owner.query(`DELETE FROM t; ALTER TABLE t ALTER id TYPE ${type} USING NULL`);
      for (const _ of ['before discovery', 'after']) {
        await changes();
        await owner.query(`INSERT INTO t VALUES (${value}); UPDATE t SET n = 1; DELETE FROM t`);
        expect(await changes()).toHaveLength(3);
        expect((await installationOf(database).install()).unwatchable).toEqual([]);
      }
    }
    // What the owner's own statements do is the owner's affair.
    expect(await database.query('SELECT * FROM evil.calls WHERE who <> $1', [role])).toEqual([]);
  });

  test('needs no EXECUTE on pg_notify, nor does the role that installed', async () => {
    const database = await setupApplication();
    const [installer, writer] = [await createRole(database), await createRole(database)];
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${installer.role};
      GRANT CREATE ON SCHEMA public TO ${installer.role};
      REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC`);
    onTestFinished(
      () => void database.query('GRANT EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) TO PUBLIC'),
    );
    const owner = await database.client({ connectionString: installer.url });
    await owner.query(`CREATE TABLE t (id int PRIMARY KEY); GRANT INSERT ON t TO ${writer.role}`);
    const { install, names } = installationOf(database, {}, installer.url);
    await install();
    const reader = await database.client();
    const payloads: unknown[] = [];
    reader.on('notification', ({ payload }) => payloads.push(payload));
    await reader.query('LISTEN test');
    await reader.query('SELECT pg_advisory_lock($1)', [names.sleepKey]);
    const client = await database.client({ connectionString: writer.url });
    await expect(client.query(`SELECT pg_notify('test', '')`)).rejects.toThrow('permission denied');
    await client.query('INSERT INTO t VALUES (1)');
    await reader.query('SELECT');
    expect(payloads).toEqual([expect.stringContaining('"tbl" : "t"')]);
    await reader.end();
  });

  test('may have row-level security, which also binds the owner', async () => {
    const { database, changes } = await setupInstallation(`
      CREATE TABLE t (id int PRIMARY KEY, tenant text, n int);
      ALTER TABLE t ENABLE ROW LEVEL SECURITY; ALTER TABLE t FORCE ROW LEVEL SECURITY;
      CREATE POLICY own ON t USING (tenant = current_user);
      INSERT INTO t VALUES (1, 'somebody else')`);
    const { role, url } = await createRole(database);
    await database.query(`GRANT ALL ON t TO ${role}`);
    const writer = await database.client({ connectionString: url });
    await writer.query('INSERT INTO t VALUES (2, current_user); UPDATE t SET n = 1; DELETE FROM t');
    expect(await changes()).toEqual(['INSERT t 2', 'UPDATE t 2', 'DELETE t 2']);
  });
});

describe('internal objects', () => {
  const privileges = `
    SELECT n.nspname AS object, p AS privilege FROM pg_namespace n, unnest('{USAGE,CREATE}'::text[]) p
    WHERE n.nspname = 'postgres_input' AND has_schema_privilege($1, n.oid, p)
    UNION ALL
    SELECT c.relname, p FROM pg_class c, unnest('{SELECT,INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) p
    WHERE c.relnamespace = 'postgres_input'::regnamespace AND c.relkind IN ('r', 'p') AND has_table_privilege($1, c.oid, p)
    UNION ALL
    SELECT c.relname, p FROM pg_class c, unnest('{USAGE,SELECT,UPDATE}'::text[]) p
    WHERE c.relnamespace = 'postgres_input'::regnamespace AND c.relkind = 'S' AND has_sequence_privilege($1, c.oid, p)
    UNION ALL
    SELECT f.proname, 'EXECUTE' FROM pg_proc f
    WHERE f.pronamespace = 'postgres_input'::regnamespace AND has_function_privilege($1, f.oid, 'EXECUTE')`;

  test('can be used by no other role, whatever the default privileges are', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { role, url } = await createRole(database);
    const kinds = ['TABLES', 'SEQUENCES', 'FUNCTIONS', 'SCHEMAS'];
    for (const kind of kinds) await database.query(`ALTER DEFAULT PRIVILEGES GRANT ALL ON ${kind} TO PUBLIC`);
    await installationOf(database).install();
    for (const kind of kinds)
      await database.query(`ALTER DEFAULT PRIVILEGES REVOKE ALL ON ${kind} FROM PUBLIC`);
    await database.query('ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO PUBLIC');
    expect(await database.query(privileges, [role])).toEqual([]);

    // Even who gets into the schema can neither call a function nor have it called.
    await database.query(
      `GRANT USAGE ON SCHEMA postgres_input TO ${role}; GRANT CREATE ON SCHEMA public TO ${role}`,
    );
    const client = await database.client({ connectionString: url });
    await client.query('CREATE TABLE mine (id int PRIMARY KEY)');
    const functions = await database.query(`
      SELECT oid::regprocedure AS name, pronargs AS arguments, prorettype::regtype::text AS type FROM pg_proc
      WHERE pronamespace = 'postgres_input'::regnamespace`);
    expect(functions).toHaveLength(10);
    for (const { name, arguments: count, type } of functions) {
      const use =
        type === 'trigger'
          ? `CREATE TRIGGER mine AFTER INSERT ON mine REFERENCING NEW TABLE AS new_rows EXECUTE FUNCTION ${name}`
          : `SELECT ${name.replace(/\(.*/, '')}(${Array<string>(count).fill('NULL').join()})`;
      await expect(client.query(use)).rejects.toThrow('permission denied for function');
    }
  });

  test('are behind a schema that default privileges open to nobody, such as a role that may read all tables', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { role, url } = await createRole(database);
    for (const kind of ['TABLES', 'SEQUENCES', 'FUNCTIONS', 'SCHEMAS'])
      await database.query(`ALTER DEFAULT PRIVILEGES GRANT ALL ON ${kind} TO ${role}`);
    const { install, names } = installationOf(database);
    await install();
    const reader = await database.client({ connectionString: url });
    const refused = { message: 'permission denied for schema postgres_input' };
    await expect(reader.query(`SELECT FROM ${names.secretTable.sql}`)).rejects.toMatchObject(refused);
    await expect(reader.query(`SELECT ${names.notifyFunction.sql}('')`)).rejects.toMatchObject(refused);
  });

  test('are functions that run as their owner, under a search_path of their own', async () => {
    const { database } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id timestamptz PRIMARY KEY)',
    );
    const functions = await database.query(`
      SELECT prosecdef, proconfig, proowner = current_user::regrole AS owned FROM pg_proc
      WHERE pronamespace = 'postgres_input'::regnamespace`);
    expect(functions).toHaveLength(14);
    for (const { proconfig, ...definer } of functions) {
      expect(definer).toEqual({ prosecdef: true, owned: true });
      expect(proconfig).toContain('search_path=pg_catalog, pg_temp');
    }
  });

  test('may lie in a schema of any name', async () => {
    const internalSchema = `100%s "x"; '; DROP TABLE t; --`;
    const { database, changes, uninstall, plan } = await setupInstallation(
      'CREATE TABLE t (id int PRIMARY KEY)',
      {
        internalSchema,
        tables: { exclude: ["'; DROP TABLE t; --", '" OR true', '(', 'x'.repeat(200), '*'.repeat(20) + 'x'] },
        schemas: ['public', "'; DROP TABLE t; --", '"', 'x'.repeat(63)],
      },
    );
    expect((await plan()).steps).toEqual([]);
    await database.query('INSERT INTO t VALUES (1); ALTER TABLE t RENAME id TO x');
    await database.query('UPDATE t SET x = 2');
    expect(await changes()).toEqual(['INSERT t 1', 'DELETE t 1', 'INSERT t 2']);
    await uninstall();
    expect(await database.query(`SELECT FROM pg_namespace WHERE nspname = $1`, [internalSchema])).toEqual([]);
  });
});

describe('the role that installs', () => {
  test('is no superuser: owns the tables, and may create in the database', async () => {
    const database = await setupApplication();
    const { role, url } = await createRole(database);
    await database.query(
      `GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT CREATE ON SCHEMA public TO ${role}`,
    );
    const owner = await database.client({ connectionString: url });
    await owner.query('CREATE TABLE t (id int PRIMARY KEY)');
    const { asleep, next } = await run(url);
    await asleep;
    await owner.query('INSERT INTO t VALUES (1)');
    expect(await next()).toBe('create t 1');
    await owner.query('TRUNCATE t');
    expect(await next()).toBe('delete t *');
  });

  test('is a member of the owning role, and has a schema that a DBA made', async () => {
    const database = await setupApplication(
      'CREATE SCHEMA postgres_input; CREATE TABLE t (id int PRIMARY KEY)',
    );
    const [owner, member] = [await createRole(database), await createRole(database)];
    await database.query(`
      GRANT CREATE ON SCHEMA public TO ${owner.role};
      ALTER TABLE t OWNER TO ${owner.role}; GRANT ${owner.role} TO ${member.role};
      GRANT CREATE, USAGE ON SCHEMA postgres_input TO ${member.role}`);
    const { install, changes, uninstall } = installationOf(database, {}, member.url);
    expect(await install()).toEqual({ watched: ['t'], unwatchable: [], pending: [] });
    await database.query('INSERT INTO t VALUES (1)');
    expect(await changes()).toEqual(['INSERT t 1']);
    await uninstall();
    expect(
      await database.query(`SELECT FROM pg_class WHERE relnamespace = 'postgres_input'::regnamespace`),
    ).toEqual([]);
    expect(await database.query(`SELECT FROM pg_namespace WHERE nspname = 'postgres_input'`)).toHaveLength(1);
  });

  test('is the owner of a schema that a DBA made, and needs no CREATE on the database', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { role, url } = await createRole(database);
    await database.query(`
      REVOKE CREATE ON DATABASE ${database.name} FROM PUBLIC; ALTER TABLE t OWNER TO ${role};
      GRANT CREATE ON SCHEMA public TO ${role}; CREATE SCHEMA postgres_input AUTHORIZATION ${role}`);
    const { asleep, next } = await run(url);
    await asleep;
    await database.query('INSERT INTO t VALUES (1)');
    expect(await next()).toBe('create t 1');
  });

  test('may be the second: triggers installed later write with the rights of the role that installed first', async () => {
    const database = await setupApplication(`
      CREATE SCHEMA postgres_input;
      CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY)`);
    const [first, second] = [await createRole(database), await createRole(database)];
    await database.query(`
      GRANT CREATE, USAGE ON SCHEMA postgres_input TO ${first.role}, ${second.role};
      ALTER TABLE a OWNER TO ${first.role}; ALTER TABLE b OWNER TO ${second.role}`);
    expect((await installationOf(database, {}, first.url).install()).watched).toEqual(['a']);

    // It can't have its functions write to another's log: the application's statements would fail.
    const { watched, unwatchable } = await installationOf(database, {}, second.url).install();
    expect({ watched, unwatchable }).toEqual({
      watched: ['a'],
      unwatchable: [
        {
          table: 'b',
          reason: `the change log belongs to ${first.role}: connect as that role, or as a member of it`,
        },
        { table: 'c', reason: expect.stringContaining('it belongs to') },
      ],
    });
    await database.query('INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)');
    expect(await installationOf(database).changes()).toEqual(['INSERT a 1']);

    // A superuser can, and lends the first its own rights with none of them.
    await installationOf(database).install();
    const owners = `SELECT DISTINCT pg_get_userbyid(proowner) AS owner FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace`;
    expect(await database.query(owners)).toEqual([{ owner: first.role }]);
    await database.query('INSERT INTO b VALUES (2); INSERT INTO c VALUES (2)');
    expect(await installationOf(database).changes()).toEqual(['INSERT b 2', 'INSERT c 2']);
    expect((await installationOf(database, {}, first.url).plan()).steps).toEqual([]);
  });

  test('may be a member of the role that owns the log: what it adds belongs to that role, and nodes of that role use it', async () => {
    const database = await setupApplication(
      'CREATE SCHEMA postgres_input; CREATE TABLE t (id int PRIMARY KEY)',
    );
    const [owner, member] = [await createRole(database), await createRole(database)];
    await database.query(`
      GRANT CREATE, USAGE ON SCHEMA postgres_input TO ${owner.role}, ${member.role};
      ALTER TABLE t OWNER TO ${owner.role}; GRANT ${owner.role} TO ${member.role}`);
    await installationOf(database, {}, owner.url).install();
    for (const name of ['lock', 'secret', 'failed', 'parked', 'backfill'])
      await database.query(`DROP TABLE postgres_input.${name}_postgres_input_test`);
    await database.query('DROP SEQUENCE postgres_input.sequence_postgres_input_test CASCADE');
    await installationOf(database, { rows: 'after' }, member.url).install();
    expect(
      await database.query(
        `SELECT relname, pg_get_userbyid(relowner) AS owner FROM pg_class
         WHERE relnamespace = 'postgres_input'::regnamespace AND pg_get_userbyid(relowner) <> $1`,
        [owner.role],
      ),
    ).toEqual([]);
    const { asleep, next } = await run(owner.url, { rows: 'after' });
    await asleep;
    await database.query('INSERT INTO t VALUES (1)');
    expect(await next()).toBe('create t 1');
  });

  test('is a superuser, and does not install where another role could replace what it installs', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { role } = await createRole(database);
    await database.query(`CREATE SCHEMA postgres_input AUTHORIZATION ${role}`);
    await expect(installationOf(database).install()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringContaining(`schema postgres_input belongs to ${role}`),
    });
    await database.query('INSERT INTO t VALUES (1)');
    await database.query('ALTER SCHEMA postgres_input OWNER TO CURRENT_USER');
    expect((await installationOf(database).install()).watched).toEqual(['t']);
  });

  test('may have TRIGGER on the table of another role; a table that it may not watch is reported and stops nothing', async () => {
    const database = await setupApplication(`
      CREATE TABLE granted (id int PRIMARY KEY); CREATE TABLE theirs (id int PRIMARY KEY);
      CREATE SCHEMA closed; CREATE TABLE closed.t (id int PRIMARY KEY)`);
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON granted, closed.t TO ${role};
      CREATE TABLE own (id int PRIMARY KEY); ALTER TABLE own OWNER TO ${role}`);
    const [{ current_user }] = (await database.query('SELECT current_user')) as [{ current_user: string }];
    const { watcher, asleep, next } = await run(url, { schemas: ['public', 'closed'] });
    await asleep;
    await database.query(
      'INSERT INTO granted VALUES (1); INSERT INTO theirs VALUES (2); INSERT INTO own VALUES (3)',
    );
    expect([await next(), await next()]).toEqual(['create granted 1', 'create own 3']);
    expect(await watcher.status()).toMatchObject({
      watched: ['granted', 'own'],
      unwatchable: [
        {
          table: 'theirs',
          reason: `it belongs to ${current_user}: connect as a member of that role, or have it grant TRIGGER`,
        },
        { table: 'closed.t', reason: 'permission denied for schema closed' },
      ],
      pending: [],
    });
  });

  test('goes on with a trigger of 0.1.0 that it may not replace', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)');
    const { role, url } = await createRole(database);
    await database.query(
      `GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON t TO ${role}`,
    );
    const { install, names, plan } = installationOf(database, {}, url);
    await install();
    const trigger = names.trigger('t', 'truncate');
    await database.query(`
      DROP TRIGGER ${trigger} ON t; CREATE TRIGGER ${trigger} AFTER TRUNCATE ON t
      EXECUTE FUNCTION ${names.recordFunction('public', 't', 'truncate').sql}()`);
    expect(await plan()).toMatchObject({ watched: ['t'], unwatchable: [], steps: [], barredSteps: [] });
    // The owner replaces it.
    expect((await installationOf(database).plan()).steps).toMatchObject([{ table: 't' }]);
  });

  test('learns from the error what is missing', async () => {
    const database = await setupApplication();
    const { url } = await createRole(database);
    const { events } = await run(url);
    await expect(events.next()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringContaining('the role needs CREATE on the database or on schema postgres_input'),
    });
  });
});

describe('a node that may do no DDL', () => {
  /** A database in which a DBA has run what plan prints, and a role with the grants of docs/rights.md. */
  async function prepared() {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { steps, barredSteps } = await installationOf(database).plan();
    expect(barredSteps).toEqual([]);
    for (const { sql } of steps) await database.query(['BEGIN', ...sql, 'COMMIT'].join(';\n'));
    const { role, url } = await createRole(database);
    const grants = runtimeGrants(installationOf(database).names, { rows: 'none' });
    const grant = (how: string) =>
      grants.map(({ privileges, on, sql }) => ({
        privileges,
        on,
        sql,
        text: `${how} ${privileges.join(', ')} ON ${on} ${sql}`,
      }));
    for (const { text } of grant('GRANT')) await database.query(`${text} TO ${quoteIdentifier(role)}`);
    return { database, role, url };
  }

  test('works with the grants of docs/rights.md', async () => {
    const page = await readFile(new URL('../../docs/rights.md', import.meta.url), 'utf8');
    const granted = grantTo('node', namesOf('sales', 'postgres_input'), { rows: 'none' }).map(
      (sql) => `${sql.replaceAll('"', '').replace(' TABLE ', ' ')};`,
    );
    expect(page.match(/^GRANT .*$/gm)).toEqual(granted);
  });

  test('needs these rights', async () => {
    const { database, url } = await prepared();
    expect(
      runtimeGrants(installationOf(database).names, { rows: 'none' }).map(({ privileges, name }) => [
        ...privileges,
        name,
      ]),
    ).toEqual([
      ['USAGE', 'postgres_input'],
      ['SELECT', 'UPDATE', 'lock_postgres_input_test'],
      ['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'log_postgres_input_test'],
      ['SELECT', 'sequence_postgres_input_test'],
      ['SELECT', 'secret_postgres_input_test'],
    ]);
    const { watcher, asleep, next, events } = await run(url, { install: false });
    await asleep;
    await database.query('INSERT INTO t VALUES (1)');
    expect(await next()).toBe('create t 1');
    await database.query('INSERT INTO t SELECT i FROM generate_series(2, 100) i');
    for (let i = 2; i <= 100; i++) expect(await next()).toBe(`create t ${i}`);

    const installed = new Promise((resolve) => watcher.once('installed', resolve));
    await database.query('CREATE TABLE new (id int PRIMARY KEY)');
    expect(await installed).toMatchObject({ watched: ['t'], unwatchable: [{ table: 'new' }] });
    expect(await watcher.status()).toMatchObject({ state: 'active', watched: ['t'], inFlight: 1 });
    await watcher.close();
    expect(await events.next()).toMatchObject({ done: true });
    expect(await database.query(`SELECT id FROM postgres_input.log_postgres_input_test`)).toEqual([]);
  });

  test.each([
    'USAGE ON SCHEMA postgres_input',
    'SELECT ON postgres_input.lock_postgres_input_test',
    'UPDATE ON postgres_input.lock_postgres_input_test',
    'SELECT ON postgres_input.log_postgres_input_test',
    'INSERT ON postgres_input.log_postgres_input_test',
    'DELETE ON postgres_input.log_postgres_input_test',
    'SELECT ON postgres_input.secret_postgres_input_test',
  ])('cannot do without %s, and says so', async (privilege) => {
    const { database, role, url } = await prepared();
    await database.query(`REVOKE ${privilege} FROM ${role}; INSERT INTO t VALUES (1)`);
    const { events } = await run(url, { install: false });
    const consumed = (async () => {
      for await (const _ of events);
    })();
    await expect(consumed).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(/permission denied.*plan/s),
    });
  });

  test('cannot do without UPDATE on the log when another transaction has a change, and says so', async () => {
    const { database, role, url } = await prepared();
    await database.query(`REVOKE UPDATE ON postgres_input.log_postgres_input_test FROM ${role}`);
    const { events } = await run(url, { install: false });
    await database.query('INSERT INTO t VALUES (1)');
    await events.next();
    const other = await database.client();
    await other.query('BEGIN; DELETE FROM postgres_input.log_postgres_input_test');
    await expect(events.next()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringMatching(/permission denied.*plan/s),
    });
    await other.query('ROLLBACK');
  });

  test('may have another role acknowledge, in its transactions, with these rights', async () => {
    const { database, url } = await prepared();
    const worker = await createRole(database);
    const client = await database.client({ connectionString: worker.url });
    const { watcher, events } = await run(url, { install: false });
    await database.query('INSERT INTO t VALUES (1)');
    const event = (await events.next()).value!;
    const rights = [
      'USAGE ON SCHEMA postgres_input',
      'SELECT ON postgres_input.lock_postgres_input_test',
      'SELECT ON postgres_input.log_postgres_input_test',
      'DELETE ON postgres_input.log_postgres_input_test',
    ];
    for (const right of rights) {
      for (const each of rights)
        await database.query(
          each === right ? `REVOKE ${each} FROM ${worker.role}` : `GRANT ${each} TO ${worker.role}`,
        );
      await client.query('BEGIN');
      await expect(watcher.ack(event, client), `without ${right}`).rejects.toThrow('permission denied');
      await client.query('ROLLBACK');
    }
    for (const right of rights) await database.query(`GRANT ${right} TO ${worker.role}`);
    await client.query('BEGIN');
    await watcher.ack(event, client);
    await client.query('COMMIT');
    expect(await database.query('SELECT FROM postgres_input.log_postgres_input_test')).toEqual([]);
  });

  test('learns from the error that a DBA has to install', async () => {
    const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
    const { url } = await createRole(database);
    const { events } = await run(url, { install: false });
    await expect(events.next()).rejects.toMatchObject({
      code: 'ERR_INSTALL',
      message: expect.stringContaining('`plan` prints'),
    });
  });
});

test('a payload that an eavesdropper sends, or repeats, is never an event', async () => {
  const database = await setupApplication('CREATE TABLE t (id int PRIMARY KEY)');
  const { url } = await createRole(database);
  const { watcher, next, asleep } = await run(database.url);
  await asleep;
  const eavesdropper = await database.client({ connectionString: url });
  const heard: string[] = [];
  eavesdropper.on('notification', ({ payload }) => heard.push(payload!));
  await eavesdropper.query('LISTEN test');
  await database.query('INSERT INTO t VALUES (1)');
  expect(await next()).toBe('create t 1');
  await expect.poll(() => heard.length).toBe(1);
  const genuine = heard[0]!;
  for (const payload of [
    genuine,
    genuine.replace('"1"', '"2"'),
    genuine.replace(/"mac":"."/, '"mac":"0"'),
    genuine.replace(/^\[[^,]*,/, '['),
    `{"tbl": "t", "id": "9", "op": "DELETE", "seq": "99"}`,
    `[{"seq": "99", "tbl": "t", "id": "9", "op": "DELETE"}]`,
    '[]',
  ])
    await eavesdropper.query('SELECT pg_notify($1, $2)', ['test', payload]);
  await eavesdropper.query(`SELECT pg_notify('nodes_postgres_input_test', 'released')`);
  await database.query('INSERT INTO t VALUES (3)');
  expect(await next()).toBe('create t 3');
  expect((await watcher.status()).forgedNotifications).toBeGreaterThan(0);
});

test('backfills run as a role that a DBA has given the rights for them, and the error says which are missing', async () => {
  const { database, names, settings } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 3)',
  );
  const { role, url } = await createRole(database);
  await database.query(grantTo(role, names, settings).join(';'));
  const { watcher, asleep, next } = await run(url, { install: false });
  await asleep;
  await expect(watcher.backfill()).rejects.toMatchObject({
    code: 'ERR_INSTALL',
    message: expect.stringContaining('may not read "public"."t"'),
  });
  await database.query(grantTo(role, names, settings, ['public.t']).join(';'));
  await watcher.backfill();
  expect([await next(), await next(), await next()]).toEqual(['read t 1', 'read t 2', 'read t 3']);
});

test('another role acknowledges what a backfill has read, with one right more', async () => {
  const { database, names } = await setupInstallation(
    'CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)',
  );
  const worker = await createRole(database);
  await database.query(`GRANT USAGE ON SCHEMA ${quoteIdentifier(names.schema)} TO ${worker.role};
    GRANT SELECT ON ${names.lockTable.sql} TO ${worker.role};
    GRANT SELECT, DELETE ON ${names.logTable.sql} TO ${worker.role}`);
  const client = await database.client({ connectionString: worker.url });
  const { watcher, events, asleep } = await run(database.url);
  const first = events.next();
  await asleep;
  await watcher.backfill();
  const event = (await first).value!;
  expect(event.operation).toBe('read');
  await client.query('BEGIN');
  await expect(watcher.ack(event, client)).rejects.toThrow('permission denied');
  await client.query('ROLLBACK');
  await database.query(`GRANT INSERT ON ${names.backfillTable.sql} TO ${worker.role}`);
  await client.query('BEGIN');
  await watcher.ack(event, client);
  await client.query('COMMIT');
});
