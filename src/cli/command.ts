/** The parts of a command, the arguments of its `run`, and the exit codes. */
import type { COMMON, Options, Values } from './options.ts';
import type { Io } from './output.ts';

/** The exit codes that scripts can rely on. */
export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  /** The command has done its work, and the user should look after something. */
  problems: 3,
} as const;

export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

export interface Command<Own extends Options = Options> {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The text below the summary in the command's own help, in lines of at most 100 characters. */
  readonly details: string;
  /** The options that this command has beside the common ones. */
  readonly options: Own;
  /** The command makes an input of its own, or looks at every input: a config file tells where to connect, and no more. */
  readonly ownInput?: boolean;
  run(call: Call<Own>): Promise<ExitCode>;
}

/** The arguments of a command that has the options `Own` beside the common ones. */
export interface Call<Own extends Options = typeof COMMON> {
  readonly values: Values<Own>;
  readonly connectionString: string;
  readonly io: Io;
}

/** Types the values that `run` is given by the command's own table of options. */
export const command = <const Own extends Options>(definition: Command<Own>): Command<Own> => definition;
