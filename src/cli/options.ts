/** The command line: each option stands in one table, from which it is parsed and explained. */
import { parseArgs } from 'node:util';
import { type Command, UsageError } from './command.ts';

export interface Option {
  readonly type: 'string' | 'boolean';
  readonly multiple?: true;
  readonly short?: string;
  /** What stands for the value in the help. */
  readonly value?: string;
  readonly help: string;
}

export type Options = Readonly<Record<string, Option>>;

/** Every value that any command can be given. */
export interface Values {
  readonly 'connection-string'?: string;
  readonly name?: string;
  readonly schemas?: string[];
  readonly include?: string[];
  readonly exclude?: string[];
  readonly operation?: string[];
  readonly 'internal-schema'?: string;
  readonly 'lock-timeout'?: string;
  readonly json?: boolean;
  readonly help?: boolean;
  readonly force?: boolean;
  readonly 'grant-to'?: string;
  readonly table?: string[];
  readonly join?: boolean;
}

const COMMON = {
  'connection-string': {
    type: 'string',
    value: 'DSN',
    help: 'a postgres:// URL or keyword=value pairs; default: the variable DATABASE_DSN, which\nkeeps the password out of the list of processes. connect_timeout in it: default 5 s',
  },
  name: { type: 'string', value: 'NAME', help: "the input's name, as its nodes have it" },
  schemas: { type: 'string', multiple: true, value: 'LIST', help: 'schemas to watch; default: public' },
  include: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'tables to watch: names or globs, table or schema.table; default: all',
  },
  exclude: { type: 'string', multiple: true, value: 'LIST', help: 'tables to leave out' },
  operation: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'of create, update and delete; default: every one',
  },
  'internal-schema': {
    type: 'string',
    value: 'NAME',
    help: "where this package's own tables are; default: postgres_input",
  },
  'lock-timeout': {
    type: 'string',
    value: 'MS',
    help: 'how long a statement may wait for a lock; default: 100',
  },
  json: { type: 'boolean', help: 'JSON on the standard output, for programs' },
  help: { type: 'boolean', short: 'h', help: 'this text' },
} as const satisfies Options;

const PROGRAM = 'dapper-postgres-input';

/** @throws {UsageError} */
export function parseValues(args: readonly string[], { options }: Pick<Command, 'options'>): Values {
  const known = { ...COMMON, ...options };
  try {
    return parseArgs({ args: [...args], options: known, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** `a,b` and `--x a --x b` are the same. */
export const listOf = (values: readonly string[] = []): string[] =>
  values
    .flatMap((value) => value.split(','))
    .map((item) => item.trim())
    .filter((item) => item !== '');

export const helpOfAll = (commands: Readonly<Record<string, Command>>): string => `\
Watches a PostgreSQL database: every row change becomes one event.

Usage: ${PROGRAM} <command> --name NAME [options]

Commands:
${columns(Object.entries(commands).map(([name, { summary }]) => [name, summary]))}

${commonOptions}
  --version                 the version of this package

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done, but there is something to look after (doctor found
problems, install had to leave tables out).

${PROGRAM} <command> --help tells more about a command.
`;

export const helpOf = (name: string, { summary, details, options }: Command): string =>
  `\
${PROGRAM} ${name}: ${summary}.

${details}

${Object.keys(options).length > 0 ? `Options:\n${optionColumns(options)}\n\n` : ''}${commonOptions}
`;

const optionColumns = (options: Options): string =>
  columns(
    Object.entries(options).map(([name, { value, help }]) => [
      `--${name}${value === undefined ? '' : ` ${value}`}`,
      help,
    ]),
  );

const commonOptions = `Options of every command (a LIST is separated by commas, or the option repeated):\n${optionColumns(COMMON)}`;

function columns(rows: readonly (readonly [string, string])[]): string {
  const width = rows.some(([left]) => left.startsWith('--')) ? 24 : 10;
  return rows
    .map(
      ([left, right]) => `  ${left.padEnd(width)}  ${right.replaceAll('\n', `\n${' '.repeat(width + 4)}`)}`,
    )
    .join('\n');
}
