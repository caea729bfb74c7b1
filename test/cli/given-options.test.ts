/** Options that the command line is not given are those under which the input was installed. */
import { describe, expect, it } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { createRole } from '../support/database.ts';
import { exitCode, setupCommands } from './commands.ts';

const INSTALLED = ['--schemas', 'public,crm', '--exclude', 'lin*', '--operation', 'create,delete'];
const STORED = {
  name: 'my-input',
  schemas: ['crm', 'public'],
  include: [],
  exclude: ['lin*'],
  operations: ['create', 'delete'],
};

/** The input `my-input` is installed with options of its own. */
async function setup() {
  const command = await setupCommands();
  const { database, run } = command;
  await database.query('CREATE SCHEMA crm; CREATE TABLE crm.notes (id int)');
  await run(['install', '--name', 'my-input', ...INSTALLED]);
  const stored = async () =>
    (await database.query('SELECT options FROM postgres_input.lock_postgres_input_my_input'))[0].options;
  /** `orders: delete insert truncate`, for each table that has triggers. */
  const triggers = async () =>
    (
      await database.query(
        `SELECT relname || ': ' || string_agg(substring(tgname, '_([a-z]+)_trigger$'), ' ' ORDER BY tgname) AS text
         FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal GROUP BY relname ORDER BY relname`,
      )
    ).map(({ text }) => text);
  return { ...command, stored, triggers };
}

const difference = (option: string, installed: string[], wanted: string[]) => ({ option, installed, wanted });

describe('an option that is not given', () => {
  it('has the stored value of the installation, for every command', async () => {
    const { database, run, runJson, stored, triggers } = await setup();
    expect(await stored()).toEqual(STORED);
    const before = ['notes: delete insert truncate', 'orders: delete insert truncate'];
    expect(await triggers()).toEqual(before);
    await database.query('CREATE TABLE fresh (id int)');
    expect(await runJson('status', '--name', 'my-input')).toMatchObject({
      watched: ['crm.notes', 'fresh', 'orders'],
      pending: ['fresh'],
    });
    expect(await runJson('plan', '--name', 'my-input')).toMatchObject({
      watched: ['crm.notes', 'fresh', 'orders'],
      steps: [{ table: 'fresh', summary: 'the triggers of fresh' }],
    });
    expect(await runJson('install', '--name', 'my-input')).toMatchObject({
      watched: ['crm.notes', 'fresh', 'orders'],
    });
    expect(await runJson('migrate', '--name', 'my-input')).toMatchObject({
      watched: ['crm.notes', 'fresh', 'orders'],
      steps: [],
    });
    const { out, err, code } = await run(['doctor', '--name', 'my-input']);
    expect(out).toMatch(/^ok +options: --schemas crm,public --exclude lin\* --operation create,delete$/m);
    expect({ err, code }).toEqual({ err: '', code: 0 });
    expect(await stored()).toEqual(STORED);
    expect(await triggers()).toEqual(['fresh: delete insert truncate', ...before]);
    expect(await run(['uninstall', '--name', 'my-input'])).toMatchObject({ code: 0, err: '' });
  });

  it('has the stored value of the installation in a node that tail starts', async () => {
    const { database, startTail, runJson, stored } = await setup();
    const { child, err, next } = await startTail('--name', 'my-input', '--join');
    await database.query('INSERT INTO lines VALUES (1, 1); INSERT INTO orders VALUES (1)');
    expect(await next()).toMatchObject({ location: 'orders' });
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    expect(err()).toMatch(/watches 2 tables/);
    expect(err()).not.toMatch(/was installed with|not yet/);
    expect(await stored()).toEqual(STORED);
    expect(await runJson('status', '--name', 'my-input')).toMatchObject({ pending: [] });
  });

  it('may come from a node, whose name has another spelling', async () => {
    const { database, runJson } = await setupCommands();
    const config = { name: 'my-input', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, {
      connectTimeout: 10_000,
      tables: { include: ['orders'] },
    });
    const active = new Promise<void>((resolve) => void input.once('active', () => resolve()));
    const ended = input.handle().next();
    await active;
    expect(await runJson('status', '--name', 'my_input')).toMatchObject({ watched: ['orders'], pending: [] });
    expect(await runJson('doctor', '--name', 'my_input')).toMatchObject({ ok: true });
    await input.close();
    await ended;
  });

  it('has its default where nothing is installed, and for objects of version 1', async () => {
    const { runJson, installOld } = await setupCommands();
    expect(await runJson('plan', '--name', 'x')).toMatchObject({ from: null, watched: ['lines', 'orders'] });
    await installOld('x', '--exclude', 'lines');
    expect(await runJson('status', '--name', 'x')).toMatchObject({
      watched: ['lines', 'orders'],
      pending: ['postgres_input.log_postgres_input_x', 'lines'],
    });
  });

  it('has its default for objects of a newer version, whose options may mean something else', async () => {
    const { run, makeNewer } = await setupCommands();
    await run(['install', '--name', 'x']);
    await makeNewer('x');
    for (const command of ['plan', 'install', 'migrate']) {
      const { code, err } = await run([command, '--name', 'x']);
      expect(code).toBe(1);
      expect(err).toContain('ERR_INSTALL: input x was installed by a newer version');
    }
    expect(await run(['status', '--name', 'x'])).toMatchObject({ code: 3, err: '' });
    const { code, out } = await run(['doctor', '--name', 'x']);
    expect(code).toBe(3);
    expect(out).toMatch(/^problem +installed version: .* version 99 .*\n +update this package$/m);
    expect(out).not.toMatch(/^problem +installation/m);
  });

  it('has its default for a role that may not read the options, which is said', async () => {
    const { database, run } = await setup();
    const { url } = await createRole(database);
    const { err } = await run(['plan', '--name', 'my-input', '--connection-string', url]);
    expect(err).toContain('this role may not read the options of input my_input');
    const others = ['--notifications', 'changes', '--rows', 'none', '--max-row-bytes', '1000000'];
    const all = ['--include', '', ...others, ...INSTALLED];
    const { out, err: none } = await run(['plan', '--name', 'my-input', '--connection-string', url, ...all]);
    expect({ out, err: none }).toEqual({ out: expect.stringContaining('nothing to do'), err: '' });
  });
});

