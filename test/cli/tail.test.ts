import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.ts';
import { newPostgresInput } from '../../src/index.ts';
import { createDatabase, createRole } from '../support/database.ts';
import { NO_DETAILS } from '../support/no-details.ts';
import { startServer } from '../support/server.ts';
import { exitCode, setupCommands } from './commands.ts';

describe('tail', { timeout: 120_000 }, () => {
  it('prints events as NDJSON, and takes none away from the other nodes', async () => {
    const { database, startTail, internalObjects } = await setupCommands();
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const events = input.handle();
    const first = events.next();
    await once(input, 'active');
    const { child, next } = await startTail();
    await database.query('INSERT INTO orders VALUES (7)');
    const printed = await next();
    expect(printed).toEqual({
      location: 'orders',
      operation: 'create',
      id: '7',
      trigger: expect.stringMatching(/^tail_[0-9a-f]{8}$/),
      sequence: expect.stringMatching(/^1000\d{16}$/),
      key: { id: '7' },
      occurredAt: expect.stringMatching(/Z$/),
      transaction: expect.stringMatching(/^\d+$/),
      ...NO_DETAILS,
      fencingToken: expect.stringMatching(/^\d{16}$/),
    });
    expect((await first).value).toMatchObject({ id: '7', trigger: 'x' });
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    await input.close();
    await events.next();
    await input.uninstall();
    expect(await internalObjects()).toEqual([]);
  });

  it('prints only the chosen tables and operations, and leaves nothing behind at Ctrl-C', async () => {
    const { database, startTail, internalObjects } = await setupCommands();
    const { child, next } = await startTail('--table', 'orders', '--operation', 'delete,update');
    await database.query(`INSERT INTO lines VALUES (1, 1); DELETE FROM lines;
      INSERT INTO orders VALUES (1); UPDATE orders SET id = id; DELETE FROM orders`);
    expect(await next()).toMatchObject({ location: 'orders', operation: 'update' });
    expect(await next()).toMatchObject({ location: 'orders', operation: 'delete' });
    child.kill('SIGINT');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('tells of a table that is not there', async () => {
    const { startTail } = await setupCommands();
    const { child, err } = await startTail('--table', 'ordres,lines');
    expect(err()).toContain('tail: --include ordres matches no table: ');
    expect(err()).not.toContain('--include lines matches');
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
  });

  it('prints a short line for people on a terminal, with the values that an update changed', async () => {
    const { database, internalObjects } = await setupCommands();
    await database.query(`ALTER TABLE orders ADD status text; INSERT INTO orders VALUES (7, 'paid')`);
    const terminal = new Terminal();
    const ended = terminal.run(['tail', '--rows', 'both'], database.url);
    await expect.poll(() => terminal.err, { timeout: 60_000 }).toContain('tail: active');
    await database.query(`BEGIN; SELECT set_config('postgres_input.origin', 'ada', true);
      UPDATE orders SET status = 'shipped'; COMMIT; DELETE FROM orders`);
    await expect.poll(() => terminal.out.split('\n').length).toBe(3);
    expect(terminal.out).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3}Z {2}update {2}orders 7 {2}status: paid -> shipped {2}by ada\n.*delete {2}orders 7 {2}status: shipped\n$/,
    );
    terminal.hangUp();
    await database.query('INSERT INTO orders VALUES (8)');
    expect(await ended).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('prints JSON on a terminal too if it is asked to', async () => {
    const { database } = await setupCommands();
    const terminal = new Terminal();
    const ended = terminal.run(['tail', '--json', '--rows', 'after'], database.url);
    await expect.poll(() => terminal.err, { timeout: 60_000 }).toContain('tail: active');
    await database.query('INSERT INTO orders VALUES (7)');
    await expect.poll(() => terminal.out).toContain('\n');
    expect(JSON.parse(terminal.out)).toMatchObject({ id: '7', before: null, after: { id: 7 } });
    terminal.hangUp();
    await database.query('INSERT INTO orders VALUES (8)');
    expect(await ended).toBe(0);
  });

  it('ends when its reader hangs up', async () => {
    const { database, startTail, internalObjects } = await setupCommands();
    const { child } = await startTail();
    child.stdout.destroy();
    await database.query('INSERT INTO orders VALUES (1)');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('leaves nothing behind when its terminal is closed', async () => {
    const { startTail, internalObjects } = await setupCommands();
    const { child } = await startTail();
    child.kill('SIGHUP');
    expect(await exitCode(child)).toBe(0);
    expect(await internalObjects()).toEqual([]);
  });

  it('ends at a signal although its reader has stalled', async () => {
    const { database, runJson, start, internalObjects } = await setupCommands();
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
    const { database, run, runJson, startTail, internalObjects } = await setupCommands();
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

  it('tells why it can not install, and that nothing is left behind', async () => {
    const { database, run } = await setupCommands();
    const { url } = await createRole(database);
    // Without the schema there would be nothing to be refused when it removes.
    await run(['install', '--name', 'x']);
    const { code, err } = await run(['tail'], { DATABASE_DSN: url });
    expect(code).toBe(1);
    expect(err).toMatch(/^dapper-postgres-input: ERR_INSTALL: .*installing/m);
    expect(err).not.toMatch(/left behind|removing/);
  });

  it('tells what it has to leave behind, wherever that is', async () => {
    const { database, run, start } = await setupCommands();
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role}; GRANT TRIGGER ON orders TO ${role};
      ALTER TABLE orders OWNER TO ${role}`);
    const { child, err } = start(['tail', '--table', 'orders', '--internal-schema', 'its own'], url);
    await expect.poll(err, { timeout: 60_000 }).toContain('tail: active');
    await database.query('ALTER TABLE orders OWNER TO postgres');
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(1);
    await expect.poll(err).toContain("--internal-schema 'its own'\n");
    const [name] = /tail_\w+/.exec(err())!;
    expect(err()).toContain(`left behind: dapper-postgres-input uninstall --yes --name ${name} --internal-`);
    const uninstall = ['uninstall', '--yes', '--name', name, '--internal-schema', 'its own'];
    expect(await run(uninstall)).toMatchObject({ code: 0 });
  });

  it('keeps an input that was given by name', async () => {
    const { database, startTail } = await setupCommands();
    const { child } = await startTail('--name', 'audit', '--table', 'orders');
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    await database.query('INSERT INTO orders VALUES (1)');
    const again = await startTail('--name', 'audit', '--join');
    expect(await again.next()).toMatchObject({ id: '1', trigger: 'audit' });
  });

  it('waits for a server that is gone, and goes on', async () => {
    const { start } = await setupCommands();
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

/** A terminal without colours, in which a command runs within this process. */
class Terminal {
  out = '';
  err = '';
  #isGone = false;

  run(args: string[], dsn: string): Promise<number> {
    const stdout = new Writable({
      write: (chunk, _encoding, done) => {
        this.out += String(chunk);
        done(this.#isGone ? new Error('EPIPE') : null);
      },
    });
    const stderr = new Writable({
      write: (chunk, _encoding, done) => {
        this.err += String(chunk);
        done();
      },
    });
    const env = { DATABASE_DSN: dsn };
    return main(args, { stdout: Object.assign(stdout, { isTTY: true }), stderr, env });
  }

  /** The command notices at its next line. */
  hangUp(): void {
    this.#isGone = true;
  }
}
