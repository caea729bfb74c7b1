import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PROGRAM, exitCode, setupCommands } from './commands.ts';

describe('the command line', () => {
  it('explains every command, option and exit code', async () => {
    const { run } = await setupCommands();
    const { code, out } = await run(['--help'], {});
    expect(code).toBe(0);
    for (const word of [
      'plan',
      'install',
      'migrate',
      'uninstall',
      'list',
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
    [['instal'], 'did you mean install?'],
    [['drop'], 'use plan, install, migrate, uninstall, list, status, doctor, tail'],
    [['status'], '--name is missing'],
    [['status', '--name'], 'argument missing'],
    [['status', '--name', 'x', '--nam', 'y'], "'--nam'"],
    [['status', '--nam', 'x'], 'did you mean --name?'],
    [['plan', '--grant', 'x'], 'did you mean --grant-to?'],
    [['status', '--name', 'x', 'y'], 'Unexpected argument'],
    [['status', '--name', 'x', '--operation', 'upsert'], '"upsert" is not an operation'],
    [['status', '--name', 'x', '--lock-timeout', 'soon'], 'lockTimeout'],
    [['status', '--name', 'x', '--internal-schema', 'pg_x'], 'must not begin with pg_'],
    [['migrate', '--name', 'x', '--wait', 'long'], '--wait takes a number of seconds'],
    [['list', '--name', 'x'], '--name describes one'],
    [['list', '--rows', 'both'], '--rows describes one'],
    [['doctor', '--max-row-bytes', '5'], '--max-row-bytes describes one'],
    [['parked', '--name', 'x', '--limit', '99999999999999999999'], '--limit must be a whole number'],
    [['tail', '--join'], '--join needs --name'],
    [['tail', '--join', '--name', 'x', '--table', 'orders'], '--table would throw the others away'],
    [['tail', '--join', '--name', 'x', '--rows', 'both'], '--rows would ask for others'],
    [['tail', '--rows', 'all'], "must be 'none', 'after' or 'both'"],
  ])('answers %j with exit code 2', async (args, problem) => {
    const { run } = await setupCommands();
    const { code, out, err } = await run(args);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(problem);
  });

  it('wants a connection string', async () => {
    const { run } = await setupCommands();
    const { code, err } = await run(['status', '--name', 'x'], {});
    expect(code).toBe(2);
    expect(err).toContain('DATABASE_DSN is not set');
  });

  it('never shows a password', async () => {
    const { run } = await setupCommands();
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
    const { run, start } = await setupCommands();
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

  it('has colours as NO_COLOR and FORCE_COLOR say', async () => {
    const { database, run } = await setupCommands();
    const colours = async (env: NodeJS.ProcessEnv, isTerminal: boolean) => {
      const { out } = await run(
        ['doctor', '--name', 'x'],
        { DATABASE_DSN: database.url, ...env },
        isTerminal,
      );
      expect(out).toContain('problem');
      return out.includes('\u001B');
    };
    expect(await colours({ NO_COLOR: '1' }, true)).toBe(false);
    expect(await colours({ FORCE_COLOR: '0' }, true)).toBe(false);
    expect(await colours({ FORCE_COLOR: '1' }, false)).toBe(true);
    expect(await colours({ FORCE_COLOR: '1', NO_COLOR: '1' }, false)).toBe(true);
  });

  it('shows a table whose name would command the terminal', async () => {
    const { database, run, runJson } = await setupCommands();
    await database.query('CREATE TABLE "\u001B[2J\r" (id int)');
    await run(['install', '--name', 'x']);
    const { out } = await run(['status', '--name', 'x']);
    expect(out).toContain('\\u001b[2J\\u000d');
    expect((await runJson('status', '--name', 'x')).watched).toContain('\u001B[2J\r');
    const { err } = await run(['backfill', '--name', 'x', '--table', 'nope']);
    expect(err).toMatch(/Please correct the backfill:\n- .*\\u001b\[2J\\u000d/);
  });

  it('fails where its output has no room', async () => {
    const { database } = await setupCommands();
    const full = openSync('/dev/full', 'w');
    onTestFinished(() => closeSync(full));
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), PROGRAM, 'list'], {
      env: { ...process.env, DATABASE_DSN: database.url },
      stdio: ['ignore', full, 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    const err = text(child.stderr!);
    expect(await exitCode(child)).toBe(1);
    expect(await err).toMatch(/^dapper-postgres-input: the output can't be written: ENOSPC/);
  });
});
