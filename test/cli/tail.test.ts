import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { createDatabase } from '../support/database.ts';
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

  it('ends when its reader hangs up', async () => {
    const { database, startTail, internalObjects } = await setupCommands();
    const { child } = await startTail();
    child.stdout.destroy();
    await database.query('INSERT INTO orders VALUES (1)');
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