describe('the option notifications', () => {
  it('is kept in the database if it is bare, and is that of the installation where it is not given', async () => {
    const { run, runJson, stored } = await setup();
    await run(['install', '--name', 'my-input', '--notifications', 'bare']);
    expect(await stored()).toEqual({ ...STORED, notifications: 'bare' });
    const doctor = await run(['doctor', '--name', 'my-input']);
    expect(doctor.out).toMatch(/^ok +options: .* --notifications bare$/m);
    expect(await runJson('plan', '--name', 'my-input')).toMatchObject({ steps: [] });
    const { err } = await run(['plan', '--name', 'my-input', '--notifications', 'changes']);
    expect(err).toContain('was installed with --notifications bare, and here it is --notifications changes');
    await run(['install', '--name', 'my-input', '--notifications', 'changes']);
    expect(await stored()).toEqual(STORED);
  });
});

describe('the options of rows', () => {
  it('are kept in the database, and are those of the installation where they are not given', async () => {
    const { run, runJson, stored } = await setup();
    await run(['install', '--name', 'my-input', '--rows', 'both', '--max-row-bytes', '5000']);
    expect(await stored()).toEqual({ ...STORED, rows: 'both', maxRowBytes: 5000 });
    const doctor = await run(['doctor', '--name', 'my-input']);
    expect(doctor.out).toMatch(/^ok +options: .* --rows both --max-row-bytes 5000$/m);
    expect(await runJson('plan', '--name', 'my-input')).toMatchObject({ steps: [] });
    const { out } = await run(['plan', '--name', 'my-input', '--grant-to', 'node']);
    expect(out).toContain('GRANT SELECT ON TABLE "postgres_input"."shape_postgres_input_my_input" TO "node"');
    const without = await run(['plan', '--name', 'my-input', '--grant-to', 'node', '--rows', 'none']);
    expect(without.out).not.toContain('"shape_postgres_input_my_input" TO');
  });
});

describe('an option that differs from that of the installation', () => {
  const TOLD = ['--name', 'my-input', '--exclude', '', '--include', 'lines,orders'];
  const DIFFERENCES = [difference('include', [], ['lines', 'orders']), difference('exclude', ['lin*'], [])];
  const ERR =
    "dapper-postgres-input: input my_input was installed with --include '', and here it is --include lines,orders\n" +
    "dapper-postgres-input: input my_input was installed with --exclude lin*, and here it is --exclude ''\n";

  it('is used for the answers of status, plan and doctor, which say so', async () => {
    const { run, stored } = await setup();
    const status = await run(['status', '--json', ...TOLD]);
    expect(status.err).toBe(ERR);
    expect(JSON.parse(status.out)).toMatchObject({
      watched: ['lines', 'orders'],
      pending: ['lines', 'crm.notes'],
      differences: DIFFERENCES,
    });
    const doctor = await run(['doctor', '--json', ...TOLD]);
    expect(doctor.err).toBe(ERR);
    const { findings, differences } = JSON.parse(doctor.out);
    expect(differences).toEqual(DIFFERENCES);
    expect(findings.filter(({ check }: { check: string }) => check === 'options')).toEqual([
      {
        check: 'options',
        result: 'problem',
        found: "installed with --include '', and here it is --include lines,orders",
        advice: expect.stringContaining('leave the option out'),
      },
      expect.objectContaining({ found: "installed with --exclude lin*, and here it is --exclude ''" }),
    ]);
    const plan = await run(['plan', ...TOLD]);
    expect(plan.err).toBe(ERR);
    expect(plan.out).toMatch(/^-- the triggers of lines$/m);
    expect((await run(['uninstall', '--dry-run', ...TOLD])).err).toBe(ERR);
    expect(await stored()).toEqual(STORED);
  });

  it.each(['install', 'migrate'])('is what %s installs, and what is stored', async (command) => {
    const { run, runJson, stored, triggers } = await setup();
    const { out, err, code } = await run([command, '--json', ...TOLD]);
    expect({ err, code }).toEqual({ err: ERR, code: 0 });
    expect(JSON.parse(out)).toMatchObject({ watched: ['lines', 'orders'] });
    expect(await stored()).toEqual({ ...STORED, include: ['lines', 'orders'], exclude: [] });
    expect(await triggers()).toEqual(['lines: delete insert truncate', 'orders: delete insert truncate']);
    expect((await runJson('status', '--name', 'my-input')).watched).toEqual(['lines', 'orders']);
  });

  it('is none if its value is the same in another order', async () => {
    const { run } = await setup();
    const same = ['--schemas', 'crm,public', '--operation', 'delete,create'];
    expect(await run(['doctor', '--name', 'my-input', ...same])).toMatchObject({ code: 0, err: '' });
  });
});
