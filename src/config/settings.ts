/**
 * Checks the config and the options that a user gives, and fills in the defaults. Every default is set here and nowhere
 * else; the comments in `api/options.ts` name them.
 *
 * A config that breaks several rules is refused once, with all of them listed. Past this file, settings are complete and
 * are not checked again.
 */
import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import * as z from 'zod';
import type { BackfillOptions } from '../api/backfill.ts';
import type { ChangeEvent } from '../api/change-event.ts';
import { PostgresInputError } from '../api/errors.ts';
import type {
  HandleOptions,
  Logger,
  NackOptions,
  PostgresInputOptions,
  ProcessOptions,
  TableOptions,
  TypeParsers,
} from '../api/options.ts';
import { parseOperation, type Operation } from '../api/orchestrator.ts';
import { parseConnectionString, type ConnectionTarget } from './connection-string.ts';

/** The longest time that `setTimeout` and PostgreSQL's own timeouts can wait. */
const MAX_MILLISECONDS = 2 ** 31 - 1;

const wholeNumber = (what: string, max: number) => {
  const error = `must be a whole number${what}, from 1 to ${max}`;
  return z.int(error).min(1, error).max(max, error);
};
const milliseconds = wholeNumber(' of milliseconds', MAX_MILLISECONDS);

/** PostgreSQL's text type holds no NUL, and half a surrogate pair would arrive there as another character. */
const text = z
  .string()
  .refine((value) => value.trim() !== '', 'must not be empty')
  .refine(
    (value) => !value.includes('\0') && Buffer.from(value).toString() === value,
    'must be valid text without NUL',
  );

/** https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS */
const identifier = text.refine((value) => Buffer.byteLength(value) <= 63, 'must be at most 63 bytes long');

const strict = <Shape extends z.core.$ZodLooseShape>(shape: Shape) =>
  z.strictObject(shape, {
    error: (issue) =>
      issue.code === 'unrecognized_keys'
        ? `has no ${issue.keys.map((key) => JSON.stringify(key)).join(', ')}: use ${Object.keys(shape).join(', ')}`
        : undefined,
  });

const lease = strict({
  duration: milliseconds.default(5000),
  renewInterval: milliseconds.default(1000),
  margin: milliseconds.default(1000),
  pollInterval: milliseconds.default(250),
}).refine(({ duration, renewInterval, margin }) => renewInterval + margin < duration, {
  error: 'renewInterval + margin must be less than duration, or the holder gives up before it has renewed',
});

const hasTypeParsers = (value: unknown): boolean =>
  typeof (value as TypeParsers | null)?.getTypeParser === 'function';

const isLogger = (value: unknown): boolean =>
  (['debug', 'info', 'warn', 'error'] as const).every(
    (level) => typeof (value as Partial<Logger> | null)?.[level] === 'function',
  );

const operation = z.string().transform((value, context) => {
  try {
    return parseOperation(value);
  } catch (error) {
    context.addIssue((error as TypeError).message);
    return z.NEVER;
  }
});

const rows = z.enum(['none', 'after', 'both'], "must be 'none', 'after' or 'both'");
const columnNames = z.array(identifier).min(1, 'must name at least one column');

const tableOptions = strict({
  operations: z
    .array(operation)
    .refine((operations) => operations.some((each) => each !== 'read'), {
      error: "must have at least one of 'create', 'update' and 'delete', or be left out",
    })
    .optional(),
  rows: rows.optional(),
  columns: z
    .union(
      [columnNames, strict({ exclude: columnNames })],
      'must be a list of columns, or { exclude: a list of columns }',
    )
    .optional(),
  changed: columnNames.optional(),
  when: text.optional(),
} satisfies Record<keyof TableOptions, z.ZodType>);

