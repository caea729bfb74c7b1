import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { promisify } from 'node:util';
import { afterAll, beforeEach, describe, expect, inject, it, onTestFinished } from 'vitest';
import { OPERATION } from '../../src/cli/check-operation.ts';
import type { Patient } from '../../src/cli/finding.ts';
import { main } from '../../src/cli/main.ts';
import { type ChangeEvent, newPostgresInput } from '../../src/index.ts';
import { createDatabase, type TestDatabase } from '../support/database.ts';
import { startPooler } from '../support/pooler.ts';
import { startServer } from '../support/server.ts';

let database: TestDatabase;

beforeEach(async () => {
  database = await createDatabase();
  await database.query(
    'CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE lines (o int, n int, PRIMARY KEY (o, n))',
  );
});

interface Result {
  code: number;
  out: string;
  err: string;
}

/** Runs the command within this process. */
async function run(
  args: string[],
  env: NodeJS.ProcessEnv = { DATABASE_DSN: database.url },
  colours = false,
): Promise<Result> {
  const [stdout, stderr] = [new Collector(colours), new Collector(colours)];
  const code = await main(args, { stdout, stderr, env });
  return { code, out: stdout.text, err: stderr.text };
}

async function runJson(...args: string[]) {
  const { out, err } = await run([...args, '--json']);
  expect(err).toBe('');
  return JSON.parse(out);
}

class Collector extends Writable {
  text = '';
  readonly #colours: boolean;

