import { describe, expect, it } from 'vitest';
import { VERSION } from '../../src/schema/migrations.ts';
import { createRole } from '../support/database.ts';
import { exitCode, setupCommands } from './commands.ts';

const LOCK = 'postgres_input.lock_postgres_input_x';

describe('migrate', () => {
  it('brings the objects of 0.1.0 to this version, and tells each step', async () => {
    const { database, run, runJson, installOld } = await setupCommands();
    await installOld('x');
    await database.query('INSERT INTO orders VALUES (1); CREATE TABLE fresh (id int)');
    const { out: planned } = await run(['plan', '--name', 'x']);
    expect(planned).toMatch(new RegExp(`^-- input x: from version 1 to version ${VERSION}$`, 'm'));
    expect(planned).toMatch(/^-- version 2: the lock table keeps .*\nBEGIN;$/m);
    const [first] = planned.split('COMMIT;');
    // The nodes wait for the lock from here on.
    expect(first!.indexOf('LOCK TABLE')).toBeGreaterThan(first!.lastIndexOf('CREATE OR REPLACE FUNCTION'));
    expect(planned).toMatch(/^-- the triggers of fresh\nBEGIN;$/m);
    expect(planned).toMatch(/^-- the options of this installation\nBEGIN;$/m);
    const doctor = await run(['doctor', '--name', 'x']);
    expect(doctor.out).toMatch(
      new RegExp(
        `^problem +installed version: 1, and this package makes version ${VERSION}\n +run migrate`,
        'm',
      ),
    );

    const { code, out, err } = await run(['migrate', '--name', 'x']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toMatch(new RegExp(`^version +1 -> ${VERSION}$`, 'm'));
    expect(out).toMatch(/^done +version 2: the lock table keeps /m);
    expect(out).toMatch(/^done +the triggers of fresh$/m);
    expect(out).toMatch(/^done +the options of this installation$/m);
    expect(out).toMatch(/^watched +3 tables: fresh, lines, orders$/m);

    expect(await runJson('migrate', '--name', 'x')).toEqual({
      id: 'x',
      from: VERSION,
      to: VERSION,
      steps: [],
      watched: ['fresh', 'lines', 'orders'],
    });
    expect(await runJson('status', '--name', 'x')).toMatchObject({ backlog: 1, pending: [] });
    expect((await run(['doctor', '--name', 'x'])).out).toMatch(
      new RegExp(`^ok +installed version: ${VERSION}$`, 'm'),
    );
  });

  it('tells which steps it left out, and why', async () => {
    const { database, run } = await setupCommands();
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT CREATE ON DATABASE ${database.name} TO ${role}; ALTER TABLE orders OWNER TO ${role};
      CREATE TABLE locked (id int); ALTER TABLE locked OWNER TO ${role}`);
    const args = ['--name', 'x', '--connection-string', url];
    await run(['install', ...args, '--include', 'orders']);
    const holder = await database.client();
    await holder.query('BEGIN; LOCK TABLE locked');
    const { code, out } = await run(['migrate', ...args, '--include', '', '--json', '--lock-timeout', '1']);
    expect(code).toBe(3);
    expect(JSON.parse(out)).toEqual({
      id: 'x',
      from: VERSION,
      to: VERSION,
      steps: [
        { step: 'the options of this installation', done: true },
        {
          step: 'the triggers of lines',
          table: 'lines',
          done: false,
          reason: expect.stringMatching(/^it belongs to postgres/),
        },
        {
          step: 'the triggers of locked',
          table: 'locked',
          done: false,
          reason: 'it stayed locked, run migrate again',
        },
      ],
      watched: ['locked', 'orders'],
    });
    await holder.query('ROLLBACK');
    const again = await run(['migrate', ...args]);
    expect(again.code).toBe(3);
    expect(again.out).toMatch(/^done +the triggers of locked$/m);
    expect(again.out).toMatch(/^left out +the triggers of lines: it belongs to postgres/m);
  });

  it('tries again while the internal tables are locked, and tells every round', async () => {
    const { database, run, start, installOld } = await setupCommands();
    await installOld('x');
    const holder = await database.client();
    // As an acknowledgement in a caller's transaction does.
    await holder.query(`BEGIN; SELECT FROM ${LOCK}`);

    const impatient = await run(['migrate', '--name', 'x', '--wait', '0']);
    expect({ ...impatient, err: '' }).toEqual({ code: 1, out: '', err: '' });
    expect(impatient.err).toMatch(/^dapper-postgres-input: ERR_INSTALL: the internal tables .* are locked/);
    expect(await database.query(`SELECT * FROM ${LOCK}`)).not.toMatchObject([{ version: VERSION }]);

    const { child, err } = start(['migrate', '--name', 'x', '--wait', '600']);
    await expect
      .poll(err, { timeout: 60_000 })
      .toMatch(/^migrate: the internal tables of input x are locked .*; going on for another \d+ s$/m);
    await database.query('INSERT INTO orders VALUES (1)');
    await holder.query('COMMIT');
    expect(await exitCode(child)).toBe(0);
    expect(await database.query(`SELECT version FROM ${LOCK}`)).toEqual([{ version: VERSION }]);
  });

  it('fails if the input is not there', async () => {
    const { run, internalObjects } = await setupCommands();
    expect(await run(['migrate', '--name', 'x'])).toEqual({
      code: 1,
      out: '',
      err: 'dapper-postgres-input: nothing of input x is installed in schema postgres_input of this database: run install\n',
    });
    expect(await internalObjects()).toEqual([]);
  });
});
