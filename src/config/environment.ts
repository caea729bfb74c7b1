/**
 * libpq's environment variables (https://www.postgresql.org/docs/current/libpq-envars.html), each of which stands for a
 * keyword that the connection string does not give. They are read here and not by pg, which gives PGSSLMODE other
 * meanings and knows fewer of them.
 *
 * PGPASSFILE is read by pg, where no password is given. All other variables are ignored.
 */
const KEYWORDS: Readonly<Record<string, string>> = {
  PGHOST: 'host',
  PGHOSTADDR: 'hostaddr',
  PGPORT: 'port',
  PGDATABASE: 'dbname',
  PGUSER: 'user',
  PGPASSWORD: 'password',
  PGOPTIONS: 'options',
  PGAPPNAME: 'application_name',
  PGCONNECT_TIMEOUT: 'connect_timeout',
  PGTARGETSESSIONATTRS: 'target_session_attrs',
  PGSSLMODE: 'sslmode',
  PGSSLROOTCERT: 'sslrootcert',
  PGSSLCERT: 'sslcert',
  PGSSLKEY: 'sslkey',
  PGSSLNEGOTIATION: 'sslnegotiation',
  PGSSLMINPROTOCOLVERSION: 'ssl_min_protocol_version',
  PGSSLMAXPROTOCOLVERSION: 'ssl_max_protocol_version',
  // To ignore these would be to connect less safely than was asked for. What they ask for is refused, as in the string.
  PGCHANNELBINDING: 'channel_binding',
  PGGSSENCMODE: 'gssencmode',
  PGREQUIREAUTH: 'require_auth',
  PGREQUIREPEER: 'requirepeer',
  PGSSLCRL: 'sslcrl',
  PGSSLCRLDIR: 'sslcrldir',
};

/** The variables that are set, and not to the empty text, which to libpq is none. */
export function* fromEnvironment(): Generator<{ variable: string; keyword: string; value: string }> {
  for (const [variable, keyword] of Object.entries(KEYWORDS)) {
    const value = process.env[variable];
    if (value) yield { variable, keyword, value };
  }
}
