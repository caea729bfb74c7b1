/** Scripts by which a shell completes commands, options and some of their values, made of the tables of options. */
import type { Command } from './command.ts';
import { COMMON, type Option, type Options, UsageError } from './options.ts';
import { quotedForShell } from './output.ts';

const PROGRAM = 'dapper-postgres-input';
const FUNCTION = '_dapper_postgres_input';

type Commands = Readonly<Record<string, Pick<Command, 'summary' | 'options'>>>;

const SHELLS = { bash, zsh } as const;

/** @throws {UsageError} */
export function completion(args: readonly string[], commands: Commands): string {
  const [shell = '', ...rest] = args;
  if (!Object.hasOwn(SHELLS, shell) || rest.length > 0)
    throw new UsageError(`completion takes the name of a shell: ${Object.keys(SHELLS).join(' or ')}`);
  return SHELLS[shell as keyof typeof SHELLS](commands);
}

const optionsOf = ({ options }: Commands[string]): Options => ({ ...options, ...COMMON });

function bash(commands: Commands): string {
  const words = Object.entries(commands).map(([name, command]) => {
    const options = Object.keys(optionsOf(command)).map((option) => `--${option}`);
    return `    ${name}) words='${options.join(' ')}' ;;`;
  });
  const all: Options = Object.assign({}, ...Object.values(commands).map(optionsOf));
  const valued = Object.entries(all).filter(([, { type }]) => type === 'string');
  const free = valued.filter(([, { completes }]) => !completes).map(([option]) => `--${option}`);
  const known = valued
    .filter(([, { completes }]) => completes)
    .map(([option, { completes }]) => {
      const matches = completes === 'file' ? '-f' : `-W '${completes!.join(' ')}'`;
      return `    --${option}) COMPREPLY=($(compgen ${matches} -- "$word")); return ;;`;
    });
  return `\
# In ~/.bashrc: eval "$(${PROGRAM} completion bash)"
${FUNCTION}() {
  local word=\${COMP_WORDS[COMP_CWORD]} words=''
  COMPREPLY=()
  case \${COMP_WORDS[COMP_CWORD - 1]} in
${known.join('\n')}
    ${free.join(' | ')}) return ;;
  esac
  case \${COMP_WORDS[1]} in
${words.join('\n')}
  esac
  [ "$COMP_CWORD" -gt 1 ] || words='${[...Object.keys(commands), 'completion', '--help', '--version'].join(' ')}'
  [ "$COMP_CWORD" -ne 2 ] || [ "\${COMP_WORDS[1]}" != completion ] || words='${Object.keys(SHELLS).join(' ')}'
  COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -o filenames -F ${FUNCTION} ${PROGRAM}
`;
}

function zsh(commands: Commands): string {
  const summaries = Object.entries(commands).map(
    ([name, { summary }]) => `    ${quotedForShell(`${name}:${summary}`)}`,
  );
  const branches = Object.entries(commands).map(([name, command]) => {
    const specs = Object.entries(optionsOf(command)).map(
      ([option, details]) => `      ${quotedForShell(zshSpec(option, details))}`,
    );
    return `    ${name}) _arguments \\\n${specs.join(' \\\n')} ;;`;
  });
  return `\
#compdef ${PROGRAM}
# In ~/.zshrc, after compinit: eval "$(${PROGRAM} completion zsh)"
${FUNCTION}() {
  local -a commands=(
${summaries.join('\n')}
    'completion:print a script by which a shell completes commands and options'
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
${branches.join('\n')}
    completion) _values shell ${Object.keys(SHELLS).join(' ')} ;;
  esac
}
if [[ $funcstack[1] == ${FUNCTION} ]]; then ${FUNCTION} "$@"; else compdef ${FUNCTION} ${PROGRAM}; fi
`;
}

/** The form that _arguments takes: `*--include[help]:LIST:`. */
function zshSpec(name: string, { type, multiple, value = '', help, completes = [] }: Option): string {
  const text = help.replaceAll('\n', ' ').replaceAll(/[[\]:\\]/g, String.raw`\$&`);
  const flag = `${multiple ? '*' : ''}--${name}[${text}]`;
  if (type === 'boolean') return flag;
  const action = completes === 'file' ? '_files' : completes.length > 0 ? `(${completes.join(' ')})` : '';
  return `${flag}:${value}:${action}`;
}
