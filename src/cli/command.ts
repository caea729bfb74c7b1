/** What every command is made of, and what it is called with. */
import type { Settings } from '../config/settings.ts';
import { sessionOptions } from '../node/connect.ts';
import { Session } from '../postgres/session.ts';
import type { Names } from '../schema/names.ts';
import type { Options, Values } from './options.ts';

/** What scripts can rely on. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** It was done, and there is something to look after. */
  problems: 3,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  /** What else there is to say, in lines of at most 100 characters. */
  readonly details: string;
  /** The options that this command alone has. */
  readonly options: Options;
  /** The input's name if none is given. Absent: one has to be given. */
  readonly defaultName?: () => string;
  run(call: Call): Promise<ExitCode>;
}

export interface Call {
  readonly settings: Settings;
  readonly names: Names;
  readonly values: Values;
  readonly io: Io;
}

/** Where a command writes to; `process` is one. */
export interface Io {
  readonly stdout: Output;
  readonly stderr: Output;
  readonly env: NodeJS.ProcessEnv;
}

export type Output = NodeJS.WritableStream & { hasColors?: () => boolean; writableLength?: number };

/** The command line asks for what there is not. */
export class UsageError extends Error {}

/** For one statement, in milliseconds: a person is waiting, and not a lease. */
const STATEMENT_TIMEOUT = 60_000;

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
