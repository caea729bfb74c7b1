import { describe, expect, it } from 'vitest';
import { setupCommands } from './commands.ts';

describe('status', () => {
  it('tells of patterns that match no table', async () => {
    const { run, runJson } = await setupCommands();
    await run(['install', '--name', 'x', '--include', 'ordres,lines']);
    expect((await run(['status', '--name', 'x'])).out).toMatch(
      /^warning +--include ordres matches no table: /m,
    );
    expect(await runJson('status', '--name', 'x')).toMatchObject({
      unmatched: [{ option: 'include', pattern: 'ordres' }],
    });
  });

  it('tells what waits and which tables lack a trigger, until all is removed', async () => {
    const { database, run, runJson, internalObjects } = await setupCommands();
    expect(await run(['status', '--name', 'my-input'])).toMatchObject({ code: 1, out: '' });
    expect(await runJson('install', '--name', 'my-input', '--exclude', 'lin*')).toEqual({
      id: 'my_input',
      watched: ['orders'],
      unwatchable: [],
      pending: [],
    });
    await database.query('INSERT INTO orders VALUES (1), (2); CREATE TABLE fresh (id int)');
    await database.query("UPDATE postgres_input.log_postgres_input_my_input SET at = at - interval '90 s'");
    expect(await runJson('status', '--name', 'my-input')).toEqual({
      id: 'my_input',
      lease: null,
      backlog: 2,
      oldestChangeAt: expect.stringMatching(/^\d{4}-.*Z$/),
      oldestChangeAge: expect.toSatisfy((age: number) => age >= 90_000),
      watched: ['fresh', 'orders'],
      unwatchable: [],
      pending: ['fresh'],
    });
    const { out } = await run(['status', '--name', 'my-input']);
    expect(out).toMatch(/^active +no node$/m);
    expect(out).toMatch(/^backlog +2 changes$/m);
    expect(out).toMatch(/^oldest change +1 min \d+ s ago/m);
    expect(await runJson('uninstall', '--yes', '--name', 'my-input')).toEqual({
      id: 'my_input',
      discarded: 2,
    });
    expect(await internalObjects()).toEqual([]);
    expect((await run(['uninstall', '--name', 'my-input'])).code).toBe(1);
  });
});
