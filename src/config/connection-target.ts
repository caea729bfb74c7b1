/**
 * Makes pg's configs of the keywords of a connection string, by the rules of
 * https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS. What is not given is left to
 * pg's defaults: localhost, port 5432, the user of the process, and no TLS.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { ClientConfig } from 'pg';
import { PostgresInputError } from '../api/errors.ts';

const TARGET_SESSION_ATTRS = [
  'any',
  'read-write',
  'read-only',
  'primary',
  'standby',
  'prefer-standby',
] as const;
type TargetSessionAttrs = (typeof TARGET_SESSION_ATTRS)[number];

/** Where a connection string leads, and how to connect there. */
export interface ConnectionTarget {
  /**
   * pg's configs, in the order to try: one per host, or two where `sslmode` is `allow` or `prefer`, because pg can't fall
   * back from one to the other by itself. A password is a function, so that a printed candidate does not show it.
   */
  readonly candidates: readonly ClientConfig[];
  /** The kind of server that is wanted. Default: `any`. */
  readonly targetSessionAttrs: TargetSessionAttrs;
  /** `connect_timeout`, in milliseconds. Absent if none was given, or 0. */
  readonly connectTimeout?: number;
  /** The texts that must never be shown: passwords, decoded and as they were written. */
  readonly secrets: readonly string[];
}

/** Keywords and their values, none of them empty: to libpq, an empty one is not given. */
export type Keywords = ReadonlyMap<string, string>;

const words = (text: string): ReadonlySet<string> => new Set(text.split(/\s+/));

const HONOURED = words(`host hostaddr port user password dbname connect_timeout application_name
  fallback_application_name options target_session_attrs keepalives keepalives_idle sslmode sslrootcert sslcert
  sslkey sslpassword sslnegotiation ssl_min_protocol_version ssl_max_protocol_version`);

/** Keywords that only tune, or ask for what pg does anyway. With the value `require` they are refused. */
const IGNORED =
  words(`client_encoding keepalives_interval keepalives_count tcp_user_timeout load_balance_hosts
  sslcompression sslcertmode sslsni channel_binding gssencmode gssdelegation gsslib krbsrvname
  min_protocol_version max_protocol_version`);

/** Without these keywords, the connection would go elsewhere, be somebody else's, or be less safe than was asked for. */
const UNSUPPORTED = words(`service servicefile passfile replication requirepeer require_auth sslcrl sslcrldir
  sslkeylogfile scram_client_key scram_server_key oauth_issuer oauth_client_id oauth_client_secret oauth_scope`);

/** An `ERR_CONNECTION_STRING`. The problem must show no value of the string. */
export function invalid(problem: string, cause?: unknown): PostgresInputError {
  return new PostgresInputError('ERR_CONNECTION_STRING', `The connection string ${problem}`, { cause });
}

/** Whether libpq knows the keyword. Throws if this package can't do what the keyword asks for. */
export function isKeyword(keyword: string, value: string): boolean {
  if (UNSUPPORTED.has(keyword))
    throw invalid(`has the keyword ${keyword}, which is not supported: remove it`);
  if (IGNORED.has(keyword) && value === 'require') {
    throw invalid(`has ${keyword}=require, which pg can't promise: remove it`);
  }
  return HONOURED.has(keyword) || IGNORED.has(keyword);
}

export function connectionTarget(given: Keywords, secrets: readonly string[]): ConnectionTarget {
  const connectTimeout = wholeNumber(given, 'connect_timeout') ?? 0;
  return {
    candidates: candidates(given),
    targetSessionAttrs: oneOf(given, 'target_session_attrs', TARGET_SESSION_ATTRS) ?? 'any',
    ...(connectTimeout > 0 && { connectTimeout: Math.min(connectTimeout * 1000, 2 ** 31 - 1) }),
    secrets,
  };
}

function candidates(given: Keywords): ClientConfig[] {
  const password = given.get('password');
  const keepalives = wholeNumber(given, 'keepalives');
  const idle = wholeNumber(given, 'keepalives_idle');
  const common: ClientConfig = {
    user: given.get('user'),
    password: password === undefined ? undefined : () => password,
    database: given.get('dbname'),
    application_name: given.get('application_name'),
    fallback_application_name: given.get('fallback_application_name'),
    options: given.get('options'),
    keepAlive: keepalives === undefined ? undefined : keepalives !== 0,
    keepAliveInitialDelayMillis: idle === undefined ? undefined : idle * 1000,
  };
  const encryption = encryptions(given);
  const direct = oneOf(given, 'sslnegotiation', ['postgres', 'direct']) === 'direct';
  if (direct && !encryption.every(Boolean))
    throw invalid('needs sslmode=require or stricter for sslnegotiation=direct');

  return servers(given).flatMap(({ host, servername, port }) =>
    // A Unix socket is never encrypted, as in libpq.
    (host?.startsWith('/') ? [false as const] : encryption).map((ssl) => ({
      ...common,
      host,
      port,
      ssl: ssl && servername ? { ...ssl, servername } : ssl,
      // Not left out where it is the default: pg would read PGSSLNEGOTIATION.
      sslnegotiation: direct ? (ssl ? 'direct' : 'postgres') : undefined,
    })),
  );
}

