/** The input that a command line names, and the sessions in which a command works on the input. */
import { type Settings, parseConfig } from '../config/settings.ts';
import { sessionOptions } from '../node/connect.ts';
import { Session } from '../postgres/session.ts';
import { type Names, namesOf } from '../schema/names.ts';
import type { Call } from './command.ts';
import { UsageError } from './options.ts';

/** The input as far as the command line describes it. That is enough to connect. */
export interface GivenInput {
  /** The values of the command line, with the defaults of everything that was not given. */
  readonly settings: Settings;
  readonly names: Names;
}

/** The input in its database, with everything that plans and installations take. */
export interface ConnectedInput extends GivenInput {
  readonly session: Session;
}

/** In milliseconds. This is more than a node gives itself: a person would rather wait than try again. */
const CONNECT_TIMEOUT = 5000;

/** For one statement, in milliseconds. A person is waiting, and no lease depends on the answer. */
const STATEMENT_TIMEOUT = 60_000;

/** @throws {UsageError | PostgresInputError} ERR_CONFIG_INVALID, ERR_CONNECTION_STRING */
export function givenInput({ values, connectionString }: Call, name = values.name): GivenInput {
  if (name === undefined) throw new UsageError("--name is missing: the input's name, as its nodes have it");
  const settings = parseConfig(
    { name, type: 'postgres', connectionString, operations: values.operation },
    {
      schemas: values.schemas,
      tables: { include: values.include, exclude: values.exclude },
      internalSchema: values['internal-schema'],
      lockTimeout: values['lock-timeout'] && Number(values['lock-timeout']),
    },
  );
  return {
    settings: { ...settings, connectTimeout: settings.target.connectTimeout ?? CONNECT_TIMEOUT },
    names: namesOf(settings.id, settings.internalSchema),
  };
}

/** Runs `task` on a connection of its own. Plans and installations take their settings from the connected input. */
export async function inSession<Result>(
  { settings, names }: GivenInput,
  task: (input: ConnectedInput) => Promise<Result>,
): Promise<Result> {
  const options = { ...sessionOptions(settings), statementTimeout: STATEMENT_TIMEOUT };
  const session = await Session.connect(settings.target, options);
  try {
    return await task({ session, settings, names });
  } finally {
    await session.close();
  }
}
