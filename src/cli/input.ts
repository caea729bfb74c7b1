/** The input that a command line names, and the sessions in which a command works on the input. */
import type { OptionDifference } from '../api/installation.ts';
import { type Settings, parseConfig } from '../config/settings.ts';
import { sessionOptions } from '../node/connect.ts';
import { Session } from '../postgres/session.ts';
import { type Catalog, readCatalog } from '../schema/catalog.ts';
import { VERSION } from '../schema/migrations.ts';
import { type Names, namesOf } from '../schema/names.ts';
import {
  type StoredOptions,
  differences as differencesOf,
  keptOptions,
  optionsOf,
  withStoredOptions,
} from '../schema/stored-options.ts';
import type { Call } from './command.ts';
import { UsageError } from './options.ts';
import { type Io, printable } from './output.ts';

/** The input as far as the command line describes it. That is enough to connect. */
export interface GivenInput {
  /** The values of the command line, with the defaults of everything that was not given. */
  readonly settings: Settings;
  readonly names: Names;
  /** The options that the command line gives, of those that the database keeps. */
  readonly given: ReadonlySet<keyof StoredOptions>;
  readonly io: Io;
}

/**
 * The input in its database, with everything that plans and installations take. Options that were not given are those under
 * which the input was installed. They have their defaults if the database keeps none, as in version 1.
 */
export interface ConnectedInput extends Pick<GivenInput, 'settings' | 'names'> {
  readonly session: Session;
  readonly catalog: Catalog;
  /** The options under which the input was installed and for which the command line gives another value. */
  readonly differences: readonly OptionDifference[];
}

/** In milliseconds. This is more than a node gives itself: a person would rather wait than try again. */
const CONNECT_TIMEOUT = 5000;

/** For one statement, in milliseconds. A person is waiting, and no lease depends on the answer. */
const STATEMENT_TIMEOUT = 60_000;

/** The stored options, and how the command line spells them. */
const SPELLINGS = [
  ['schemas', 'schemas'],
  ['include', 'include'],
  ['exclude', 'exclude'],
  ['operations', 'operation'],
  ['rows', 'rows'],
  ['maxRowBytes', 'max-row-bytes'],
  ['notifications', 'notifications'],
] as const;

/** @throws {UsageError | PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECTION_STRING */
export function givenInput({ values, connectionString, io }: Call, name = values.name): GivenInput {
  if (name === undefined) throw new UsageError("--name is missing: the input's name, as its nodes have it");
  const settings = parseConfig(
    { name, type: 'postgres', connectionString, operations: values.operation },
    {
      schemas: values.schemas,
      tables: { include: values.include, exclude: values.exclude },
      internalSchema: values['internal-schema'],
      rows: values.rows,
      maxRowBytes: values['max-row-bytes'] && Number(values['max-row-bytes']),
      notifications: values.notifications,
      wakeup: values.wakeup,
      lockTimeout: values['lock-timeout'] && Number(values['lock-timeout']),
    },
  );
  return {
    settings: { ...settings, connectTimeout: settings.target.connectTimeout ?? CONNECT_TIMEOUT },
    names: namesOf(settings.id, settings.internalSchema),
    given: new Set(
      SPELLINGS.filter(([, spelling]) => values[spelling] !== undefined).map(([option]) => option),
    ),
    io,
  };
}

/**
 * For a command that works on every input of the database: an option that describes one would be ignored.
 * @throws {UsageError}
 */
export function refuseInputOptions(values: Call['values'], message: (option: string) => string): void {
  const options = [
    'name',
    'schemas',
    'include',
    'exclude',
    'operation',
    'rows',
    'max-row-bytes',
    'notifications',
    'internal-schema',
    'lock-timeout',
  ] as const;
  const one = options.find((option) => values[option] !== undefined);
  if (one !== undefined) throw new UsageError(message(`--${one}`));
}

/** Runs `task` on a connection of its own. */
export async function inSession<Result>(
  settings: Settings,
  task: (session: Session) => Promise<Result>,
): Promise<Result> {
  const options = { ...sessionOptions(settings), statementTimeout: STATEMENT_TIMEOUT };
  const session = await Session.connect(settings.target, options);
  try {
    return await task(session);
  } finally {
    await session.close();
  }
}

/** Runs `task` on the input as its database knows it, and tells on the standard error where the command line says otherwise. */
export const onInput = <Result>(
  { settings, names, given, io }: GivenInput,
  task: (input: ConnectedInput) => Promise<Result>,
): Promise<Result> =>
  inSession(settings, async (session) => {
    const catalog = await readCatalog(session, names);
    const { version, options, optionsAreHidden } = catalog;
    // A newer version may keep options that mean something else; it is refused wherever they would matter.
    const stored = (version ?? 0) > VERSION ? null : options;
    const completed = stored ? withStoredOptions(settings, stored, given) : settings;
    const differences = differencesOf(stored, optionsOf(completed));
    const say = (text: string) => io.stderr.write(`dapper-postgres-input: ${printable(text)}\n`);
    for (const { option, installed, wanted } of differences)
      say(
        `input ${names.id} was installed with ${spelt(option, installed)}, and here it is ${spelt(option, wanted)}`,
      );
    if (version === VERSION && optionsAreHidden && given.size < SPELLINGS.length)
      say(
        `this role may not read the options of input ${names.id}: those that are not given have their defaults`,
      );
    return task({ session, settings: completed, names, catalog, differences });
  });

/** The same for a command to which an input that is not there is a mistake: its name may be mistyped. */
export const onInstalledInput = <Result>(
  given: GivenInput,
  task: (input: ConnectedInput) => Promise<Result>,
): Promise<Result> =>
  onInput(given, (input) => {
    if (input.catalog.tables.length === 0) throw new Error(`${notInstalled(given.names)}: run install`);
    return task(input);
  });

export const notInstalled = ({ id, schema }: Names): string =>
  `nothing of input ${id} is installed in schema ${schema} of this database`;

/** A stored option as the command line spells it: `--include orders,lines`, or `--include ''`. */
export function spelt(option: string, value: unknown): string {
  const spelling = SPELLINGS.find(([stored]) => stored === option)?.[1] ?? option;
  // What only nodes say is told as JSON.
  const isPlain = [value].flat().every((item) => typeof item !== 'object');
  return `--${spelling} ${(isPlain ? [value].flat().join(',') : JSON.stringify(value)) || "''"}`;
}

/** The stored options that are not empty. */
export const allSpelt = (options: StoredOptions): string => {
  const kept = keptOptions(options);
  return SPELLINGS.filter(([option]) => [kept[option] ?? []].flat().length > 0)
    .map(([option]) => spelt(option, kept[option]))
    .concat(kept.watch ? [spelt('watch', kept.watch)] : [])
    .join(' ');
};
