import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { setupCommands } from './commands.ts';

/** Commands that get their connection from a config file alone. */
async function setup() {
  const { database, run } = await setupCommands();
  const folder = await mkdtemp(join(tmpdir(), 'config-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const write = async (file: string, text: string) => {
    const path = join(folder, file);
    await writeFile(path, text);
    return path;
  };
  return { database, write, run: (...args: string[]) => run(args, {}) };
}

const orchestrator = (url: string) => `
[[inputs]]
name = "clock"
type = "interval"

[[inputs]]
name = "my-sales"
type = "postgres"
connection_string = "${url}"
operation = ["insert", "update"]

[[processes]]
name = "print"
type = "print"
`;

describe('a config file', () => {
  it('tells the name, the connection string and the operations of the input in it', async () => {
    const { database, run, write } = await setup();
    const file = await write('orchestrator.toml', orchestrator(database.url));
    expect(await run('install', '--config', file)).toMatchObject({ code: 0, err: '' });
    const doctor = await run('doctor', '--config', file);
    expect(doctor).toMatchObject({ code: 0, err: '' });
    expect(doctor.out).toContain('--operation create,update');
    expect((await run('status', '--config', file)).out).toMatch(/^input +my_sales$/m);
    const list = await run('list', '--config', file);
    expect(list.out).toMatch(/^my-sales /m);
  });

  it('may be JSON, whose inputs --name tells apart', async () => {
    const { database, run, write } = await setup();
    const inputs = {
      orders: { name: 'all-orders', type: 'postgres', connectionString: database.url },
      other: { name: 'elsewhere', type: 'postgres', connectionString: 'postgres://127.0.0.1:1/x' },
    };
    // Editors on Windows write a mark in front.
    const file = await write('orchestrator.json', `\uFEFF${JSON.stringify({ inputs })}`);
    expect(await run('install', '--config', file)).toMatchObject({
      code: 2,
      err: expect.stringContaining('say with --name which one of all-orders, elsewhere'),
    });
    expect(await run('install', '--config', file, '--name', 'all_orders')).toMatchObject({ code: 0 });
    expect((await run('status', '--config', file, '--name', 'elsewhere')).err).toContain('ECONNREFUSED');
    expect((await run('status', '--config', file, '--name', 'nobody')).err).toContain(
      'has no input nobody: it has all-orders, elsewhere',
    );
  });

  it.each(['list', 'tail'])(
    'of several databases has %s ask which one, by the connection string',
    async (command) => {
      const { database, run, write } = await setup();
      const inputs = [database.url, 'postgres://127.0.0.1:1/x'].map((connectionString, n) => ({
        name: `n${n}`,
        connectionString,
      }));
      const file = await write('orchestrator.json', JSON.stringify({ inputs }));
      expect(await run(command, '--config', file)).toMatchObject({
        code: 2,
        err: expect.stringContaining('several databases: say with --connection-string which one'),
      });
    },
  );

  it('of several databases is not looked at when list has the connection string', async () => {
    const { database, run, write } = await setup();
    const inputs = [{ connectionString: 'postgres://127.0.0.1:1/x' }, { connectionString: 'postgres://h/x' }];
    const file = await write('orchestrator.json', JSON.stringify(inputs));
    const { code } = await run('list', '--config', file, '--connection-string', database.url);
    expect(code).toBe(0);
  });

  it('tells which operations are wanted where it names none: every one', async () => {
    const { database, run, write } = await setup();
    const input = { name: 'sales', connectionString: database.url };
    const file = await write('input.json', JSON.stringify(input));
    await run('install', '--config', file, '--operation', 'create');
    expect((await run('doctor', '--config', file)).err).toContain('was installed with --operation create');
  });

  it('stands behind what the command line says', async () => {
    const { database, run, write } = await setup();
    const file = await write('orchestrator.toml', orchestrator('postgres://127.0.0.1:1/x'));
    const { code } = await run('install', '--config', file, '--connection-string', database.url);
    expect(code).toBe(0);
  });

  it.each([
    ['input.json', '{"connectionString": "postgres://joe:tops3cret@h" oops', 'is no valid JSON'],
    [
      'input.toml',
      'connection_string = "postgres://joe:tops3cret@h" oops',
      'is no valid TOML: look at line 1',
    ],
    ['input.yaml', 'tops3cret', 'ends in .json or .toml'],
    [
      'input.json',
      '{"inputs": [{"type": "mysql", "connectionString": "tops3cret"}]}',
      'no input of type postgres',
    ],
    ['input.json', '{"type": "postgres", "connectionString": "postgres://tops3cret@h"}', 'has no name'],
    [
      'input.json',
      '{"name": "a", "connectionString": "postgres://tops3cret@h", "operations": "create"}',
      'are no list',
    ],
    [
      'input.toml',
      '[[i]]\nname.of = "a"\nconnection_string = "tops3cret"\n[[i]]\nname = "b"\nconnection_string = "h"',
      'which one of (no name), b',
    ],
  ])('that is wrong is refused without a word of what is in it: %s %s', async (name, text, problem) => {
    const { run, write } = await setup();
    const { code, out, err } = await run('status', '--config', await write(name, text));
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(problem);
    expect(err).not.toContain('tops3cret');
  });

  it('that is not there is refused', async () => {
    const { run } = await setup();
    expect(await run('status', '--config', '/nowhere.json')).toMatchObject({
      code: 2,
      err: expect.stringContaining("/nowhere.json can't be read: ENOENT"),
    });
  });
});
