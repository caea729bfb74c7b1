/**
 * The options of the command line. Each option stands once, in the table of its command or in `COMMON`; the parser, the
 * help and the type of the parsed values are derived from the tables.
 */
import { parseArgs } from 'node:util';
import { nearest } from './suggestion.ts';

export interface Option {
  readonly type: 'string' | 'boolean';
  /** The option takes a list: separated by commas, or the option repeated. */
  readonly multiple?: true;
  readonly short?: string;
  /** The name of the value in the help. */
  readonly value?: string;
  readonly help: string;
  /** The values that a shell completes. */
  readonly completes?: readonly string[] | 'file';
}

export type Options = Readonly<Record<string, Option>>;

type ValueOf<Given extends Option> = Given extends { multiple: true }
  ? readonly string[]
  : Given extends { type: 'string' }
    ? string
    : boolean;

type ValuesOf<Table extends Options> = { readonly [Name in keyof Table]?: ValueOf<Table[Name]> };

/** The values of a command with the options `Own`, and of the options that every command has. */
export type Values<Own extends Options> = ValuesOf<typeof COMMON> & ValuesOf<Own>;

export const COMMON = {
  'connection-string': {
    type: 'string',
    value: 'DSN',
    help: 'a postgres:// URL or keyword=value pairs; default: the variable DATABASE_DSN, which\nkeeps the password out of the list of processes. connect_timeout in it: default 5 s',
  },
  config: {
    type: 'string',
    value: 'FILE',
    completes: 'file',
    help: "an orchestrator's config file, JSON or TOML: the name, the connection string and the\noperations are those of the postgres input in it; --name says which of several",
  },
  name: { type: 'string', value: 'NAME', help: "the input's name, as its nodes have it" },
  schemas: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'schemas to watch; default: those of the installation, else public',
  },
  include: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'tables to watch: names or globs, table or schema.table; default: those of the\ninstallation, else all',
  },
  exclude: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    help: 'tables to leave out; default: those of the installation',
  },
  operation: {
    type: 'string',
    multiple: true,
    value: 'LIST',
    completes: ['create', 'update', 'delete'],
    help: 'of create, update and delete; default: those of the installation, else every one',
  },
  rows: {
    type: 'string',
    value: 'KIND',
    completes: ['none', 'after', 'both'],
    help: 'what events have of the row: none, after, or both; default: that of the installation,\nelse none',
  },
  'max-row-bytes': {
    type: 'string',
    value: 'BYTES',
    help: 'the longest row that events have, as text; default: that of the installation, else\n1000000',
  },
  notifications: {
    type: 'string',
    value: 'KIND',
    completes: ['changes', 'bare'],
    help: 'changes, or bare: without keys, which any role could hear; default: that of the\ninstallation, else changes',
  },
  wakeup: {
    type: 'string',
    value: 'KIND',
    completes: ['auto', 'notify', 'poll'],
    help: 'notify, poll, or auto: what a pooler in transaction mode leaves; default: notify',
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

/** The command line asks for something that does not exist, or lacks something. */
export class UsageError extends Error {}

/** @throws {UsageError} */
export function parseValues<Own extends Options>(args: readonly string[], own: Own): Values<Own> {
  const options: Options = { ...COMMON, ...own };
  refuseUnknown(args, options);
  try {
    const { values } = parseArgs({ args: [...args], options, strict: true, allowPositionals: false });
    const entries = Object.entries(values).map(([name, value]) => [
      name,
      Array.isArray(value) ? value.flatMap((list) => itemsOf(String(list))) : value,
    ]);
    return Object.fromEntries(entries);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function refuseUnknown(args: readonly string[], options: Options): void {
  const { tokens } = parseArgs({ args: [...args], options, strict: false, tokens: true });
  for (const token of tokens) {
    if (token.kind !== 'option' || Object.hasOwn(options, token.name)) continue;
    const meant = nearest(token.name, Object.keys(options));
    const advice = meant === undefined ? '' : `: did you mean --${meant}?`;
    throw new UsageError(`there is no option '${token.rawName}'${advice}`);
  }
}

const itemsOf = (list: string): string[] =>
  list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
