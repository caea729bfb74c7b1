/** The DDL text of a function of ours: all of them run as their owner, under a fixed search_path. */

export interface FunctionText {
  readonly name: string;
  /** The name, quoted, with its arguments. */
  readonly signature: string;
  readonly returns: string;
  readonly language: 'plpgsql' | 'sql';
  readonly body: string;
  /** Settings for the time of a call, as pg_proc.proconfig spells them. */
  readonly settings: readonly string[];
}

export const SEARCH_PATH = 'search_path=pg_catalog, pg_temp';

export const createFunction = (f: FunctionText): string[] => [
  `CREATE OR REPLACE FUNCTION ${f.signature} RETURNS ${f.returns} LANGUAGE ${f.language} SECURITY DEFINER
${f.settings.map((setting) => `SET ${setting.replace('=', ' = ')}`).join('\n')}
AS ${dollarQuote(f.body)}`,
  `REVOKE ALL ON FUNCTION ${f.signature} FROM PUBLIC`,
];

/** The body between dollar quotes that it does not contain. */
function dollarQuote(body: string): string {
  let tag = '$body$';
  for (let n = 1; body.includes(tag); n++) tag = `$body${n}$`;
  return `${tag}${body}${tag}`;
}
