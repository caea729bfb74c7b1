import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { newPostgresInput } from '../../src/index.ts';
import { exitCode, setupCommands } from './commands.ts';

describe('uninstall', () => {
  it('refuses while a node is active, which status names', async () => {
    const { database, run, runJson, internalObjects } = await setupCommands();
    const config = { name: 'x', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, { connectTimeout: 10_000 });
    const active = once(input, 'active');
    const ended = input.handle().next();
    await active;
    const { lease } = await runJson('status', '--name', 'x');
    expect(lease).toEqual({
      holder: expect.any(String),
      fencingToken: expect.stringMatching(/^\d{16}$/),
      acquiredAt: expect.stringMatching(/^\d{4}-.*Z$/),
    });
    expect((await run(['status', '--name', 'x'])).out).toContain(
      `node ${lease.holder} since ${lease.acquiredAt}`,
    );
    expect((await run(['doctor', '--name', 'x'])).code).toBe(0);

    const refused = await run(['uninstall', '--name', 'x']);
    expect(refused.code).toBe(1);
    expect(refused.err).toContain('end it first');
    const listed = await runJson('uninstall', '--name', 'x', '--dry-run');
    expect(listed.objections).toEqual([
      expect.stringMatching(/^a node has been active since .* or use --force$/),
    ]);
    expect(await internalObjects()).not.toEqual([]);
    await input.close();
    await ended;
    expect((await run(['uninstall', '--name', 'x'])).code).toBe(0);
  });

  it('says so if nothing is there', async () => {
    const { run } = await setupCommands();
    const answer = {
      code: 1,
      out: '',
      err: 'dapper-postgres-input: nothing of input x is installed in schema postgres_input of this database\n',
    };
    expect(await run(['uninstall', '--name', 'x'])).toEqual(answer);
    expect(await run(['uninstall', '--name', 'x', '--dry-run', '--yes', '--force', '--json'])).toEqual(
      answer,
    );
    await run(['install', '--name', 'y']);
    expect(await run(['uninstall', '--name', 'x'])).toEqual(answer);
  });

  it('lists what it would remove, and removes nothing', async () => {
    const { database, run, runJson, internalObjects } = await setupCommands();
    await run(['install', '--name', 'x', '--operation', 'create,delete']);
    await run(['install', '--name', 'other']);
    await database.query('CREATE SCHEMA crm; CREATE TABLE crm.notes (id int)');
    await run(['install', '--name', 'x', '--operation', 'create', '--schemas', 'public,crm']);
    await database.query('INSERT INTO orders VALUES (1), (2); INSERT INTO crm.notes VALUES (3)');
    const functions = await database.query(
      `SELECT proname AS name FROM pg_proc WHERE pronamespace = 'postgres_input'::regnamespace
       AND proname ~ 'postgres_input_x$|^process_record_x_' ORDER BY proname COLLATE "C"`,
    );
    const before = await internalObjects();

    const { code, out } = await run(['uninstall', '--name', 'x', '--dry-run']);
    expect(code).toBe(0);
    expect(out).toMatch(/^input +x$/m);
    expect(out).toMatch(/^table +log_postgres_input_x: 3 changes$/m);
    expect(out).toMatch(/^table +lock_postgres_input_x$/m);
    expect(out).toMatch(/^triggers +of crm.notes: notes_x_insert_trigger$/m);
    expect(out).toMatch(/^refused +3 changes would be lost .* or use --yes$/m);
    expect(out).not.toContain('other');

    const listed = await runJson('uninstall', '--name', 'x', '--dry-run', '--yes');
    expect(listed).toEqual({
      id: 'x',
      discarded: 3,
      tables: expect.any(Array),
      functions: expect.any(Array),
      triggers: expect.any(Array),
      objections: [],
    });
    const tables = ['backfill', 'failed', 'lock', 'log', 'parked', 'secret'].map(
      (kind) => `${kind}_postgres_input_x`,
    );
    expect(listed.tables.toSorted()).toEqual(tables);
    expect(listed.functions.toSorted()).toEqual(functions.map(({ name }) => name));
    expect(listed.triggers).toHaveLength(3);
    expect(listed.triggers).toContainEqual({ table: 'orders', triggers: ['orders_x_insert_trigger'] });
    expect(await internalObjects()).toEqual(before);

    // All that was listed is what is removed.
    expect((await run(['uninstall', '--name', 'x', '--yes'])).code).toBe(0);
    const gone = before.filter((name) => /_x_\w+_trigger$/.test(name));
    expect(gone).toHaveLength(3);
    expect(await internalObjects()).toEqual(before.filter((name) => !gone.includes(name)));
  });

  it('refuses if changes would be lost, unless --yes is given', async () => {
    const { database, run, internalObjects } = await setupCommands();
    for (const yes of ['--yes', '-y']) {
      await run(['install', '--name', 'x']);
      await database.query('INSERT INTO lines SELECT 1, generate_series(1, 120)');
      for (const args of [[], ['--force'], ['--json']]) {
        const { code, out, err } = await run(['uninstall', '--name', 'x', ...args]);
        expect({ code, out }).toEqual({ code: 1, out: '' });
        expect(err).toContain('120 changes would be lost');
      }
      expect(await internalObjects()).toContain('lines_x_insert_trigger');
      expect(await run(['uninstall', '--name', 'x', yes])).toEqual({
        code: 0,
        out: 'removed x; 120 changes had not been acknowledged\n',
        err: '',
      });
      expect(await internalObjects()).toEqual([]);
      await database.query('DELETE FROM lines');
    }
  });

  it('keeps changes that arrive after it has counted them, unless --yes is given', async () => {
    const { database, run, runJson, startTail, internalObjects } = await setupCommands();
    await run(['install', '--name', 'x']);
    const writer = await database.client();
    await writer.query('BEGIN; INSERT INTO orders VALUES (1)');
    // The open transaction's change is not counted, and its trigger can't be dropped before it ends.
    const uninstalled = run(['uninstall', '--name', 'x', '--lock-timeout', '60000']);
    await expect
      .poll(() => database.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass`))
      .toHaveLength(1);
    await writer.query('COMMIT');
    const { code, out, err } = await uninstalled;
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/ERR_INSTALL: the triggers of input x are removed, and changes arrived meanwhile/);
    expect(await internalObjects()).toEqual(['postgres_input']);
    expect((await runJson('status', '--name', 'x')).backlog).toBe(1);

    await run(['install', '--name', 'x']);
    const { child, next } = await startTail('--name', 'x', '--join');
    expect(await next()).toMatchObject({ location: 'orders', id: '1' });
    child.kill('SIGTERM');
    expect(await exitCode(child)).toBe(0);
    expect(await run(['uninstall', '--name', 'x'])).toMatchObject({ code: 0, err: '' });
    expect(await internalObjects()).toEqual([]);
  });

  it('loses changes that arrive meanwhile if --yes is given', async () => {
    const { database, run, internalObjects } = await setupCommands();
    await run(['install', '--name', 'x']);
    const writer = await database.client();
    await writer.query('BEGIN; INSERT INTO orders VALUES (1)');
    const uninstalled = run(['uninstall', '--yes', '--name', 'x', '--lock-timeout', '60000']);
    await expect
      .poll(() => database.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass`))
      .toHaveLength(1);
    await writer.query('COMMIT');
    expect(await uninstalled).toMatchObject({ code: 0, err: '' });
    expect(await internalObjects()).toEqual([]);
  });

  it.each(['0.1.0', 'a newer version'])(
    'refuses to lose changes also with objects of %s',
    async (version) => {
      const { database, run, installOld, makeNewer, internalObjects } = await setupCommands();
      if (version === '0.1.0') await installOld('x');
      else {
        await run(['install', '--name', 'x']);
        await makeNewer('x');
      }
      const writer = await database.client();
      await writer.query('BEGIN; INSERT INTO orders VALUES (1)');
      const uninstalled = run(['uninstall', '--name', 'x', '--lock-timeout', '60000']);
      await expect
        .poll(() =>
          database.query(`SELECT FROM pg_locks WHERE NOT granted AND relation = 'orders'::regclass`),
        )
        .toHaveLength(1);
      await writer.query('COMMIT');
      expect(await uninstalled).toMatchObject({
        code: 1,
        err: expect.stringContaining('changes arrived meanwhile'),
      });
      expect(await run(['uninstall', '--yes', '--name', 'x'])).toMatchObject({ code: 0 });
      expect(await internalObjects()).toEqual([]);
    },
  );
});
