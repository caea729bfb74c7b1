import { once } from 'node:events';
import { describe, expect, inject, it } from 'vitest';
import { version } from '../../src/cli/doctor-check-server.ts';
import type { Patient } from '../../src/cli/doctor-finding.ts';
import { newPostgresInput } from '../../src/index.ts';
import { backfillGrants, grantTo, runtimeGrants } from '../../src/schema/grants.ts';
import { namesOf } from '../../src/schema/names.ts';
import { createDatabase, createRole } from '../support/database.ts';
import { startPooler } from '../support/pooler.ts';
import { startServer } from '../support/server.ts';
import { setupCommands } from './commands.ts';

async function setup() {
  const command = await setupCommands();
  /** Runs doctor for the input `x`: each of the problems that it finds, as one text. */
  const problems = async (...args: string[]): Promise<string[]> => {
    const report = await command.runJson('doctor', '--name', 'x', ...args);
    const found = report.findings.filter(({ result }: { result: string }) => result === 'problem');
    expect(report.ok).toBe(found.length === 0);
    return found.map(({ check, found, advice }: any) => `${check}: ${found} -> ${advice}`);
  };
  return { ...command, problems };
}

describe('doctor', () => {
  it('finds nothing wrong with a sound installation', async () => {
    const { run, problems } = await setup();
    await run(['install', '--name', 'x']);
    const { code, out } = await run(['doctor', '--name', 'x']);
    expect(code).toBe(0);
    expect(out).toMatch(/^ok +installation: complete; 2 tables watched$/m);
    const prepared = /^note +prepared transactions: max_prepared_transactions is \d+$/m;
    expect(prepared.test(out)).toBe(inject('preparedTransactions'));
    expect(await problems()).toEqual([]);
  });

  it('finds a database that does not let it in', async () => {
    const { problems } = await setup();
    expect(await problems('--connection-string', 'postgres://postgres@127.0.0.1:1/x')).toEqual([
      expect.stringMatching(/^connection: .*ECONNREFUSED.* -> check host, port/),
    ]);
  });

  it('finds a hot standby', async () => {
    const { problems } = await setup();
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

  it('notes that nodes poll through a pooler, when it is told that they may', async () => {
    const { database, run } = await setup();
    const { hostname, port } = new URL(database.url);
    await using pooler = await startPooler(hostname, Number(port));
    const url = pooler.url(database.url);
    const { out } = await run(['doctor', '--name', 'x', '--wakeup', 'auto', '--connection-string', url]);
    expect(out).toMatch(/^note +connection: nodes poll/m);
  });

  it('finds a pooler in transaction mode, as newPostgresInput does', async () => {
    const { database, problems } = await setup();
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
    const session = { query: async () => [{ number, text: 'so and so' }] };
    expect(await version({ session } as unknown as Patient)).toEqual([
      { check: 'version', result, found: 'PostgreSQL so and so', advice },
    ]);
  });

  it('finds that nothing is installed, and that the role may not install', async () => {
    const { database, problems } = await setup();
    const { role, url } = await createRole(database);
    expect(await problems('--connection-string', url)).toEqual([
      `rights: role ${role} may not install -> grant it CREATE on the database, or have a DBA run what plan --grant-to ${role} prints`,
      expect.stringMatching(/^installation: nothing is installed -> start a node/),
      expect.stringMatching(/^tables: lines can't be watched -> it belongs to postgres/),
      expect.stringMatching(/^tables: orders can't be watched -> it belongs to postgres/),
    ]);
  });

  describe('of the rights on the tables that only some nodes need', () => {
    /** The input `x`, installed by somebody else, and a role with these grants. */
    async function setupRole(grants: (role: string) => string[]) {
      const command = await setup();
      await command.run(['install', '--name', 'x']);
      const { role, url } = await createRole(command.database);
      await command.database.query(grants(role).join(';'));
      /** What doctor says of its rights, if it runs as this role. */
      const findings = async (): Promise<string[]> => {
        const report = await command.runJson('doctor', '--name', 'x', '--connection-string', url);
        return report.findings
          .filter(({ check }: { check: string }) => check === 'rights')
          .map(({ result, found, advice }: any) => `${result}: ${found} -> ${advice}`);
      };
      return { ...command, role, findings };
    }
    const names = namesOf('x', 'postgres_input');
    const has = (role: string) => `ok: role ${role} has what it needs -> null`;
    const advice = (role: string, options = '') =>
      `have a DBA run what plan --grant-to ${role}${options} prints`;

    it.each([
      ['failed', 'UPDATE'],
      ['parked', 'INSERT'],
    ])('finds that a role lacks a right on the table %s: %s', async (table, privilege) => {
      const { database, role, findings } = await setupRole((role) => grantTo(role, names, { rows: 'none' }));
      expect(await findings()).toEqual([has(role)]);
      const on = `${table}_postgres_input_x`;
      await database.query(`REVOKE ${privilege} ON postgres_input.${on} FROM ${role}`);
      expect(await findings()).toEqual([
        `problem: role ${role} lacks ${privilege} on ${on}: its nodes can't keep or park failed events -> ${advice(role)}`,
      ]);
      await database.query(`REVOKE ALL ON postgres_input.${on} FROM ${role}`);
      expect(await findings()).toEqual([
        `problem: role ${role} lacks SELECT, INSERT, UPDATE, DELETE on ${on}: its nodes can't keep or park failed events -> ${advice(role)}`,
      ]);
    });

    it('notes that a role is only good for handle(), also if it may read everything', async () => {
      const { database, role, findings } = await setupRole((role) =>
        runtimeGrants(names, { rows: 'none' }).map(
          ({ privileges, on, sql }) => `GRANT ${privileges.join()} ON ${on} ${sql} TO ${role}`,
        ),
      );
      const note = (privileges: string) =>
        `note: role ${role} lacks ${privileges} on failed_postgres_input_x, ${privileges} on parked_postgres_input_x -> ` +
        `handle() does without; for process(), nack, park and metrics() ${advice(role)}`;
      expect(await findings()).toEqual([has(role), note('SELECT, INSERT, UPDATE, DELETE')]);
      await database.query(`GRANT pg_read_all_data TO ${role}`);
      expect(await findings()).toEqual([has(role), note('INSERT, UPDATE, DELETE')]);
    });

    it('finds that a role with a part of the rights for backfills reads none', async () => {
      const { database, role, findings } = await setupRole((role) =>
        grantTo(role, names, { rows: 'none' }, []),
      );
      expect(await findings()).toEqual([has(role)]);
      const on = 'backfill_postgres_input_x';
      await database.query(`REVOKE DELETE ON postgres_input.${on} FROM ${role}`);
      expect(await findings()).toEqual([
        `problem: role ${role} lacks DELETE on ${on}: its nodes read no backfill -> ${advice(role, ' --backfill')}`,
      ]);
    });

    it('finds that a role without the rights for backfills reads nothing first, where the nodes are to', async () => {
      const { database, role, findings } = await setupRole((role) => grantTo(role, names, { rows: 'none' }));
      const config = { name: 'x', type: 'postgres', connectionString: database.url };
      await using input = await newPostgresInput(config, { initial: 'read', connectTimeout: 10_000 });
      const installed = once(input, 'installed');
      void input.handle();
      await installed;
      await input.close();
      const on = 'SELECT, INSERT, UPDATE, DELETE on backfill_postgres_input_x';
      expect(await findings()).toEqual([
        `problem: role ${role} lacks ${on}: its nodes read no backfill -> ${advice(role, ' --backfill')}`,
      ]);
      for (const { privileges, sql } of backfillGrants(names, []))
        await database.query(`GRANT ${privileges.join()} ON ${sql} TO ${role}`);
      expect(await findings()).toEqual([has(role)]);
    });
  });

  it.each([
    ['DELETE FROM lock', 'lock_postgres_input_x has lost its row -> run install, or start a node'],
    ['DELETE FROM secret', 'secret_postgres_input_x has lost its row -> run install, or start a node'],
    [
      'ALTER TABLE log DROP CONSTRAINT log_postgres_input_x_pkey',
      'log_postgres_input_x has no primary key -> run install, or start a node',
    ],
    [
      'ALTER TABLE log ALTER seq DROP DEFAULT',
      'column seq of log_postgres_input_x has no default -> run install, or start a node',
    ],
    [
      'ALTER TABLE log ENABLE ROW LEVEL SECURITY',
      'row-level security is on for log_postgres_input_x -> ALTER TABLE "postgres_input"."log_postgres_input_x" DISABLE ROW LEVEL SECURITY',
    ],
  ])('finds the damage of %s', async (damage, found) => {
    const { database, run, problems } = await setup();
    await run(['install', '--name', 'x']);
    await database.query(damage.replace(/(lock|secret|log)(?= |$)/, 'postgres_input.$1_postgres_input_x'));
    expect(await problems()).toContain(`internal tables: ${found}`);
  });

  it.each([
    ['SELECT setval($, 1)', 1],
    ['ALTER SEQUENCE % RESTART', 0],
    ['SELECT setval($, 9223372036854775807)', 9_223_372_036_854_774],
  ])('finds that somebody ran %s, and its advice helps', async (script, last) => {
    const { database, run, problems } = await setup();
    await run(['install', '--name', 'x']);
    for (const id of [1, 2, 3]) await database.query('INSERT INTO orders VALUES ($1)', [id]);
    const name = 'postgres_input.sequence_postgres_input_x';
    await database.query(script.replace('$', `'${name}'`).replace('%', name));
    const found = (await problems()).find((problem) => problem.startsWith('sequence: '))!;
    expect(found).toContain(`sequence_postgres_input_x is at ${last}, and the log's rows come up to 3`);
    await database.query(/SELECT setval.*/.exec(found)![0]);
    await database.query('INSERT INTO orders VALUES (4)');
    expect((await problems()).filter((problem) => problem.startsWith('sequence: '))).toEqual([]);
  });

  it('has install, or the node that starts next, make whole what a dump of the schema alone left', async () => {
    const { database, run, problems } = await setup();
    await run(['install', '--name', 'x']);
    const empty = () =>
      database.query(`
        DELETE FROM postgres_input.lock_postgres_input_x; DELETE FROM postgres_input.secret_postgres_input_x`);
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    for (const makeWhole of [() => run(['install', '--name', 'x']), async () => {}]) {
      await empty();
      await makeWhole();
      const input = await newPostgresInput(config, { connectTimeout: 5000 });
      const active = new Promise((resolve) => input.once('active', resolve));
      const events = input.handle();
      const next = events.next();
      await active;
      expect(await problems()).toEqual([]);
      await database.query('INSERT INTO orders VALUES (1)');
      expect((await next).value).toMatchObject({ location: 'orders', id: '1' });
      await database.query('DELETE FROM orders');
      await input.close();
    }
  });

  it('finds a publication of all tables, before installing as well as after it', async () => {
    const { database, run } = await setup();
    await database.query(
      'CREATE PUBLICATION everything FOR ALL TABLES; CREATE PUBLICATION one FOR TABLE orders',
    );
    const note = /^note +publications: publication everything is FOR ALL TABLES/m;
    expect((await run(['doctor', '--name', 'x'])).out).toMatch(note);
    await run(['install', '--name', 'x']);
    const { code, out } = await run(['doctor', '--name', 'x']);
    expect(out).toMatch(note);
    expect(out).not.toContain('publication one');
    expect(code).toBe(0);
  });

  it('finds a session that holds the sleep lock and is not the active node', async () => {
    const { database, run, problems } = await setup();
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const asleep = new Promise<void>((resolve) => void input.once('asleep', () => resolve()));
    void input.handle();
    await asleep;
    expect(await problems()).toEqual([]);
    await input.close();
    const { role, url } = await createRole(database);
    const stranger = await database.client({ connectionString: url });
    const { sleepKey } = namesOf('x', 'postgres_input');
    const [{ pid }] = (
      await stranger.query('SELECT pg_advisory_lock($1), pg_backend_pid() AS pid', [sleepKey])
    ).rows;
    expect(await problems()).toEqual([
      expect.stringMatching(
        new RegExp(`^sleep lock: the session with pid ${pid}, of role ${role}, holds it`),
      ),
    ]);
    await stranger.query('SELECT pg_advisory_unlock_all()');
    expect((await run(['doctor', '--name', 'x'])).out).not.toContain('sleep lock');
  });

  it('notes row-level security that is forced on an internal table and not enabled', async () => {
    const { database, run } = await setup();
    await run(['install', '--name', 'x']);
    for (const table of ['log', 'lock'].map((kind) => `${kind}_postgres_input_x`)) {
      await database.query(`ALTER TABLE postgres_input.${table} FORCE ROW LEVEL SECURITY`);
      const { code, out } = await run(['doctor', '--name', 'x']);
      expect(out).toMatch(
        new RegExp(`^note +internal tables: row-level security is off for ${table} and set to`, 'm'),
      );
      expect(code).toBe(0);
      await database.query(`ALTER TABLE postgres_input.${table} NO FORCE ROW LEVEL SECURITY`);
    }
    expect((await run(['doctor', '--name', 'x'])).out).not.toContain('row-level');
  });

  it('finds a foreign partition that was attached to a watched table', async () => {
    const { database, run, problems } = await setup();
    await database.query('CREATE TABLE root (id int PRIMARY KEY) PARTITION BY LIST (id)');
    await run(['install', '--name', 'x']);
    await database.query(`
      CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
      CREATE FOREIGN TABLE remote (id int NOT NULL) SERVER nowhere;
      ALTER TABLE root DROP CONSTRAINT root_pkey; ALTER TABLE root ATTACH PARTITION remote FOR VALUES IN (1)`);
    expect(await problems()).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^installation: not as it should be: the triggers of root/),
        expect.stringMatching(/^tables: root can't be watched -> a foreign table is a part of it/),
      ]),
    );
  });

  it('finds what differs from what should be', async () => {
    const { database, run, problems } = await setup();
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
    const { database, run, problems } = await setup();
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
    const { database, run, problems } = await setup();
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

  it('quotes for a shell what somebody else has named', async () => {
    const { run, database, problems } = await setup();
    await run(['install', '--name', 'x', '--include', 'orders']);
    await run(['install', '--name', "it's; $(date)", '--internal-schema', 'a b', '--include', 'lines']);
    await database.query('INSERT INTO lines VALUES (1, 1)');
    expect(await problems()).toEqual([
      expect.stringContaining(String.raw`uninstall --name 'it'\''s; $(date)' --internal-schema 'a b'`),
    ]);
  });

  it('finds a consumer that does not keep up', async () => {
    const { database, problems } = await setup();
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const events = input.handle({ ack: 'manual' });
    const first = events.next();
    await once(input, 'active');
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
      const { run } = await setup();
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

      await small.query("SELECT pg_notify('c', repeat('x', 7000) || n) FROM generate_series(21, 60) n");
      await expect(
        small.query("SELECT pg_notify('c', repeat('x', 7000) || n) FROM generate_series(61, 80) n"),
      ).rejects.toMatchObject({ code: '54000' });
      const full = await run(['doctor', '--name', 'x'], { DATABASE_DSN: small.url });
      expect(full.out).toMatch(/^note +connection: no notification can be sent$/m);
      expect(full.out).toMatch(/^problem +notification queue: \d+\.\d % full\n.*transaction open for long/m);
    },
  );
});

describe('doctor without --name', () => {
  it('looks at every input, whatever its options and schema, and ends as the worst of them', async () => {
    const { database, run, runJson } = await setupCommands();
    expect(await runJson('doctor')).toMatchObject({
      ok: true,
      findings: expect.arrayContaining([expect.objectContaining({ check: 'inputs', result: 'note' })]),
      inputs: [],
    });
    await run(['install', '--name', 'sound-one', '--include', 'lines']);
    await run(['install', '--name', 'ill', '--internal-schema', 'Elsewhere', '--include', 'orders']);
    expect(await run(['doctor'])).toMatchObject({ code: 0, err: '' });
    await database.query('ALTER TABLE orders DISABLE TRIGGER USER');
    const { ok, findings, inputs } = await runJson('doctor');
    expect(ok).toBe(false);
    expect(findings.map(({ check }: { check: string }) => check)).toEqual(
      expect.arrayContaining(['version', 'notification queue']),
    );
    expect(inputs).toMatchObject([
      { id: 'ill', name: 'ill', internalSchema: 'Elsewhere', ok: false },
      { id: 'sound_one', name: 'sound-one', internalSchema: 'postgres_input', ok: true },
    ]);
    const { code, out } = await run(['doctor']);
    expect(code).toBe(3);
    expect(out.match(/^version|^ok +version/gm)).toHaveLength(1);
    expect(out).toMatch(
      /input ill, in schema Elsewhere\n(?:.*\n)*problem +triggers: .* is disabled(?:.*\n)*input sound-one, in schema postgres_input\n/,
    );
  });

  it('looks on where one input is of a version to come', async () => {
    const { run, runJson, makeNewer } = await setupCommands();
    await run(['install', '--name', 'a', '--include', 'lines']);
    await run(['install', '--name', 'b', '--include', 'lines']);
    await makeNewer('a');
    const { inputs } = await runJson('doctor');
    expect(inputs).toMatchObject([
      {
        id: 'a',
        ok: false,
        findings: expect.arrayContaining([
          expect.objectContaining({ check: 'installed version', result: 'problem' }),
        ]),
      },
      { id: 'b', ok: true },
    ]);
  });

  it('tells of a database that does not let it in, and refuses options that describe one input', async () => {
    const { run } = await setupCommands();
    const { code, out } = await run(['doctor', '--connection-string', 'postgres://postgres@127.0.0.1:1/x']);
    expect({ code, out }).toEqual({
      code: 3,
      out: expect.stringMatching(/^problem +connection: .*ECONNREFUSED/),
    });
    expect(await run(['doctor', '--include', 'orders'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('without --name doctor looks at every input: --include describes one'),
    });
  });
});
