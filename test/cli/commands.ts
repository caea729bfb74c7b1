/** The command line, run on a database of one's own: within the test's process, or as a shell would run it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Writable } from 'node:stream';
import { expect, onTestFinished } from 'vitest';
import { main } from '../../src/cli/main.ts';
import type { ChangeEvent } from '../../src/index.ts';
import { namesOf } from '../../src/schema/names.ts';
import { createDatabase } from '../support/database.ts';
import { publishedCommand } from '../support/published.ts';

export interface Result {
  code: number;
  out: string;
  err: string;
}

/** A version of the objects that is yet to come. */
export const NEWER = 99;

export const PROGRAM = new URL('../../src/cli.ts', import.meta.url).pathname;

/** Runs the command within this process. */
export async function runCommand(
  args: string[],
  env: NodeJS.ProcessEnv = {},
  colours = false,
): Promise<Result> {
  const [stdout, stderr] = [new Collector(colours), new Collector(colours)];
  const code = await main(args, { stdout, stderr, env });
  return { code, out: stdout.text, err: stderr.text };
}

/** A database with the tables `orders` and `lines`, and ways to run commands on it. */
export async function setupCommands() {
  const database = await createDatabase();
  await database.query(
    'CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE lines (o int, n int, PRIMARY KEY (o, n))',
  );

  const run = (
    args: string[],
    env: NodeJS.ProcessEnv = { DATABASE_DSN: database.url },
    colours = false,
  ): Promise<Result> => runCommand(args, env, colours);

  async function runJson(...args: string[]) {
    const { out, err } = await run([...args, '--json']);
    expect(err).toBe('');
    return JSON.parse(out);
  }

  /** Runs the command as a process, as a shell would. */
  function start(args: string[], dsn = database.url) {
    const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), PROGRAM, ...args], {
      env: { ...process.env, DATABASE_DSN: dsn, FORCE_COLOR: undefined },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    onTestFinished(() => void child.kill('SIGKILL'));
    let err = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    return { child, err: () => err };
  }

  /** Starts a process that tails, waits until it is active, and gives its lines, parsed. */
  async function startTail(...args: string[]) {
    const { child, err } = start(['tail', ...args]);
    await expect.poll(err, { timeout: 60_000 }).toContain('tail: active');
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const next = async (): Promise<ChangeEvent> => JSON.parse((await lines.next()).value);
    return { child, err, next };
  }

  /** Installs as version 0.1.0 of this package does. */
  const installOld = (name: string, ...args: string[]) =>
    publishedCommand('0.1.0', ['install', '--name', name, '--connection-string', database.url, ...args]);

  /** Makes an input look as that version will leave it. */
  const makeNewer = (name: string) => {
    const { lockTable } = namesOf(name, 'postgres_input');
    return database.query(`
      ALTER TABLE ${lockTable.sql} ADD COLUMN yet_to_come int, ALTER COLUMN version SET DEFAULT ${NEWER};
      UPDATE ${lockTable.sql} SET version = ${NEWER}, options = '{"unheard": "of"}'`);
  };

  /** The names of the internal schema and of all triggers. */
  const internalObjects = async () =>
    (
      await database.query(`SELECT nspname AS name FROM pg_namespace WHERE nspname = 'postgres_input'
       UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal`)
    ).map(({ name }) => name);

  return { database, run, runJson, start, startTail, installOld, makeNewer, internalObjects };
}

export async function exitCode(child: ChildProcess): Promise<number | null> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  return child.exitCode;
}

class Collector extends Writable {
  text = '';
  readonly #colours: boolean;

  constructor(colours: boolean) {
    super();
    this.#colours = colours;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }

  hasColors(): boolean {
    return this.#colours;
  }
}
