/**
 * Reads both forms of a PostgreSQL connection string, a URL and keyword/value pairs, by the rules of
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING. pg's own parser knows no keyword/value
 * pairs and no lists of hosts, and gives `sslmode` other meanings.
 *
 * No message shows a value or an unknown keyword: after a forgotten quote or percent sign, the rest of a password would
 * be taken for a port or a keyword.
 */
import { PostgresInputError } from '../api/errors.ts';
import { connectionTarget, invalid, isKeyword, type ConnectionTarget } from './connection-target.ts';
import { fromEnvironment } from './environment.ts';

export type { ConnectionTarget } from './connection-target.ts';

interface Parameter {
  keyword: string;
  value: string;
  /** The value as it was written. */
  raw: string;
  /** Where the keyword begins, counted from 1. */
  at?: number;
}

/**
 * Parses `postgres://` and `postgresql://` URLs, and keyword/value pairs (`host=... dbname='with space'`). What the text
 * does not say is taken from the environment.
 *
 * @throws PostgresInputError `ERR_CONNECTION_STRING`, naming the keyword or the position.
 */
export function parseConnectionString(text: string): ConnectionTarget {
  const trimmed = text.trim();
  if (trimmed === '') throw invalid('is empty: give a postgres:// URL or keyword=value pairs');

  const given = new Map<string, string>();
  const secrets = new Set<string>();
  const isUrl = /^postgres(ql)?:\/\//.test(trimmed);
  const parameters = isUrl ? fromUrl(trimmed) : fromPairs(text);
  for (const { keyword, value, raw, at } of parameters) {
    if (!isKeyword(keyword, value)) {
      const rule = isUrl
        ? 'remove the parameter, which only another tool can read, as pgbouncer or schema; in a password, percent-encode "?" and "&"'
        : String.raw`a password with spaces or quotes must be quoted, as in 'it\'s'`;
      throw invalid(`has an unknown keyword at character ${at}: ${rule}`);
    }
    if (value.includes('\0')) throw invalid(`has a NUL in ${keyword}`);
    if (value === '') given.delete(keyword);
    else given.set(keyword, value);
    if (keyword.endsWith('password')) secrets.add(value).add(raw);
  }
  secrets.add(process.env['PGPASSWORD'] ?? '').delete('');

  const variables: string[] = [];
  try {
    for (const { variable, keyword, value } of fromEnvironment()) {
      if (given.has(keyword)) continue;
      variables.push(variable);
      if (isKeyword(keyword, value)) given.set(keyword, value);
    }
    return connectionTarget(given, [...secrets]);
  } catch (error) {
    if (variables.length > 0 && error instanceof PostgresInputError)
      error.message += ` (these environment variables add to it: ${variables.join(', ')})`;
    throw error;
  }
}

/** Takes a URL apart. WHATWG's URL knows one host only. A raw `@` may stand in the password. */
function* fromUrl(text: string): Generator<Parameter> {
  const [, userinfo, hosts = '', path = '', query = ''] =
    /^\w+:\/\/(?:([^/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?([^]*))?$/.exec(text) ?? [];
  if (path.includes('@'))
    throw invalid('has a "@" after a "/": percent-encode both in user name and password');

  const parameter = (keyword: string, raw: string): Parameter => {
    try {
      return { keyword: decodeURIComponent(keyword), value: decodeURIComponent(raw), raw };
    } catch {
      throw invalid('has a "%" that begins no percent-encoded character: write it as %25');
    }
  };
  const [, user = '', password = ''] = /^([^:]*):?([^]*)$/.exec(userinfo ?? '') ?? [];
  yield parameter('user', user);
  yield parameter('password', password);

  const servers = hosts.split(',').map((server) => {
    const [match, address, name = '', port = ''] =
      /^(?:\[([^\]]*)\]|([^:[]*))(?::([^]*))?$/.exec(server) ?? [];
    if (match === undefined) throw invalid('has a host that is neither name:port nor [IPv6 address]:port');
    return { host: address ?? name, port };
  });
  yield parameter('host', servers.map(({ host }) => host).join(','));
  if (servers.some(({ port }) => port !== ''))
    yield parameter('port', servers.map(({ port }) => port).join(','));
  yield parameter('dbname', path);

  for (const { 0: pair, index } of query.matchAll(/[^&]+/g)) {
    const [, keyword = '', raw] = /^([^=]*)(?:=([^]*))?$/.exec(pair) ?? [];
    if (raw === undefined)
      throw invalid('has a parameter without "=" after its "?": percent-encode a "?" in a password');
    const at = text.length - query.length + index + 1;
    // JDBC's spelling, which libpq takes too.
    yield pair === 'ssl=true' ? parameter('sslmode', 'require') : { ...parameter(keyword, raw), at };
  }
}

/** Takes pairs apart. White space is C's, not Unicode's. A backslash takes the next character as it is, quoted or not. */
function* fromPairs(text: string): Generator<Parameter> {
  const key = /[ \t-\r]*([^= \t-\r]+)[ \t-\r]*=[ \t-\r]*/y;
  const quotedOrBare = /'((?:[^'\\]|\\[^])*)'|((?!')(?:[^\\ \t-\r]|\\[^]?)*)/y;
  for (let at = 0; /[^ \t-\r]/.test(text.slice(at)); at = quotedOrBare.lastIndex) {
    key.lastIndex = at;
    const keyword = key.exec(text)?.[1];
    if (keyword === undefined) {
      const rule = 'a value with spaces needs single quotes, a URL begins with postgres://';
      throw invalid(`has no keyword=value at character ${at + 1}: ${rule}`);
    }
    quotedOrBare.lastIndex = key.lastIndex;
    const [, quoted, bare] = quotedOrBare.exec(text) ?? [];
    const raw = quoted ?? bare;
    if (raw === undefined)
      throw invalid(`has a single quote at character ${key.lastIndex + 1} that is not closed`);
    yield { keyword, value: raw.replace(/\\([^]?)/g, '$1'), raw, at: text.indexOf(keyword, at) + 1 };
  }
}
