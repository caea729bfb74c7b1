/**
 * The config file of an orchestrator: `--config FILE`. An input in it is any object that has a connection string, and the type `postgres` or none. The
 * options that such an input stands for are those of the command line, which come before it.
 *
 * No message shows text of the file, which holds passwords.
 */
import { readFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { inputId } from '../config/settings.ts';
import type { Command } from './command.ts';
import { UsageError } from './options.ts';

/** The options that a config file can stand for. */
export interface ConfigurableValues {
  readonly config?: string;
  readonly name?: string;
  readonly 'connection-string'?: string;
  readonly operation?: readonly string[];
}

interface ConfiguredInput {
  readonly name: unknown;
  readonly connectionString: string;
  readonly operations: unknown;
}

/**
 * The values of a command line, and those of its config file where it is silent.
 * @throws {UsageError}
 */
export async function withConfigFile<Given extends ConfigurableValues>(
  values: Given,
  { ownInput = false }: Pick<Command, 'ownInput'>,
): Promise<Given> {
  if (values.config === undefined || (ownInput && values['connection-string'] !== undefined)) return values;
  const inputs = inputsIn(await contentOf(values.config));
  const { name, connectionString, operations } = chosen(inputs, values, ownInput);
  const connection = { 'connection-string': connectionString, ...values };
  if (ownInput) return connection;
  if (typeof name !== 'string') throw new UsageError(`${values.config}: an input has no name`);
  // The nodes take every operation where the config names none.
  const operation = (operations ?? []) as readonly string[];
  if (!Array.isArray(operation) || !operation.every((each) => typeof each === 'string'))
    throw new UsageError(`${values.config}: the operations of input ${name} are no list`);
  return { name, operation, ...connection };
}

async function contentOf(path: string): Promise<unknown> {
  const extension = extname(path).toLowerCase();
  if (extension !== '.json' && extension !== '.toml')
    throw new UsageError(`--config takes a file whose name ends in .json or .toml, and not ${path}`);
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new UsageError(`${path} can't be read: ${error.code}`);
  });
  const parse = extension === '.json' ? JSON.parse : await tomlParser();
  try {
    return parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    const { line, column } = error as { line?: number; column?: number };
    const place = line === undefined ? '' : `: look at line ${line}, column ${column}`;
    throw new UsageError(`${path} is no valid ${extension === '.json' ? 'JSON' : 'TOML'}${place}`);
  }
}

/** A parser of TOML is an optional peer: most who use this package need none. */
async function tomlParser(): Promise<(text: string) => unknown> {
  const module = await import('smol-toml').catch(() => {
    throw new UsageError('TOML needs a parser: npm install smol-toml, or give the config as JSON');
  });
  return module.parse;
}

function inputsIn(value: unknown): ConfiguredInput[] {
  if (typeof value !== 'object' || value === null) return [];
  const { name, type, ...config } = value as Readonly<Record<string, unknown>>;
  const connectionString = config['connectionString'] ?? config['connection_string'];
  if (typeof connectionString !== 'string' || (type !== undefined && type !== 'postgres'))
    return Object.values(value).flatMap(inputsIn);
  return [{ name, connectionString, operations: config['operations'] ?? config['operation'] }];
}

/** A name may be of any type: a table of TOML is an object that can not be made a text. */
const nameOf = ({ name }: ConfiguredInput): string => (typeof name === 'string' ? name : '(no name)');

/** An input of the command's own needs no more than a connection string, so its name need not be in the file. */
function chosen(
  inputs: readonly ConfiguredInput[],
  { config, name }: ConfigurableValues,
  ownInput: boolean,
): ConfiguredInput {
  const [first, ...others] = inputs;
  if (!first) throw new UsageError(`${config} has no input of type postgres with a connection_string`);
  const named = inputs.filter((input) => name !== undefined && inputId(nameOf(input)) === inputId(name));
  if (named.length === 1) return named[0]!;
  const isOneDatabase = others.every(({ connectionString }) => connectionString === first.connectionString);
  if (ownInput ? isOneDatabase : name === undefined && others.length === 0) return first;
  if (ownInput)
    throw new UsageError(`${config} has inputs of several databases: say with --connection-string which one`);
  const names = inputs.map(nameOf).join(', ');
  throw new UsageError(
    name === undefined
      ? `${config} has several inputs: say with --name which one of ${names}`
      : `${config} has ${named.length === 0 ? 'no' : 'more than one'} input ${name}: it has ${names}`,
  );
}