const optionsSchema = strict({
  connectTimeout: milliseconds.optional(),
  schemas: z.array(identifier).min(1, 'must name at least one schema').default(['public']),
  tables: strict({ include: z.array(text).default([]), exclude: z.array(text).default([]) }).prefault({}),
  rows: rows.default('none'),
  initial: z.enum(['none', 'read'], "must be 'none' or 'read'").default('none'),
  watch: z
    .record(text, tableOptions)
    .refine((watch) => Object.keys(watch).length > 0, 'must name at least one table, or be left out')
    .optional(),
  skipUnchanged: z.boolean().default(false),
  ignoreOrigins: z.array(text).default([]),
  // A string in JavaScript ends at half a gigabyte. Both sides of a row are read as JSON, which writes six characters for some.
  maxRowBytes: wholeNumber(' of bytes', 40_000_000).default(1_000_000),
  types: z
    .custom<TypeParsers>(hasTypeParsers, 'must have a function getTypeParser, as pg.types does')
    .default(pg.types),
  internalSchema: identifier
    .refine((name) => !name.startsWith('pg_'), 'must not begin with pg_, which PostgreSQL keeps for itself')
    .default('postgres_input'),
  install: z.boolean().default(true),
  discoveryInterval: milliseconds.default(5000),
  lockTimeout: milliseconds.default(100),
  lease: lease.prefault({}),
  maxInFlight: wholeNumber('', 1_000_000).default(1000),
  foreignNotifications: z.enum(['accept', 'ignore']).default('accept'),
  notifications: z.enum(['changes', 'bare']).default('changes'),
  wakeup: z.enum(['auto', 'notify', 'poll'], "must be 'auto', 'notify' or 'poll'").default('notify'),
  listenConnectionString: z.string('must be a string: a postgres:// URL or key=value pairs').optional(),
  logger: z
    .custom<Logger>(isLogger, 'must have the functions debug, info, warn and error, as console and pino have')
    .optional(),
} satisfies Record<keyof PostgresInputOptions, z.ZodType>)
  .refine(({ watch, tables }) => watch === undefined || tables.include.length === 0, {
    path: ['watch'],
    error: 'says which tables are watched, and so does tables.include: keep one of them',
  })
  .refine(({ wakeup, listenConnectionString }) => wakeup !== 'poll' || listenConnectionString === undefined, {
    path: ['listenConnectionString'],
    error: "is the way by which notifications arrive, and wakeup: 'poll' does without: keep one of them",
  });

const reconnect = strict({
  minDelay: milliseconds.default(100),
  maxDelay: milliseconds.default(10_000),
}).refine(({ minDelay, maxDelay }) => minDelay <= maxDelay, 'minDelay must not be more than maxDelay');

const switchable = z.preprocess(
  (value) => (value === true ? {} : value === false ? null : value),
  reconnect.nullable(),
);

/** Whether a value is an AbortSignal, also of a library or another realm. */
const isAbortSignal = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'aborted' in value && 'addEventListener' in value;

const signal = z.custom<AbortSignal>(isAbortSignal, 'must be an AbortSignal').optional();
const slowAfter = milliseconds.default(60_000);

const handleSchema = strict({
  signal,
  ack: z.enum(['auto', 'manual'], "must be 'auto' or 'manual'").default('auto'),
  reconnect: switchable.default(null),
  slowAfter,
} satisfies Record<keyof HandleOptions, z.ZodType>);

/** How long what failed waits until it comes again. */
export const RETRY_DELAYS = { minDelay: 1000, maxDelay: 180_000 };

const retry = strict({
  attempts: z.union([z.literal(Infinity), wholeNumber(', or Infinity', 1_000_000)]).default(Infinity),
  minDelay: milliseconds.default(RETRY_DELAYS.minDelay),
  maxDelay: milliseconds.default(RETRY_DELAYS.maxDelay),
}).refine(({ minDelay, maxDelay }) => minDelay <= maxDelay, 'minDelay must not be more than maxDelay');

