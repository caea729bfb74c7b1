import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { COMMON } from '../../src/cli/options.ts';
import { runCommand } from './commands.ts';

const isThere = (shell: string): boolean => spawnSync(shell, ['-c', 'true']).status === 0;

/** The script for a shell. */
async function scriptFor(shell: string): Promise<string> {
  const { code, out, err } = await runCommand(['completion', shell]);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  return out;
}

describe.skipIf(!isThere('bash'))('bash', () => {
  /** What bash offers for the last of these words. */
  const offersOf = (script: string, words: readonly string[], cwd?: string): string[] => {
    const test = `
      source /dev/stdin <<< "$1"; shift
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
      _dapper_postgres_input; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const args = ['--norc', '-c', test, 'bash', script, 'dapper-postgres-input', ...words];
    return execFileSync('bash', args, { encoding: 'utf8', cwd })
      .split('\n')
      .filter((line) => line !== '');
  };

  it.each([
    [['st'], ['status']],
    [['un'], ['uninstall']],
    [
      ['completion', ''],
      ['bash', 'zsh'],
    ],
    [['status', '--wat'], ['--watch']],
    [['install', '--wat'], []],
    [['tail', '--json', '--jo'], ['--join']],
    [
      ['plan', '--rows', ''],
      ['none', 'after', 'both'],
    ],
    [['plan', '--operation', 'd'], ['delete']],
    [['plan', '--name', ''], []],
    [['nonsense', '--'], []],
  ])('completes %j', async (words, offers) => {
    expect(offersOf(await scriptFor('bash'), words)).toEqual(offers);
  });

  it('completes every command, and every option of one', async () => {
    const script = await scriptFor('bash');
    expect(offersOf(script, [''])).toEqual(
      expect.arrayContaining(['plan', 'doctor', 'backfill', '--version']),
    );
    const common = Object.keys(COMMON).map((option) => `--${option}`);
    expect(offersOf(script, ['doctor', '--'])).toEqual(common);
  });

  it('completes the files of --config', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'completion-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'orchestrator.toml'), '');
    expect(offersOf(await scriptFor('bash'), ['doctor', '--config', 'orch'], folder)).toEqual([
      'orchestrator.toml',
    ]);
  });
});

describe('zsh', () => {
  it('gets every command with its options and their texts', async () => {
    const script = await scriptFor('zsh');
    expect(script).toMatch(/^#compdef dapper-postgres-input$/m);
    expect(script).toContain(`'status:tell who is active, what waits, and which tables are watched'`);
    expect(script).toContain(`'--watch[look again every second]'`);
    expect(script).toContain(`:KIND:(none after both)'`);
    expect(script).toContain(`:FILE:_files'`);
    expect(script).toContain(String.raw`'--config[an orchestrator'\''s config file, JSON or TOML\: the name`);
  });

  it.skipIf(!isThere('zsh'))('can read the script', async () => {
    expect(spawnSync('zsh', ['-n'], { input: await scriptFor('zsh') })).toMatchObject({ status: 0 });
  });
});

it('another shell is refused', async () => {
  for (const args of [[], ['fish'], ['toString'], ['bash', 'zsh']])
    expect(await runCommand(['completion', ...args])).toMatchObject({
      code: 2,
      err: expect.stringContaining('completion takes the name of a shell: bash or zsh'),
    });
});
