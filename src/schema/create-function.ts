/** The DDL text of a function of ours: all of them run as their owner, under a fixed search_path. */
import { quoteIdentifier, quoteLiteral } from '../postgres/quoting.ts';
import { VERSION, versionLine } from './migrations.ts';

export interface FunctionText {
  /** The id of the input that it belongs to. */
  readonly input: string;
  readonly name: string;
  /** The name, quoted, with its arguments. */
  readonly signature: string;
  readonly returns: string;
  readonly language: 'plpgsql' | 'sql';
  /** Default: VOLATILE. */
  readonly volatility?: 'IMMUTABLE' | 'STABLE';
  readonly body: string;
  /** Settings for the time of a call, as pg_proc.proconfig spells them. */
  readonly settings: readonly string[];
}

/**
 * What the server keeps of a function: its body, under a line that says which version of this package made it, and for which
 * input. The id is JSON, since it may hold line breaks.
 */
export const sourceOf = (f: FunctionText): string =>
  `\n${versionLine(VERSION)}, input ${JSON.stringify(f.input)}\n${f.body.replace(/^\n/, '')}`;

/** SQL: the id in the first line of a function's source, as JSON; NULL for a function of version 1, or of somebody else. */
export const inputOf = (source: string): string =>
  `substring(split_part(ltrim(${source}, E'\\n'), E'\\n', 1), '^-- dapper-postgres-input, version [0-9]+, input (".*")$')`;

export const SEARCH_PATH = 'search_path=pg_catalog, pg_temp';

/** Pins how values are printed, where their types depend on settings. */
export const PRINTING = [
  'DateStyle=ISO',
  'IntervalStyle=postgres',
  'TimeZone=UTC',
  'bytea_output=hex',
  'extra_float_digits=1',
  'lc_monetary=C',
  'quote_all_identifiers=off',
];

/** Leaves owner and rights as they are. Unlike the other statements it locks nothing, however many functions are replaced. */
export const replaceFunction = (f: FunctionText): string =>
  `CREATE OR REPLACE FUNCTION ${f.signature} RETURNS ${f.returns} LANGUAGE ${f.language} ${f.volatility ?? 'VOLATILE'} SECURITY DEFINER
${f.settings.map(setting).join('\n')}
AS ${dollarQuote(sourceOf(f))}`;

/** `owner` is the role that is to own the function; null for the role that runs the statements. */
export const createFunction = (f: FunctionText, owner: string | null): string[] => [
  replaceFunction(f),
  `REVOKE ALL ON FUNCTION ${f.signature} FROM PUBLIC`,
  ...(owner === null ? [] : [`ALTER FUNCTION ${f.signature} OWNER TO ${quoteIdentifier(owner)}`]),
];

/** Quotes each value of a list, not the list. PostgreSQL would turn unquoted values into lower case. */
function setting(text: string): string {
  const [name, values] = text.split('=') as [string, string];
  return `SET ${name} = ${values.split(', ').map(quoteLiteral).join(', ')}`;
}

/** The body between dollar quotes that it does not contain. */
function dollarQuote(body: string): string {
  let tag = '$body$';
  for (let n = 1; body.includes(tag); n++) tag = `$body${n}$`;
  return `${tag}${body}${tag}`;
}