  constructor(colours: boolean) {
    super();
    this.#colours = colours;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }

  hasColors(): boolean {
    return this.#colours;
  }
}

/** Runs the command as a process, as a shell would. */
function start(args: string[], dsn = database.url) {
  const child = spawn(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), new URL('../../src/cli.ts', import.meta.url).pathname, ...args],
    { env: { ...process.env, DATABASE_DSN: dsn, FORCE_COLOR: undefined }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  let err = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  return { child, err: () => err };
}

async function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

/** A process that tails and is active, and its lines, parsed. */
async function startTail(...args: string[]) {
  const { child, err } = start(['tail', ...args]);
  await expect.poll(err, { timeout: 60_000 }).toContain('tail: active');
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const next = async (): Promise<ChangeEvent> => JSON.parse((await lines.next()).value);
  return { child, err, next };
}

/** A role of one's own, and the database as it sees it. */
async function createRole(): Promise<{ role: string; url: string }> {
  const role = `role_${randomBytes(6).toString('hex')}`;
  await database.query(`CREATE ROLE ${role} LOGIN`);
  roles.push(role);
  const url = new URL(database.url);
  url.username = role;
  return { role, url: url.href };
}

const roles: string[] = [];

/** Databases go with their rights on them; roles belong to the whole server. */
afterAll(async () => {
  await using witness = await createDatabase();
  await database[Symbol.asyncDispose]();
  for (const role of roles) await witness.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`).catch(() => {});
});

const internalObjects = async () =>
  (
    await database.query(`SELECT nspname AS name FROM pg_namespace WHERE nspname = 'postgres_input'
     UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal`)
  ).map(({ name }) => name);

describe('usage', () => {
  it('explains every command, option and exit code', async () => {
    const { code, out } = await run(['--help'], {});
    expect(code).toBe(0);
    for (const word of [
      'plan',
      'install',
      'uninstall',
      'status',
      'doctor',
      'tail',
      'DATABASE_DSN',
      'Exit codes',
    ])
      expect(out).toContain(word);
    expect((await run(['tail', '--help'], {})).out).toContain('--join');
    expect((await run(['plan', '-h'], {})).out).toContain('--grant-to ROLE');
    expect((await run(['--version'], {})).out).toMatch(/^\d+\.\d+\.\d+\n$/);
    expect(Math.max(...out.split('\n').map((line) => line.length))).toBeLessThan(120);
  });

  it.each([
    [[], 'a command is missing'],
    [['instal'], 'there is no command "instal"'],
    [['status'], '--name is missing'],
    [['status', '--name'], 'argument missing'],
    [['status', '--name', 'x', '--nam', 'y'], "'--nam'"],
    [['status', '--name', 'x', 'y'], 'Unexpected argument'],
    [['status', '--name', 'x', '--operation', 'upsert'], '"upsert" is not an operation'],
    [['status', '--name', 'x', '--lock-timeout', 'soon'], 'lockTimeout'],
    [['status', '--name', 'x', '--internal-schema', 'pg_x'], 'must not begin with pg_'],
    [['tail', '--join'], '--join needs --name'],
    [['tail', '--join', '--name', 'x', '--table', 'orders'], '--table would throw the others away'],
  ])('answers %j with exit code 2', async (args, problem) => {
    const { code, out, err } = await run(args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(problem);
  });

  it('wants a connection string', async () => {
    const { code, err } = await run(['status', '--name', 'x'], {});
    expect(code).toBe(2);
    expect(err).toContain('DATABASE_DSN is not set');
  });

  it('never shows a password', async () => {
    const nobody = 'postgres://joe:tops3cret@127.0.0.1:1/x';
    for (const command of ['plan', 'install', 'uninstall', 'status', 'doctor', 'tail']) {
      const { code, out, err } = await run([command, '--name', 'x', '--connection-string', nobody]);
      expect(code).toBe(command === 'doctor' ? 3 : 1);
      expect(out + err).toContain('ECONNREFUSED');
      expect(out + err).not.toContain('tops3cret');
    }
    const unreadable = await run([
      'plan',
      '--name',
      'x',
      '--connection-string',
      'host=x password=top s3cret',
    ]);
    expect(unreadable.code).toBe(2);
    expect(unreadable.err).not.toContain('s3cret');
  });

  it('colours what a terminal shows, and nothing else', async () => {
    const coloured = await run(['doctor', '--name', 'x'], undefined, true);
    expect(coloured.out).toContain('\u001B[31mproblem');
    const { child } = start(['doctor', '--name', 'x']);
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    await once(child, 'close');
    expect(child.exitCode).toBe(3);
    expect(out).toContain('problem  installation');
    expect(out).not.toContain('\u001B');
  });

  it('shows a table whose name would command the terminal', async () => {
    await database.query('CREATE TABLE "\u001B[2J\r" (id int)');
    await run(['install', '--name', 'x']);
    const { out } = await run(['status', '--name', 'x']);
    expect(out).toContain('\\u001b[2J\\u000d');
    expect((await runJson('status', '--name', 'x')).watched).toContain('\u001B[2J\r');
  });
});

describe('plan', () => {
  it('runs nothing', async () => {
    const { code, out } = await run(['plan', '--name', 'x']);
    expect(code).toBe(0);
    expect(out).toMatch(/^CREATE .*TRIGGER /m);
    expect(out.match(/SET LOCAL lock_timeout = 100;/g)).toHaveLength(out.match(/^BEGIN;/gm)!.length);
    expect(await internalObjects()).toEqual([]);
  });

  it('prints a script that installs, after which there is nothing to do', async () => {
    const { out } = await run(['plan', '--name', 'x', '--lock-timeout', '5000']);
    expect(out).toContain('SET LOCAL lock_timeout = 5000;');
    await database.query(out);
    expect((await run(['plan', '--name', 'x'])).out).toMatch(/^-- .* nothing to do\.\n$/);
    expect(await runJson('plan', '--name', 'x')).toEqual({
      id: 'x',
      watched: ['lines', 'orders'],
      steps: [],
    });
    expect((await run(['doctor', '--name', 'x'])).code).toBe(0);
  });

  it('prints for a DBA what the role that asks may not do itself', async () => {
    const { url } = await createRole();
    const asked = await run(['plan', '--name', 'x', '--connection-string', url]);
    expect(asked.out).toBe((await run(['plan', '--name', 'x'])).out);
  });

  it('survives hostile names', async () => {
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
    await database.query(out);
    expect((await run(['plan', ...options])).out).toContain('nothing to do');
    expect((await runJson('status', ...options)).watched).toHaveLength(3);
    await run(['uninstall', ...options]);
    expect(await database.query('SELECT * FROM orders')).toEqual([]);
  });

  it('goes through psql', async ({ skip }) => {
    const psql = promisify(execFile);
    const found = await psql('psql', ['--version']).catch(() => null);
    if (!found) skip('no psql here');
    const { out } = await run(['plan', '--name', 'x']);
    const child = spawn('psql', ['--no-psqlrc', '--set', 'ON_ERROR_STOP=1', '--quiet', database.url], {
      stdio: ['pipe', 'ignore', 'inherit'],
    });
    child.stdin.end(out);
    expect(await exitCode(child)).toBe(0);
    expect((await run(['plan', '--name', 'x'])).out).toContain('nothing to do');
  });

  it('grants a role what running an input takes, and nothing more', async () => {
    const { role, url } = await createRole();
    await database.query((await run(['plan', '--name', 'x', '--grant-to', role])).out);
    expect(await serveOne(url)).toMatchObject({ location: 'orders', operation: 'create' });
    expect(await database.query('SELECT * FROM postgres_input.log_postgres_input_x')).toEqual([]);

    const grants = await database.query(
      `SELECT table_name || ' ' || string_agg(privilege_type, ',' ORDER BY privilege_type) AS text
       FROM information_schema.table_privileges WHERE grantee = $1 GROUP BY table_name ORDER BY 1`,
      [role],
    );
    expect(grants.map(({ text }) => text)).toEqual([
      'lock_postgres_input_x SELECT,UPDATE',
      'log_postgres_input_x DELETE,INSERT,SELECT,UPDATE',
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
      await expect(serveOne(url), `without ${privilege} on ${object}`).rejects.toThrow('permission denied');
      const { code, out } = await run(['doctor', '--name', 'x', '--connection-string', url]);
      expect(code).toBe(3);
      expect(out).toContain(`role ${role} lacks ${privilege} on ${object!.replace(/^.*[ .]/, '')}`);
      await database.query(`GRANT ${privilege} ON ${object} TO ${role}`);
    }
  });

  it('lets a role that may not touch the tables go on when one is dropped or made', async () => {
    const { role, url } = await createRole();
    await database.query((await run(['plan', '--name', 'x', '--grant-to', role])).out);
    await database.query('DROP TABLE lines; CREATE TABLE fresh (id int)');
    expect(await serveOne(url)).toMatchObject({ location: 'orders' });
    const status = JSON.parse(
      (await run(['status', '--name', 'x', '--json', '--connection-string', url])).out,
    );
    expect(status).toMatchObject({ watched: ['orders'], unwatchable: [{ table: 'fresh' }] });
  });
});

let order = 0;

/** Runs a node for one event, without installing, and lets it acknowledge. */
async function serveOne(connectionString: string): Promise<ChangeEvent | undefined> {
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

describe('install, status and uninstall', () => {
  it('install, tell, and remove', async () => {
    expect(await run(['status', '--name', 'my-input'])).toMatchObject({ code: 1, out: '' });
    expect(await runJson('install', '--name', 'my-input', '--exclude', 'lin*')).toEqual({
      id: 'my_input',
      watched: ['orders'],
      unwatchable: [],
      pending: [],
    });
    await database.query('INSERT INTO orders VALUES (1), (2)');
    await database.query("UPDATE postgres_input.log_postgres_input_my_input SET at = at - interval '90 s'");
    expect(await runJson('status', '--name', 'my-input')).toEqual({
      id: 'my_input',
      lease: null,
      backlog: 2,
      oldestChangeAt: expect.stringMatching(/^\d{4}-.*Z$/),
      oldestChangeAge: expect.toSatisfy((age: number) => age >= 90_000),
      watched: ['lines', 'orders'],
      unwatchable: [],
      pending: ['lines'],
    });
    const { out } = await run(['status', '--name', 'my-input']);
    expect(out).toMatch(/^active +no node$/m);
    expect(out).toMatch(/^backlog +2 changes$/m);
    expect(out).toMatch(/^oldest change +1 min \d+ s ago/m);
    expect(await runJson('uninstall', '--name', 'my-input')).toEqual({ id: 'my_input', discarded: 2 });
    expect(await internalObjects()).toEqual([]);
    expect((await run(['uninstall', '--name', 'my-input'])).code).toBe(0);
  });

  it('install what may be installed, and tell of the rest', async () => {
    const { role, url } = await createRole();
    await database.query(
      `GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON orders TO ${role}`,
    );
    const args = ['install', '--name', 'x', '--connection-string', url];
    const { code, out } = await run(args);
    expect(code).toBe(3);
    expect(out).toMatch(/^watched +1 table: orders$/m);
    expect(out).toMatch(/^left out +lines: it belongs to postgres/m);
    const report = JSON.parse((await run([...args, '--json'])).out);
    expect(report).toMatchObject({ watched: ['orders'], unwatchable: [{ table: 'lines' }], pending: [] });
  });

  it('tell who is active, and do not remove what is in use', async () => {
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const active = once(input as never, 'active');
    const ended = input.handle().next();
    await active;
    const { lease } = await runJson('status', '--name', 'x');
    expect(lease).toEqual({
      holder: expect.any(String),
      fencingToken: '1',
      acquiredAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect((await run(['status', '--name', 'x'])).out).toContain(
      `node ${lease.holder} since ${lease.acquiredAt}`,
    );
    expect((await run(['doctor', '--name', 'x'])).code).toBe(0);

    const refused = await run(['uninstall', '--name', 'x']);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('end it first');
    expect(await internalObjects()).not.toEqual([]);
    await input.close();
    await ended;
    expect((await run(['uninstall', '--name', 'x'])).code).toBe(0);
  });
});

describe('doctor', () => {
  const problems = async (...args: string[]) => {
    const report = await runJson('doctor', '--name', 'x', ...args);
    const found = report.findings.filter(({ result }: { result: string }) => result === 'problem');
    expect(report.ok).toBe(found.length === 0);
    return found.map(({ check, found, advice }: any) => `${check}: ${found} -> ${advice}`);
  };

  it('finds nothing wrong with a sound installation', async () => {
    await run(['install', '--name', 'x']);
    const { code, out } = await run(['doctor', '--name', 'x']);
    expect(code).toBe(0);
    expect(out).toMatch(/^ok +installation: complete; 2 tables watched$/m);
    const prepared = /^note +prepared transactions: max_prepared_transactions is \d+$/m;
    expect(prepared.test(out)).toBe(inject('preparedTransactions'));
    expect(await problems()).toEqual([]);
  });

  it('finds a database that does not let it in', async () => {
    expect(await problems('--connection-string', 'postgres://postgres@127.0.0.1:1/x')).toEqual([
      expect.stringMatching(/^connection: .*ECONNREFUSED.* -> check host, port/),
    ]);
  });

  it('finds a hot standby', async () => {
    await using primary = await startServer();
    await using standby = await startServer({ standbyOf: primary });
    expect(await problems('--connection-string', standby.url())).toEqual([
      expect.stringMatching(/^connection: the server is a hot standby.* -> connect to the primary/),
    ]);
    const both = `host=127.0.0.1,127.0.0.1 port=${standby.port},${primary.port} user=postgres dbname=postgres`;
    expect(await problems('--connection-string', both)).toEqual([
      expect.stringMatching(/^installation: nothing is installed/),
    ]);
  });

  it('finds a pooler in transaction mode, as newPostgresInput does', async () => {
    const { hostname, port } = new URL(database.url);
    await using pooler = await startPooler(hostname, Number(port));
    const url = pooler.url(database.url);
    // It does for what needs no session.
    const [one, other] = [
      await database.client({ connectionString: url }),
      await database.client({ connectionString: url }),
    ];
    const pids = new Set();
    for (const client of [one, other, one, other])
      pids.add((await client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid);
    expect(pids.size).toBe(4);

    const config = { name: 'x', type: 'postgres', connectionString: url };
    const [found, error] = await Promise.all([
      problems('--connection-string', url),
      newPostgresInput(config, { connectTimeout: 5000 }).catch((cause: unknown) => cause),
    ]);
    expect(found).toEqual([
      expect.stringMatching(
        /^connection: the connection goes through a pooler in transaction mode.* -> connect to the server itself or through a pooler in session mode/,
      ),
    ]);
    expect(error).toMatchObject({ code: 'ERR_CONNECT', message: expect.stringContaining('pooler') });
  });

  it.each([
    [130_022, 'problem', 'upgrade the server: 14 to 18 are supported'],
    [140_000, 'ok', null],
    [180_004, 'ok', null],
    [190_000, 'note', 'this package was tested with 14 to 18: look for a newer one'],
  ])('judges the version %i: %s', async (number, result, advice) => {
    const [version] = OPERATION;
    const session = { query: async () => [{ number, text: 'so and so' }] };
    expect(await version!({ session } as unknown as Patient)).toEqual([
      { check: 'version', result, found: 'PostgreSQL so and so', advice },
    ]);
  });

  it('finds that nothing is installed, and that the role may not install', async () => {
    const { role, url } = await createRole();
    expect(await problems('--connection-string', url)).toEqual([
      `rights: role ${role} may not install -> grant it CREATE on the database, or have a DBA run what plan --grant-to "${role}" prints`,
      expect.stringMatching(/^installation: nothing is installed -> start a node/),
      expect.stringMatching(/^tables: lines can't be watched -> it belongs to postgres/),
      expect.stringMatching(/^tables: orders can't be watched -> it belongs to postgres/),
    ]);
  });

  it('finds what differs from what should be', async () => {
    await run(['install', '--name', 'x']);
    const [trigger] = await database.query(
      "SELECT tgname AS name FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND tgtype & 4 > 0",
    );
    await database.query(`CREATE TABLE fresh (id int); DROP TABLE lines;
      ALTER TABLE orders DISABLE TRIGGER "${trigger.name}"`);
    expect(await problems()).toEqual([
      expect.stringMatching(
        /^installation: .*: the triggers of fresh; functions that are left over -> start a node/,
      ),
      `triggers: ${trigger.name} is disabled: changes of orders are lost -> ALTER TABLE "public"."orders" ENABLE TRIGGER "${trigger.name}"`,
    ]);
    await database.query('ALTER TABLE orders ENABLE TRIGGER ALL');
    await run(['install', '--name', 'x']);
    expect(await problems()).toEqual([]);
  });

  it('finds what the original left', async () => {
    await run(['install', '--name', 'x']);
    await database.query(`
      CREATE TABLE lock_postgres_input_x (resource int PRIMARY KEY);
      CREATE FUNCTION process_record_x() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER orders_x_trigger AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION process_record_x()`);
    expect(await problems()).toEqual([
      expect.stringContaining('the triggers of orders'),
      expect.stringMatching(/^leftovers: the original's trigger orders_x_trigger on orders -> end the nodes/),
      expect.stringMatching(/^leftovers: .* -> .*DROP TABLE "public"."lock_postgres_input_x"$/),
    ]);
    await database.query('DROP TRIGGER orders_x_trigger ON orders; DROP TABLE lock_postgres_input_x');
    expect(await problems()).toEqual([
      expect.stringMatching(/^installation: .*functions that are left over/),
    ]);
    await run(['install', '--name', 'x']);
    expect(await problems()).toEqual([]);
  });

  it('finds a backlog that nobody works on, and inputs that nobody serves', async () => {
    await run(['install', '--name', 'x']);
    await run(['install', '--name', 'gone', '--include', 'lines']);
    await database.query('INSERT INTO orders VALUES (1); INSERT INTO lines VALUES (1, 1)');
    expect(await problems()).toEqual([
      expect.stringMatching(/^backlog: no node is active; 2 changes in the log.* -> start a node/),
      expect.stringMatching(
        /^other inputs: input gone has no active node; backlog: 1 change.*uninstall --name gone$/,
      ),
    ]);
  });

  it('finds a consumer that does not keep up', async () => {
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const events = input.handle({ ack: 'manual' });
    const first = events.next();
    await once(input as never, 'active');
    await database.query('INSERT INTO orders VALUES (1)');
    await first;
    expect(await problems()).toEqual([]);
    await database.query("UPDATE postgres_input.log_postgres_input_x SET at = at - interval '1 h'");
    expect(await problems()).toEqual([
      expect.stringMatching(
        /^backlog: a node has been active since .*; 1 change in the log, the oldest 1 h .* -> the consumer/,
      ),
    ]);
  });

  it.skipIf(Number(process.env['TEST_PG_MAJOR'] || 18) < 17)(
    'finds a notification queue that fills up',
    async () => {
      await using server = await startServer({
        settings: { max_notify_queue_pages: '64', max_prepared_transactions: '0' },
      });
      await using small = await createDatabase(server.url());
      const listener = await small.client();
      await listener.query('LISTEN c');
      await listener.query('BEGIN; SELECT 1');
      await small.query("SELECT pg_notify('c', repeat('x', 7000) || n) FROM generate_series(1, 20) n");
      const { out } = await run(['doctor', '--name', 'x'], { DATABASE_DSN: small.url });
      expect(out).toMatch(/^problem +notification queue: \d+\.\d % full\n.*transaction open for long/m);
      expect(out).not.toContain('prepared');
    },
  );
});

describe('tail', { timeout: 120_000 }, () => {
  it('prints events as NDJSON, and takes none away from the other nodes', async () => {
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const events = input.handle();
    const first = events.next();
    await once(input as never, 'active');
    const { child, next } = await startTail();
    await database.query('INSERT INTO orders VALUES (7)');
    const printed = await next();
    expect(printed).toEqual({
      location: 'orders',
      operation: 'create',
      id: '7',
      trigger: expect.stringMatching(/^tail_[0-9a-f]{8}$/),
      sequence: '1000',
      key: { id: '7' },
      occurredAt: expect.stringMatching(/Z$/),
      fencingToken: '1',
    });
    expect((await first).value).toMatchObject({ id: '7', trigger: 'x' });
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    await input.close();
    await events.next();
    await input.uninstall();
    expect(await internalObjects()).toEqual([]);
  });

  it('prints what was asked for only, and leaves nothing behind at Ctrl-C', async () => {
    const { child, next } = await startTail('--table', 'orders', '--operation', 'delete,update');
    await database.query(`INSERT INTO lines VALUES (1, 1); DELETE FROM lines;
      INSERT INTO orders VALUES (1); UPDATE orders SET id = id; DELETE FROM orders`);
    expect(await next()).toMatchObject({ location: 'orders', operation: 'update' });
    expect(await next()).toMatchObject({ location: 'orders', operation: 'delete' });
    child.kill('SIGINT');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('ends when its reader hangs up', async () => {
    const { child } = await startTail();
    child.stdout.destroy();
    await database.query('INSERT INTO orders VALUES (1)');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('ends when told to although its reader has stalled', async () => {
    const { child, err } = start(['tail']);
    await expect.poll(err, { timeout: 60_000 }).toContain('tail: active');
    await database.query('INSERT INTO orders SELECT generate_series(1, 20000)');
    await expect
      .poll(async () => (await runJson('status', '--name', /input (tail_\w+)/.exec(err())![1]!)).backlog, {
        timeout: 60_000,
      })
      .toBeLessThan(20_000);
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('joins an input only when told to, and then acknowledges what it printed', async () => {
    await run(['install', '--name', 'x', '--include', 'orders']);
    await database.query('INSERT INTO orders VALUES (1), (2)');
    const refused = await run(['tail', '--name', 'x']);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('take its events away');

    const before = await internalObjects();
    const { child, next } = await startTail('--name', 'x', '--join');
    expect([(await next()).id, (await next()).id]).toEqual(['1', '2']);
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual(before);
    expect((await runJson('status', '--name', 'x')).backlog).toBe(0);
  });

  it('keeps an input that it was given a name for', async () => {
    const { child } = await startTail('--name', 'audit', '--table', 'orders');
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    await database.query('INSERT INTO orders VALUES (1)');
    const again = await startTail('--name', 'audit', '--join');
    expect(await again.next()).toMatchObject({ id: '1', trigger: 'audit' });
  });

  it('waits for a server that is gone, and goes on', async () => {
    await using server = await startServer();
    await using fragile = await createDatabase(server.url());
    await fragile.query('CREATE TABLE orders (id int PRIMARY KEY)');
    const { child, err } = start(['tail', '--name', 'x'], fragile.url);
    await expect.poll(err, { timeout: 60_000 }).toContain('tail: active');
    await server.restart('immediate');
    await expect.poll(err, { timeout: 60_000 }).toMatch(/lost[^]*tail: active/);
    await fragile.query('INSERT INTO orders VALUES (5)');
    const [line] = await once(createInterface(child.stdout), 'line');
    expect(JSON.parse(line).id).toBe('5');
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
  });
});
