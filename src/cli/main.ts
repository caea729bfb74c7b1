/**
 * The command `dapper-postgres-input`: finds out what is asked for, does it, and turns its end into an exit code.
 *
 * Results go to the standard output, everything else to the other one. No password is ever shown.
 */
import { readFileSync } from 'node:fs';
import { PostgresInputError, redact } from '../api/errors.ts';
import { type Settings, parseConfig } from '../config/settings.ts';
import { namesOf } from '../schema/names.ts';
import { type Command, EXIT, type ExitCode, type Io, UsageError } from './command.ts';
import { doctor } from './doctor.ts';
import { install } from './install.ts';
import { type Values, helpOf, helpOfAll, listOf, parseValues } from './options.ts';
import { plan } from './plan.ts';
import { status } from './status.ts';
import { tail } from './tail.ts';
import { uninstall } from './uninstall.ts';

const COMMANDS: Readonly<Record<string, Command>> = { plan, install, uninstall, status, doctor, tail };

/** In milliseconds. More than a node gives itself: whoever runs a command would rather wait than try again. */
const CONNECT_TIMEOUT = 5000;

export async function main(args: readonly string[], io: Io): Promise<ExitCode> {
  // Whoever reads may hang up at any time; tail is told by its own write.
  for (const stream of [io.stdout, io.stderr]) stream.on('error', () => {});
  let secrets: readonly string[] = [];
  try {
    const [name = '', ...rest] = args;
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : null;
    if (!command) return withoutCommand(name, io);
    const values = parseValues(rest, command);
    if (values.help) {
      io.stdout.write(helpOf(name, command));
      return EXIT.ok;
    }
    const settings = settingsOf(values, command, io.env);
    secrets = settings.target.secrets;
    return await command.run({ settings, names: namesOf(settings.id, settings.internalSchema), values, io });
  } catch (error) {
    io.stderr.write(`dapper-postgres-input: ${redact(describe(error), secrets)}\n`);
    if (!isUsage(error)) return EXIT.failure;
    io.stderr.write('dapper-postgres-input --help tells how to use it.\n');
    return EXIT.usage;
  }
}

function withoutCommand(name: string, { stdout }: Io): ExitCode {
  if (['help', '--help', '-h'].includes(name)) stdout.write(helpOfAll(COMMANDS));
  else if (name === '--version') stdout.write(`${version()}\n`);
  else {
    const problem = name === '' ? 'a command is missing' : `there is no command ${JSON.stringify(name)}`;
    throw new UsageError(`${problem}: use ${Object.keys(COMMANDS).join(', ')}`);
  }
  return EXIT.ok;
}

function settingsOf(values: Values, { defaultName }: Command, env: NodeJS.ProcessEnv): Settings {
  const name = values.name ?? defaultName?.();
  const connectionString = values['connection-string'] ?? env['DATABASE_DSN'];
  if (name === undefined) throw new UsageError("--name is missing: the input's name, as its nodes have it");
  if (connectionString === undefined) {
    throw new UsageError('--connection-string is missing, and the variable DATABASE_DSN is not set');
  }
  const config = { name, type: 'postgres', connectionString, operations: listOf(values.operation) };
  const settings = parseConfig(config, {
    schemas: values.schemas && listOf(values.schemas),
    tables: {
      include: listOf([values.include, values.table].flatMap((list) => list ?? [])),
      exclude: listOf(values.exclude),
    },
    internalSchema: values['internal-schema'],
    lockTimeout: values['lock-timeout'] && Number(values['lock-timeout']),
  });
  return { ...settings, connectTimeout: settings.target.connectTimeout ?? CONNECT_TIMEOUT };
}

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
