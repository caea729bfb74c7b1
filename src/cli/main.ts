/**
 * The command `dapper-postgres-input`: parses the command line, runs a command, and turns the command's end into an exit
 * code. Results go to the standard output, everything else goes to the standard error. No password is ever shown.
 */
import { readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { PostgresInputError, redact } from '../api/errors.ts';
import { parseConnectionString } from '../config/connection-string.ts';
import { backfill } from './backfill.ts';
import { type Command, EXIT, type ExitCode } from './command.ts';
import { completion } from './completion.ts';
import { withConfigFile } from './config-file.ts';
import { discard } from './discard.ts';
import { doctor } from './doctor.ts';
import { helpOf, helpOfAll } from './help.ts';
import { install } from './install.ts';
import { list } from './list.ts';
import { migrate } from './migrate.ts';
import { UsageError, parseValues } from './options.ts';
import { type Io, printable } from './output.ts';
import { parked } from './parked.ts';
import { plan } from './plan.ts';
import { redrive } from './redrive.ts';
import { status } from './status.ts';
import { nearest } from './suggestion.ts';
import { tail } from './tail.ts';
import { uninstall } from './uninstall.ts';

const COMMANDS: Readonly<Record<string, Command>> = {
  plan,
  install,
  migrate,
  uninstall,
  list,
  status,
  doctor,
  tail,
  parked,
  redrive,
  discard,
  backfill,
};
const ALL = Object.keys(COMMANDS).join(', ');

export async function main(args: readonly string[], io: Io): Promise<ExitCode> {
  // The reader of either stream may hang up at any time. Commands that go on until then see to it themselves.
  const output: { error: NodeJS.ErrnoException | null } = { error: null };
  io.stdout.on('error', (error) => (output.error ??= error));
  io.stderr.on('error', () => {});
  let secrets: readonly string[] = [];
  try {
    const [name = '', ...rest] = args;
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : null;
    if (!command) return withoutCommand(name, rest, io);
    const given = parseValues(rest, command.options);
    if (given.help) {
      io.stdout.write(helpOf(name, command));
      return EXIT.ok;
    }
    const values = await withConfigFile(given, command);
    const connectionString = values['connection-string'] ?? io.env['DATABASE_DSN'];
    if (connectionString === undefined) {
      throw new UsageError(
        '--connection-string is missing, there is no --config, and the variable DATABASE_DSN is not set',
      );
    }
    ({ secrets } = parseConnectionString(connectionString));
    const code = await command.run({ values, connectionString, io });
    // Node.js writes to a file at once, and tells in the next turn that it could not.
    await setImmediate();
    if (isFull(output.error)) throw new Error(`the output can't be written: ${output.error.message}`);
    return code;
  } catch (error) {
    io.stderr.write(`dapper-postgres-input: ${redact(printableLines(describe(error)), secrets)}\n`);
    if (!isUsage(error)) return EXIT.failure;
    io.stderr.write('dapper-postgres-input --help tells how to use it.\n');
    return EXIT.usage;
  }
}

function withoutCommand(name: string, rest: readonly string[], { stdout }: Io): ExitCode {
  if (name === 'completion') stdout.write(completion(rest, COMMANDS));
  else if (['help', '--help', '-h'].includes(name)) stdout.write(helpOfAll(COMMANDS));
  else if (name === '--version') stdout.write(`${version()}\n`);
  else throw new UsageError(name === '' ? `a command is missing: use ${ALL}` : unknownCommand(name));
  return EXIT.ok;
}

function unknownCommand(name: string): string {
  const meant = nearest(name, [...Object.keys(COMMANDS), 'completion']);
  const advice = meant === undefined ? `use ${ALL}` : `did you mean ${meant}?`;
  return `there is no command ${JSON.stringify(name)}: ${advice}`;
}

/** An error of a disk that is full. All others say that the reader has hung up. */
const isFull = (error: NodeJS.ErrnoException | null): error is NodeJS.ErrnoException =>
  ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(error?.code ?? '');

const printableLines = (text: string): string => text.split('\n').map(printable).join('\n');

const isUsage = (error: unknown): boolean =>
  error instanceof UsageError ||
  (error instanceof PostgresInputError &&
    (error.code === 'ERR_CONFIG_INVALID' || error.code === 'ERR_CONNECTION_STRING'));

const describe = (error: unknown): string =>
  error instanceof PostgresInputError
    ? `${error.code}: ${error.message}`
    : error instanceof Error
      ? error.message
      : String(error);

const version = (): string =>
  JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')).version;