const processSchema = strict({
  signal,
  reconnect: switchable.prefault({}),
  concurrency: wholeNumber('', 10_000).default(1),
  key: z
    .custom<(event: ChangeEvent) => string>((value) => typeof value === 'function', 'must be a function')
    .optional(),
  retry: retry.prefault({}),
  exhausted: z.enum(['park', 'stop'], "must be 'park' or 'stop'").default('park'),
  drainTimeout: milliseconds.optional(),
  slowAfter,
} satisfies Record<keyof ProcessOptions, z.ZodType>);

const nackSchema = strict({
  delay: z.int().min(0).max(MAX_MILLISECONDS).optional(),
  error: z.unknown().optional(),
} satisfies Record<keyof NackOptions, z.ZodType>);

const parkedSchema = strict({
  limit: wholeNumber('', 100_000).default(100),
  after: z
    .string()
    .regex(/^[1-9]\d*$/, 'must be the sequence of an event')
    .optional(),
});

const backfillSchema = strict({
  tables: z.array(text).min(1, 'must name at least one table').optional(),
  where: text.optional(),
  chunk: wholeNumber(' of rows', 2000).optional(),
} satisfies Record<keyof BackfillOptions, z.ZodType>);

/** Not strict: orchestrators keep keys of their own beside ours. */
const configSchema = z.object({
  name: text,
  type: text.optional(),
  connectionString: z.string('must be a string: a postgres:// URL or key=value pairs'),
  operations: z
    .array(operation)
    .refine((operations) => operations.length === 0 || operations.some((each) => each !== 'read'), {
      error:
        "tells of no table, since no change of a row is a read: add 'create', 'update' or 'delete', or leave operations out",
    })
    .nullish(),
});

/** The spellings of config files, and the same keys as this package spells them. */
const SPELLINGS = [
  ['connection_string', 'connectionString'],
  ['operation', 'operations'],
] as const;

const EVERY_OPERATION: readonly Operation[] = ['create', 'read', 'update', 'delete'];

/** Config and options, checked, with every default filled in. */
export interface Settings extends Readonly<Omit<z.output<typeof optionsSchema>, 'listenConnectionString'>> {
  readonly connectTimeout: number;
  readonly name: string;
  /** The name in the form that orchestrators and database objects know: see {@link inputId}. */
  readonly id: string;
  /** The operations that were asked for; never empty. */
  readonly operations: ReadonlySet<Operation>;
  readonly target: ConnectionTarget;
  /** A way for a node's own connections beside `target`, which then leads through a pooler; null: they go there too. */
  readonly listenTarget: ConnectionTarget | null;
}

/** The options of `handle`, checked, with every default filled in. */
export type HandleSettings = Readonly<z.output<typeof handleSchema>>;

/** The options of `process`, checked, with every default filled in. */
export type ProcessSettings = Readonly<z.output<typeof processSchema>>;

/** Between attempts to reconnect, in milliseconds. */
export type Delays = NonNullable<HandleSettings['reconnect']>;

/** An input's id: its name, every `-` turned into `_`. */
export function inputId(name: string): string {
  return name.replaceAll('-', '_');
}

/**
 * Checks what the user asks for. Takes a config as it comes out of a TOML or JSON file: `connection_string` and
 * `operation` are other spellings of `connectionString` and `operations`; keys that it does not know are left alone.
 *
 * @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation; `ERR_CONNECTION_STRING`.
 */
export function parseConfig(config: unknown, given?: unknown): Settings {
  const problems: string[] = [];
  const wanted = check('config', configSchema, withOurSpelling(config, problems), problems);
  const chosen = check('options', optionsSchema, given ?? {}, problems);
  if (chosen?.initial === 'read' && wanted?.operations?.length && !wanted.operations.includes('read'))
    problems.push(
      "options.initial: rows that are read are no event, since config.operations leaves out 'read': add it",
    );
  if (wanted === undefined || chosen === undefined || problems.length > 0) {
    throw invalid(['Please correct the config:', ...problems]);
  }

  const { listenConnectionString, ...options } = chosen;
  const { target, listenTarget } = targets(wanted.connectionString, listenConnectionString);
  return {
    ...options,
    connectTimeout: chosen.connectTimeout ?? target.connectTimeout ?? 500,
    name: wanted.name,
    id: inputId(wanted.name),
    operations: new Set(wanted.operations?.length ? wanted.operations : EVERY_OPERATION),
    target,
    listenTarget,
  };
}

