/** The texts of --help, made of the commands' own descriptions and of the tables of options. */
import type { Command } from './command.ts';
import { COMMON, type Options } from './options.ts';

const PROGRAM = 'dapper-postgres-input';

export const helpOfAll = (commands: Readonly<Record<string, Command>>): string => `\
Watches a PostgreSQL database: every row change becomes one event.

Usage: ${PROGRAM} <command> --name NAME [options]

Commands:
${columns(10, [
  ...Object.entries(commands).map(([name, { summary }]) => [name, summary] as const),
  ['completion', 'print a script by which a shell completes commands and options: bash or zsh'],
])}

${optionsOfEveryCommand}
${columns(OPTION_WIDTH, [['--version', 'the version of this package']])}

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 done, but there is something to look after (doctor found
problems, install or migrate had to leave something out, status could not read something, list found old
changes that no node takes).

eval "$(${PROGRAM} completion bash)" in ~/.bashrc has commands and options completed; zsh has the same.

${PROGRAM} <command> --help tells more about a command.
`;

export const helpOf = (name: string, { summary, details, options }: Command): string => `\
${PROGRAM} ${name}: ${summary}.

${details}

${Object.keys(options).length > 0 ? `Options:\n${optionColumns(options)}\n\n` : ''}${optionsOfEveryCommand}
`;

const OPTION_WIDTH = 24;

const optionColumns = (options: Options): string =>
  columns(
    OPTION_WIDTH,
    Object.entries(options).map(([name, { short, value, help }]) => [
      `--${name}${short === undefined ? '' : `, -${short}`}${value === undefined ? '' : ` ${value}`}`,
      help,
    ]),
  );

const optionsOfEveryCommand = `Options of every command (a LIST is separated by commas, or the option repeated):\n${optionColumns(COMMON)}`;

/** Rows of a left column, `width` characters wide, and a text of one line or more. */
function columns(width: number, rows: readonly (readonly [string, string])[]): string {
  const indent = ' '.repeat(width + 4);
  return rows
    .map(([left, right]) => `  ${left.padEnd(width)}  ${right.replaceAll('\n', `\n${indent}`)}`)
    .join('\n');
}