/** https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-MULTIPLE-HOSTS */
function servers(given: Keywords) {
  const list = (keyword: string) => given.get(keyword)?.split(',');
  const hosts = list('host') ?? [];
  const addresses = list('hostaddr') ?? hosts;
  const ports = (list('port') ?? ['']).map(portNumber);
  const count = Math.max(addresses.length, 1);
  if (hosts.length > 0 && hosts.length !== count)
    throw invalid('needs as many entries in hostaddr as in host');
  if (ports.length > 1 && ports.length !== count)
    throw invalid('needs one port, or as many as there are hosts');

  return Array.from({ length: count }, (_, n) => {
    const host = hosts[n] || undefined;
    const address = addresses[n] || host;
    // The certificate is issued for the name, also where an address makes looking it up unnecessary.
    const servername = host !== address && host !== undefined && isIP(host) === 0 ? host : undefined;
    return { host: address, servername, port: ports.length > 1 ? ports[n] : ports[0] };
  });
}

function portNumber(text: string): number | undefined {
  if (text === '') return undefined;
  const port = Number(/^\s*(\d+)\s*$/.exec(text)?.[1]);
  if (port >= 1 && port <= 65535) return port;
  throw invalid('has a port that is not from 1 to 65535; in a URL, percent-encode "/" and "?" in a password');
}

const SSL_MODES = ['disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify'] as const;
const TLS_VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;

/**
 * What to try, in this order: TLS options, `false` for none, `undefined` for pg's default, which is none. `sslmode` means
 * what it means to libpq (https://www.postgresql.org/docs/current/libpq-ssl.html), with these differences: `no-verify` is
 * pg's and verifies nothing; without `sslmode`, a certificate or key stands for `verify-full`, so that nobody loses
 * verification by accident; without `sslrootcert`, `verify-full` trusts whom Node.js trusts.
 */
function encryptions(given: Keywords): (ConnectionOptions | false | undefined)[] {
  const files = ['sslrootcert', 'sslcert', 'sslkey'].some((keyword) => given.has(keyword));
  const mode = oneOf(given, 'sslmode', SSL_MODES) ?? (files ? 'verify-full' : undefined);
  if (mode === undefined) return [undefined];
  if (mode === 'disable') return [false];

  const system = given.get('sslrootcert') === 'system';
  if (system && mode !== 'verify-full') throw invalid('needs sslmode=verify-full for sslrootcert=system');
  if (given.has('sslcert') !== given.has('sslkey'))
    throw invalid('needs both sslcert and sslkey, or neither');
  const ca = system ? undefined : file(given, 'sslrootcert');
  const options: ConnectionOptions = {
    ca,
    cert: file(given, 'sslcert'),
    key: file(given, 'sslkey'),
    passphrase: given.get('sslpassword'),
    minVersion: oneOf(given, 'ssl_min_protocol_version', TLS_VERSIONS),
    maxVersion: oneOf(given, 'ssl_max_protocol_version', TLS_VERSIONS),
  };

  if (mode === 'verify-full') return [options];
  if (mode === 'verify-ca' && ca === undefined) {
    throw invalid('needs sslrootcert for sslmode=verify-ca: a public authority certifies anybody');
  }
  // libpq always verifies against a root certificate that is given. Only verify-full looks at the name as well.
  const encrypted: ConnectionOptions =
    ca === undefined || mode === 'no-verify'
      ? { ...options, rejectUnauthorized: false }
      : { ...options, checkServerIdentity: () => undefined };
  if (mode === 'prefer') return [encrypted, false];
  return mode === 'allow' ? [false, encrypted] : [encrypted];
}

function file(given: Keywords, keyword: string): string | undefined {
  const path = given.get(keyword);
  try {
    return path === undefined ? undefined : readFileSync(path, 'utf8');
  } catch (cause) {
    throw invalid(`names a file in ${keyword} that can't be read: ${path}`, cause);
  }
}

function oneOf<Value extends string>(
  given: Keywords,
  keyword: string,
  values: readonly Value[],
): Value | undefined {
  const text = given.get(keyword);
  const value = values.find((value) => value === text);
  if (text !== undefined && value === undefined)
    throw invalid(`needs one of these for ${keyword}: ${values.join(', ')}`);
  return value;
}

function wholeNumber(given: Keywords, keyword: string): number | undefined {
  const text = given.get(keyword)?.trim();
  if (text !== undefined && !/^[+-]?\d{1,9}$/.test(text))
    throw invalid(`needs a whole number for ${keyword}`);
  return text === undefined ? undefined : Number(text);
}