/** Both hide the secrets of both: an error of the one may quote the other. */
function targets(connectionString: string, listenConnectionString: string | undefined) {
  const target = parseConnectionString(connectionString);
  if (listenConnectionString === undefined) return { target, listenTarget: null };
  const listenTarget = parseListenString(listenConnectionString);
  const secrets = [...new Set([...target.secrets, ...listenTarget.secrets])];
  return { target: { ...target, secrets }, listenTarget: { ...listenTarget, secrets } };
}

function parseListenString(text: string): ConnectionTarget {
  try {
    return parseConnectionString(text);
  } catch (error) {
    if (error instanceof PostgresInputError) error.message = `listenConnectionString: ${error.message}`;
    throw error;
  }
}

/** @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation. */
export function parseHandleOptions(options: unknown): HandleSettings {
  const problems: string[] = [];
  const settings = check('handle', handleSchema, options, problems);
  if (settings !== undefined) return settings;
  throw invalid(['Please correct the options of handle():', ...problems]);
}

/** @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation. */
export function parseProcessOptions(handler: unknown, options: unknown): ProcessSettings {
  const problems: string[] = [];
  if (typeof handler !== 'function') problems.push('handler: must be a function');
  const settings = check('process', processSchema, options, problems);
  if (settings !== undefined && problems.length === 0) return settings;
  throw invalid(['Please correct the arguments of process():', ...problems]);
}

/** @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation. */
export function parseNackOptions(options: unknown): z.output<typeof nackSchema> {
  const problems: string[] = [];
  const settings = check('nack', nackSchema, options, problems);
  if (settings !== undefined) return settings;
  throw invalid(['Please correct the options of nack():', ...problems]);
}

/** @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation. */
export function parseParkedOptions(options: unknown): z.output<typeof parkedSchema> {
  const problems: string[] = [];
  const settings = check('parked', parkedSchema, options, problems);
  if (settings !== undefined) return settings;
  throw invalid(['Please correct the options of parked():', ...problems]);
}

/** @throws PostgresInputError `ERR_CONFIG_INVALID`, listing every violation. */
export function parseBackfillOptions(options: unknown): z.output<typeof backfillSchema> {
  const problems: string[] = [];
  const settings = check('backfill', backfillSchema, options, problems);
  if (settings !== undefined) return settings;
  throw invalid(['Please correct the options of backfill():', ...problems]);
}

// The error has no cause: the list says it all, and zod's error could one day hold the connection string.
const invalid = (lines: string[]): PostgresInputError =>
  new PostgresInputError('ERR_CONFIG_INVALID', lines.join('\n- '));

function check<Output>(root: string, schema: z.ZodType<Output>, value: unknown, problems: string[]) {
  const { data, error } = schema.safeParse(value);
  for (const { path, message } of error?.issues ?? [])
    problems.push(`${[root, ...path].join('.')}: ${message}`);
  return data;
}

function withOurSpelling(config: unknown, problems: string[]): unknown {
  if (typeof config !== 'object' || config === null) return config;
  const unified: Record<string, unknown> = { ...config };
  for (const [theirs, ours] of SPELLINGS) {
    if (unified[theirs] === undefined) continue;
    if (unified[ours] !== undefined && !isDeepStrictEqual(unified[ours], unified[theirs])) {
      problems.push(`config.${theirs}: differs from ${ours}, which means the same: keep one of them`);
    }
    unified[ours] ??= unified[theirs];
  }
  return unified;
}
