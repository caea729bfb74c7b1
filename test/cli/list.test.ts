import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { shellWord } from '../../src/cli/output.ts';
import { newPostgresInput } from '../../src/index.ts';
import { VERSION } from '../../src/schema/migrations.ts';
import { namesOf } from '../../src/schema/names.ts';
import { type TestDatabase, createRole } from '../support/database.ts';
import { NEWER, setupCommands } from './commands.ts';

/** Ids of 44 to 63 bytes, which the names of the internal tables hold shortened. */
const LONG = 'an_input_whose_name_is_longer_than_43_bytes_1';
const LONG_TOO = `an_input_whose_name_is_longer_than_43_bytes_it's_"\\ü`;

const age = (database: TestDatabase, id: string, schema = 'postgres_input') =>
  database.query(`UPDATE ${namesOf(id, schema).logTable.sql} SET at = at - interval '2 min'`);

const idle = {
  internalSchema: 'postgres_input',
  version: VERSION,
  readable: true,
  lease: null,
  backlog: 0,
  oldestChangeAt: null,
  oldestChangeAge: null,
};

describe('list', () => {
  it('shows every input, in whatever internal schema', async () => {
    const { database, run, runJson, installOld, makeNewer } = await setupCommands();
    expect(await runJson('list')).toEqual({ inputs: [] });
    expect((await run(['list'])).out).toBe('no input is installed in this database\n');

    await run(['install', '--name', 'far-away', '--internal-schema', 'Elsewhere', '--include', 'lines']);
    await run(['install', '--name', 'newer', '--include', 'nothing']);
    await makeNewer('newer');
    await installOld('old-one', '--include', 'orders');
    await database.query('INSERT INTO orders SELECT generate_series(1, 120)');
    // The original's lock table is none of an input's, nor is what only has such a name.
    await database.query(`
      CREATE TABLE lock_postgres_input_original (resource int PRIMARY KEY);
      CREATE VIEW lock_postgres_input_view AS SELECT 1 AS resource, 2 AS holder, 3 AS token`);
    const config = { name: 'served', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, {
      connectTimeout: 10_000,
      tables: { include: ['lines'] },
    });
    const active = once(input, 'active');
    const ended = input.handle().next();
    await active;

    const { inputs } = await runJson('list');
    expect(inputs).toEqual([
      { ...idle, id: 'far_away', name: 'far-away', internalSchema: 'Elsewhere' },
      { ...idle, id: 'newer', name: 'newer', version: NEWER },
      {
        ...idle,
        id: 'old_one',
        name: 'old_one',
        version: 1,
        backlog: 120,
        oldestChangeAt: expect.stringMatching(/Z$/),
        oldestChangeAge: expect.any(Number),
      },
      {
        ...idle,
        id: 'served',
        name: 'served',
        lease: {
          holder: expect.any(String),
          fencingToken: expect.stringMatching(/^\d{16}$/),
          acquiredAt: expect.stringMatching(/Z$/),
        },
      },
    ]);
    const { code, out } = await run(['list']);
    expect(code).toBe(0);
    expect(out).toMatch(/^INPUT +SCHEMA +VERSION +ACTIVE NODE +BACKLOG +OLDEST CHANGE\n/);
    expect(out).toMatch(new RegExp(`^far-away +Elsewhere +${VERSION} +none +0 changes$`, 'm'));
    expect(out).toMatch(/^old_one +postgres_input +1 +none +120 changes +\d+ s ago$/m);
    expect(out).toMatch(new RegExp(`^served .* ${inputs[3].lease.holder} +0 changes$`, 'm'));
    await input.close();
    await ended;
  });

  it('exits with 3 if changes get old and no node is active', async () => {
    const { database, run } = await setupCommands();
    await run(['install', '--name', 'gone', '--internal-schema', 'elsewhere']);
    await database.query('INSERT INTO orders VALUES (1)');
    expect((await run(['list'])).code).toBe(0);
    await age(database, 'gone', 'elsewhere');
    const { code, out } = await run(['list']);
    expect(code).toBe(3);
    expect(out).toMatch(/^gone +elsewhere .* none +1 change +2 min \d* ?s? ?ago$/m);
    expect(out).toMatch(/^no node is active that takes the changes of gone$/m);
    expect((await run(['list', '--json'])).code).toBe(3);
    const doctor = await run(['doctor', '--name', 'x']);
    expect(doctor.out).toMatch(
      /other inputs: input gone .*\n.*uninstall --name gone --internal-schema elsewhere$/m,
    );

    const config = { name: 'gone', type: 'postgres', connectionString: database.url };
    await using input = await newPostgresInput(config, {
      connectTimeout: 10_000,
      internalSchema: 'elsewhere',
    });
    await input.handle({ ack: 'manual' }).next();
    expect((await run(['list'])).code).toBe(0);
  });

  it.each(['this version', '0.1.0'])('knows long names, installed by %s', async (version) => {
    const { database, run, runJson, installOld } = await setupCommands();
    // From version 2 on, the database keeps a name of any length.
    const ids = [LONG, LONG_TOO, ...(version === '0.1.0' ? [] : [LONG.padEnd(70, '1')])];
    for (const id of ids) {
      if (version === '0.1.0') await installOld(id);
      else await run(['install', '--name', id]);
    }
    await database.query('INSERT INTO orders VALUES (1)');
    for (const id of ids) await age(database, id);
    const { out, code } = await run(['list', '--json']);
    expect(code).toBe(3);
    const { inputs } = JSON.parse(out);
    expect(inputs.map(({ id, name, backlog }: any) => ({ id, name, backlog }))).toEqual(
      expect.arrayContaining(ids.map((id) => ({ id, name: id, backlog: 1 }))),
    );
    expect(inputs).toHaveLength(ids.length);
    const { findings } = await runJson('doctor', '--name', 'x');
    const abandoned = findings.filter(({ check }: { check: string }) => check === 'other inputs');
    expect(abandoned.map(({ advice }: { advice: string }) => advice).toSorted()).toEqual(
      ids
        .map((id) => `start one; or, if none is to come again: uninstall --name ${shellWord(id)}`)
        .toSorted(),
    );
    for (const id of ids) await run(['uninstall', '--yes', '--name', id]);
    expect(await runJson('list')).toEqual({ inputs: [] });
  });

  it('calls an input of version 1 by the name of its table if its id is longer than a channel can be', async () => {
    const { runJson, installOld } = await setupCommands();
    const id = LONG.padEnd(64, '1');
    await installOld(id);
    const name = namesOf(id, 'postgres_input').lockTable.name.slice('lock_postgres_input_'.length);
    const shortened = { ...idle, id: name, name, version: 1, readable: false, backlog: null };
    expect(await runJson('list')).toEqual({ inputs: [shortened] });
  });

  it('shows what it can of an input that the role may not read, or whose log is gone', async () => {
    const { database, run } = await setupCommands();
    await run(['install', '--name', 'hidden']);
    await run(['install', '--name', 'broken']);
    await database.query('DROP TABLE postgres_input.log_postgres_input_broken CASCADE');
    const { role, url } = await createRole(database);
    await database.query(`
      GRANT USAGE ON SCHEMA postgres_input TO ${role};
      GRANT SELECT ON postgres_input.lock_postgres_input_broken TO ${role}`);
    const { code, out } = await run(['list', '--connection-string', url]);
    expect(code).toBe(0);
    expect(out).toMatch(/^hidden +postgres_input +\d+ +not readable +not readable +not readable$/m);
    expect(out).toMatch(/^broken +postgres_input +\d+ +none +not readable +not readable$/m);
    const { inputs } = JSON.parse((await run(['list', '--json', '--connection-string', url])).out);
    expect(inputs).toEqual([
      { ...idle, id: 'broken', name: 'broken', readable: false, backlog: null },
      { ...idle, id: 'hidden', name: 'hidden', readable: false, backlog: null },
    ]);
  });
});
