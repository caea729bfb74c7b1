import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ChangeEvent, newPostgresInput } from '../../src/index.ts';
import { VERSION } from '../../src/schema/migrations.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { exitCode, setupCommands } from './commands.ts';

const hasPsql = spawnSync('psql', ['--version']).status === 0;

/** The script without the commands that psql alone knows. */
const sqlOf = (script: string): string => script.replaceAll(/^\\set .*\n/gm, '');

let order = 0;

/** Runs a node for one event, without installing, and lets it acknowledge. */
async function serveOne(database: TestDatabase, connectionString: string): Promise<ChangeEvent | undefined> {
  const config = { name: 'x', type: 'postgres', connectionString };
  await using input = await newPostgresInput(config, { install: false, connectTimeout: 10_000 });
  await database.query('INSERT INTO orders VALUES ($1)', [++order]);
  let served;
  for await (const event of input.handle({ ack: 'manual' })) {
    await input.ack(event);
    served = event;
    void input.close();
  }
  return served;
}

describe('plan', () => {
  it('runs nothing', async () => {
    const { run, internalObjects } = await setupCommands();
    const { code, out } = await run(['plan', '--name', 'x']);
    expect(code).toBe(0);
    expect(out).toMatch(/^CREATE .*TRIGGER /m);
    expect(out.match(/SET LOCAL lock_timeout = 100;/g)).toHaveLength(out.match(/^BEGIN;/gm)!.length);
    expect(await internalObjects()).toEqual([]);
  });

  it('prints a script that installs, after which there is nothing to do', async () => {
    const { database, run, runJson } = await setupCommands();
    const { out } = await run(['plan', '--name', 'x', '--lock-timeout', '5000']);
    expect(out).toContain('SET LOCAL lock_timeout = 5000;');
    await database.query(sqlOf(out));
    expect((await run(['plan', '--name', 'x'])).out).toMatch(/^-- .* nothing to do\.\n$/);
    expect(await runJson('plan', '--name', 'x')).toEqual({
      id: 'x',
      from: VERSION,
      to: VERSION,
      watched: ['lines', 'orders'],
      steps: [],
    });
    expect((await run(['doctor', '--name', 'x'])).code).toBe(0);
  });

  it('gives other clients the statements of each transaction', async () => {
    const { database, run, runJson } = await setupCommands();
    const { steps } = await runJson('plan', '--name', 'x', '--lock-timeout', '5000');
    const client = await database.client();
    for (const { sql } of steps) {
      expect(sql.slice(0, 2)).toEqual([
        'SET LOCAL lock_timeout = 5000',
        'SET LOCAL search_path = pg_catalog',
      ]);
      await client.query('BEGIN');
      for (const statement of sql) await client.query(statement);
      await client.query('COMMIT');
    }
    expect((await run(['plan', '--name', 'x'])).out).toMatch(/^-- .* nothing to do\.\n$/);
  });

  it('warns of a publication of all tables before the first installation, and install does too', async () => {
    const { database, run, runJson } = await setupCommands();
    await database.query(
      'CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION one FOR TABLE orders',
    );
    const { out, err } = await run(['plan', '--name', 'x']);
    const warning = 'warning: publication everything is FOR ALL TABLES, the internal ones too';
    expect(out).toContain(`-- ${warning}`);
    expect(err).toContain(`dapper-postgres-input: ${warning}`);
    expect(await runJson('plan', '--name', 'x')).toMatchObject({ publishedBy: ['everything'] });
    expect((await run(['install', '--name', 'x'])).out).toMatch(/^warning +publication everything is/m);
    expect(await runJson('install', '--name', 'x')).toMatchObject({ publishedBy: ['everything'] });
    await database.query('DROP PUBLICATION everything');
    expect((await run(['plan', '--name', 'x'])).out).toMatch(/^-- .* nothing to do\.\n$/);
    expect(await runJson('install', '--name', 'x')).not.toHaveProperty('publishedBy');
  });

  it('says that an upgrade from 0.1.0 to rows takes a second plan', async () => {
    const { database, run, runJson, installOld } = await setupCommands();
    await installOld('x');
    expect(await runJson('plan', '--name', 'x', '--rows', 'both')).toMatchObject({ isInterim: true });
    const { out, err } = await run(['plan', '--name', 'x', '--rows', 'both']);
    expect(err).toContain('run this plan, then another plan, which lets the functions log rows');
    await database.query(sqlOf(out));
    const second = await run(['plan', '--name', 'x']);
    expect(second.err).toBe('');
    await database.query(sqlOf(second.out));
    expect((await run(['plan', '--name', 'x'])).out).toMatch(/^-- .* nothing to do\.\n$/);
    await database.query('INSERT INTO orders VALUES (1)');
    expect(await database.query('SELECT after FROM postgres_input.log_postgres_input_x')).toEqual([
      { after: '(1)' },
    ]);
  });

  it('tells of patterns that match no table, and so do install and doctor', async () => {
    const { run, runJson } = await setupCommands();
    const args = ['--name', 'x', '--include', 'orders,order', '--exclude', 'old_*'];
    const [order, old] = ['--include order matches no table', '--exclude old_* matches no table'];
    const { err } = await run(['plan', ...args]);
    expect(err).toContain(`dapper-postgres-input: warning: ${order}: unless such a table is to come`);
    expect(err).toContain(`dapper-postgres-input: warning: ${old}`);
    const installed = await run(['install', ...args]);
    expect(installed.code).toBe(0);
    expect(installed.out.match(/^warning .*$/gm)).toEqual([
      expect.stringContaining(order),
      expect.stringContaining(old),
    ]);
    expect(await runJson('install', '--name', 'x')).toMatchObject({
      unmatched: [
        { option: 'include', pattern: 'order' },
        { option: 'exclude', pattern: 'old_*' },
      ],
    });
    const examined = await run(['doctor', '--name', 'x']);
    expect(examined.code).toBe(0);
    expect(examined.out).toContain(`note     tables: ${order}`);
    expect(await runJson('install', '--name', 'y', '--include', 'orders')).not.toHaveProperty('unmatched');
  });

  it('prints for a DBA what the role that asks may not do itself', async () => {
    const { database, run } = await setupCommands();
    const { url } = await createRole(database);
    const asked = await run(['plan', '--name', 'x', '--connection-string', url]);
    expect(asked.out).toBe((await run(['plan', '--name', 'x'])).out);
  });

  it('survives hostile names', async () => {
    const { database, run, runJson } = await setupCommands();
    const hostile = `it's; DROP TABLE orders; -- "$body$\n\\`;
    await database.query(`CREATE SCHEMA "${hostile.replaceAll('"', '""')}"`);
    await database.query(
      `CREATE TABLE "${hostile.replaceAll('"', '""')}"."${hostile.replaceAll('"', '""')}" (id int)`,
    );
    const options = ['--name', hostile, '--schemas', `public,${hostile}`, '--internal-schema', `${hostile}i`];
    const role = `${hostile}${randomBytes(6).toString('hex')}`;
    const quoted = `"${role.replaceAll('"', '""')}"`;
    await database.query(`CREATE ROLE ${quoted}`);
    onTestFinished(async () => {
      await database.query(`DROP OWNED BY ${quoted}; DROP ROLE ${quoted}`);
    });
    const { out } = await run(['plan', ...options, '--grant-to', role]);
    await database.query(sqlOf(out));
    expect((await run(['plan', ...options])).out).toContain('nothing to do');
    expect((await runJson('status', ...options)).watched).toHaveLength(3);
    await run(['uninstall', ...options]);
    expect(await database.query('SELECT * FROM orders')).toEqual([]);
  });

  describe.skipIf(!hasPsql)('piped into psql', () => {
    /** How psql ends if it is given the script, and nothing that changes how it treats errors. */
    async function psql(database: TestDatabase, script: string) {
      const child = spawn('psql', ['--no-psqlrc', '--quiet', database.url], {
        stdio: ['pipe', 'ignore', 'pipe'],
      });
      child.stdin.on('error', () => {}); // psql may end before it has read everything
      child.stdin.end(script);
      const [code, err] = await Promise.all([exitCode(child), text(child.stderr)]);
      return { code, err };
    }

    it('installs', async () => {
      const { database, run } = await setupCommands();
      const { out } = await run(['plan', '--name', 'x']);
      expect(await psql(database, out)).toEqual({ code: 0, err: '' });
      expect((await run(['plan', '--name', 'x'])).out).toContain('nothing to do');
    });

    it('stops at the first step that fails, and goes on from there with a new plan', async () => {
      const { database, run } = await setupCommands();
      const client = await database.client();
      await client.query('BEGIN; LOCK TABLE lines');
      const first = await run(['plan', '--name', 'x']);
      const { code, err } = await psql(database, first.out);
      expect(code).toBe(3);
      expect(err.match(/ERROR/g)).toHaveLength(1);
      const triggers = await database.query('SELECT tgrelid::regclass::text AS on FROM pg_trigger');
      expect(triggers).toEqual([]); // the table `lines` comes before `orders`

      await client.query('ROLLBACK');
      const second = await run(['plan', '--name', 'x']);
      expect(second.out).not.toContain('CREATE TABLE');
      expect(await psql(database, second.out)).toEqual({ code: 0, err: '' });
      expect((await run(['plan', '--name', 'x'])).out).toContain('nothing to do');
    });
  });

  it('has the commands of psql in the script alone', async () => {
    const { run, runJson } = await setupCommands();
    expect((await run(['plan', '--name', 'x'])).out).toMatch(
      /^\\set ON_ERROR_STOP on\nSET client_encoding = 'UTF8';\n/,
    );
    expect(JSON.stringify(await runJson('plan', '--name', 'x'))).not.toContain('ON_ERROR_STOP');
  });

  it('grants a role what running an input takes, and nothing more', async () => {
    const { database, run } = await setupCommands();
    const { role, url } = await createRole(database);
    await database.query(sqlOf((await run(['plan', '--name', 'x', '--grant-to', role])).out));
    expect(await serveOne(database, url)).toMatchObject({ location: 'orders', operation: 'create' });
    expect(await database.query('SELECT * FROM postgres_input.log_postgres_input_x')).toEqual([]);

    const grants = await database.query(
      `SELECT table_name || ' ' || string_agg(privilege_type, ',' ORDER BY privilege_type) AS text
       FROM information_schema.table_privileges WHERE grantee = $1 GROUP BY table_name ORDER BY 1`,
      [role],
    );
    expect(grants.map(({ text }) => text)).toEqual([
      'failed_postgres_input_x DELETE,INSERT,SELECT,UPDATE',
      'lock_postgres_input_x SELECT,UPDATE',
      'log_postgres_input_x DELETE,INSERT,SELECT,UPDATE',
      'parked_postgres_input_x DELETE,INSERT,SELECT,UPDATE',
      'secret_postgres_input_x SELECT',
    ]);
    for (const [privilege, object] of [
      ['USAGE', 'SCHEMA postgres_input'],
      ['SELECT', 'postgres_input.lock_postgres_input_x'],
      ['UPDATE', 'postgres_input.lock_postgres_input_x'],
      ['SELECT', 'postgres_input.log_postgres_input_x'],
      ['INSERT', 'postgres_input.log_postgres_input_x'],
      ['DELETE', 'postgres_input.log_postgres_input_x'],
      ['SELECT', 'postgres_input.secret_postgres_input_x'],
    ]) {
      await database.query(`REVOKE ${privilege} ON ${object} FROM ${role}`);
      await expect(serveOne(database, url), `without ${privilege} on ${object}`).rejects.toThrow(
        'permission denied',
      );
      const { code, out } = await run(['doctor', '--name', 'x', '--connection-string', url]);
      expect(code).toBe(3);
      expect(out).toContain(`role ${role} lacks ${privilege} on ${object!.replace(/^.*[ .]/, '')}`);
      await database.query(`GRANT ${privilege} ON ${object} TO ${role}`);
    }
  });

  it('lets a role that may not touch the tables go on when one is dropped or made', async () => {
    const { database, run } = await setupCommands();
    const { role, url } = await createRole(database);
    await database.query(sqlOf((await run(['plan', '--name', 'x', '--grant-to', role])).out));
    await database.query('DROP TABLE lines; CREATE TABLE fresh (id int)');
    expect(await serveOne(database, url)).toMatchObject({ location: 'orders' });
    const status = JSON.parse(
      (await run(['status', '--name', 'x', '--json', '--connection-string', url])).out,
    );
    expect(status).toMatchObject({ watched: ['orders'], unwatchable: [{ table: 'fresh' }] });
  });
});
