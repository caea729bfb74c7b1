import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import pg, { type ClientConfig } from 'pg';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { PostgresInputError } from '../../src/api/errors.ts';
import { parseConnectionString } from '../../src/config/connection-string.ts';

const everything = (value: unknown) => inspect(value, { depth: null, showHidden: true });

/** The candidates with the password readable and without what was not given. */
function candidates(text: string): Record<string, unknown>[] {
  return parseConnectionString(text).candidates.map(({ password, ...config }) => {
    const readable = { ...config, password: typeof password === 'function' ? password() : password };
    return Object.fromEntries(Object.entries(readable).filter(([, value]) => value !== undefined));
  });
}

/** The error that a text is refused with; undefined if it is taken. */
function refusal(text: string): PostgresInputError | undefined {
  try {
    parseConnectionString(text);
    return undefined;
  } catch (error) {
    if (error instanceof PostgresInputError) return error;
    throw error;
  }
}

beforeEach(() => {
  for (const variable of Object.keys(process.env).filter((name) => name.startsWith('PG')))
    vi.stubEnv(variable, undefined);
});
afterEach(() => vi.unstubAllEnvs());

describe('a URL', () => {
  const all = { host: 'h', port: 5433, user: 'u', password: 'p', database: 'd' };
  test.each<[string, ClientConfig[]]>([
    ['postgres://', [{}]],
    ['postgresql://u:p@h:5433/d', [all]],
    ['  postgres://u:p@h:5433/d\n', [all]],
    ['postgres://h', [{ host: 'h' }]],
    ['postgres://h/', [{ host: 'h' }]],
    ['postgres:///d', [{ database: 'd' }]],
    ['postgres://u@/d', [{ user: 'u', database: 'd' }]],
    ['postgres://u:@h', [{ user: 'u', host: 'h' }]],
    ['postgres://:5433', [{ port: 5433 }]],
    ['postgres://h?user=u&password=p&port=5433&dbname=d', [all]],
    ['postgres://x:y@z:1/w?host=h&user=u&password=p&port=5433&dbname=d&', [all]],
    ['postgres://%75:p%40%2F%3a@h/a%20b', [{ user: 'u', password: 'p@/:', host: 'h', database: 'a b' }]],
    ['postgres://u:p@ss:w#rd@h/d', [{ ...all, password: 'p@ss:w#rd', port: undefined }]],
    [
      'postgres://u:a+b@h/d?application_name=x+y',
      [{ ...all, port: undefined, password: 'a+b', application_name: 'x+y' }],
    ],
    ['postgres://u%40server@h', [{ user: 'u@server', host: 'h' }]],
    ['postgres://h?user=u@server', [{ host: 'h', user: 'u@server' }]],
    ['postgres://[::1]:5433/d', [{ host: '::1', port: 5433, database: 'd' }]],
    ['postgres://[fe80::1%25eth0]', [{ host: 'fe80::1%eth0' }]],
    [
      'postgres://h1:1,h2:2/d',
      [
        { host: 'h1', port: 1, database: 'd' },
        { host: 'h2', port: 2, database: 'd' },
      ],
    ],
    ['postgres://h1,[::1]:2', [{ host: 'h1' }, { host: '::1', port: 2 }]],
    [
      'postgres://h1,h2?port=7',
      [
        { host: 'h1', port: 7 },
        { host: 'h2', port: 7 },
      ],
    ],
    ['postgres://%2Fvar%2Frun/d', [{ host: '/var/run', database: 'd', ssl: false }]],
    ['postgres:///d?host=/var/run&port=5433', [{ host: '/var/run', port: 5433, database: 'd', ssl: false }]],
    ['postgres://h?ssl=true', [{ host: 'h', ssl: { rejectUnauthorized: false } }]],
    ['postgres://h?options=-c%20geqo=off', [{ host: 'h', options: '-c geqo=off' }]],
  ])('%j is understood', (text, expected) => {
    expect(candidates(text)).toEqual(expected);
  });
});

describe('keyword/value pairs', () => {
  test.each<[string, ClientConfig[]]>([
    [
      'host=h port=5433 user=u password=p dbname=d',
      [{ host: 'h', port: 5433, user: 'u', password: 'p', database: 'd' }],
    ],
    ['  host = h\n\tuser\f=\vu ', [{ host: 'h', user: 'u' }]],
    [`dbname='with space'host=h`, [{ database: 'with space', host: 'h' }]],
    [`password='it\\'s' user='back\\\\slash'`, [{ password: "it's", user: 'back\\slash' }]],
    [`password=it\\'s\\ a\\\\b user=u`, [{ password: "it's a\\b", user: 'u' }]],
    [`password=mid'dle user=u`, [{ password: "mid'dle", user: 'u' }]],
    [`password='\\x' user=u\\`, [{ password: 'x', user: 'u' }]],
    [`password='' user=''`, [{}]],
    ['user=host=h', [{ user: 'host=h' }]],
    ['user= host=h', [{ user: 'host=h' }]],
    ['user=a user=b', [{ user: 'b' }]],
    ["user=a user=''", [{}]],
    ['user=a\u00a0b', [{ user: 'a\u00a0b' }]],
    ['password=postgres://x', [{ password: 'postgres://x' }]],
    ['host=/tmp', [{ host: '/tmp', ssl: false }]],
    ['host=::1', [{ host: '::1' }]],
    ['host=a,b,c port=1,,3', [{ host: 'a', port: 1 }, { host: 'b' }, { host: 'c', port: 3 }]],
    ['host=a, port=9', [{ host: 'a', port: 9 }, { port: 9 }]],
    ['hostaddr=10.0.0.1', [{ host: '10.0.0.1' }]],
    ['host=a,b hostaddr=10.0.0.1,', [{ host: '10.0.0.1' }, { host: 'b' }]],
    [
      'application_name=a fallback_application_name=b',
      [{ application_name: 'a', fallback_application_name: 'b' }],
    ],
    [`options='-c search_path=x'`, [{ options: '-c search_path=x' }]],
    ['keepalives=1 keepalives_idle=30', [{ keepAlive: true, keepAliveInitialDelayMillis: 30_000 }]],
    ['keepalives=0', [{ keepAlive: false }]],
    ['client_encoding=UTF8 tcp_user_timeout=5 gssencmode=prefer channel_binding=prefer sslsni=1', [{}]],
  ])('%j are understood', (text, expected) => {
    expect(candidates(text)).toEqual(expected);
  });
});

describe('any text survives', () => {
  const text = fc.string({ unit: 'binary', minLength: 1 }).filter((value) => !value.includes('\0'));

  test('quoted in pairs', () => {
    const quote = (value: string) => `'${value.replace(/['\\]/g, '\\$&')}'`;
    fc.assert(
      fc.property(text, text, text, (user, password, database) => {
        const [config] = candidates(
          `user=${quote(user)} password = ${quote(password)}dbname=${quote(database)}`,
        );
        expect(config).toEqual({ user, password, database });
      }),
    );
  });

  test('escaped in pairs', () => {
    const escape = (value: string) => value.replace(/[^\p{L}]/gu, '\\$&');
    fc.assert(
      fc.property(text, text, (user, password) => {
        expect(candidates(`user=${escape(user)} password=${escape(password)}`)).toEqual([{ user, password }]);
      }),
    );
  });

  test('percent-encoded in a URL', () => {
    const encode = encodeURIComponent;
    fc.assert(
      fc.property(text, text, text, text, (user, password, database, application_name) => {
        const url = `postgres://${encode(user)}:${encode(password)}@h/${encode(database)}`;
        const [config] = candidates(`${url}?application_name=${encode(application_name)}`);
        expect(config).toEqual({ host: 'h', user, password, database, application_name });
      }),
    );
  });
});

describe('target_session_attrs and connect_timeout', () => {
  test.each(['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'])(
    '%s is known',
    (value) => {
      expect(parseConnectionString(`target_session_attrs=${value}`).targetSessionAttrs).toBe(value);
      expect(parseConnectionString(`postgres://h?target_session_attrs=${value}`).targetSessionAttrs).toBe(
        value,
      );
    },
  );

  test('default to any server and no timeout', () => {
    expect(parseConnectionString('host=h')).toMatchObject({ targetSessionAttrs: 'any' });
    expect(parseConnectionString('host=h')).not.toHaveProperty('connectTimeout');
  });

  test.each([
    ['2', 2000],
    ["' 10 '", 10_000],
    ['0', undefined],
    ['-1', undefined],
    ['999999999', 2 ** 31 - 1],
  ])('connect_timeout=%s is %s ms', (seconds, connectTimeout) => {
    expect(parseConnectionString(`connect_timeout=${seconds}`).connectTimeout).toBe(connectTimeout);
  });
});

describe('sslmode', () => {
  const folder = mkdtempSync(join(tmpdir(), 'connection-string-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  const file = (name: string) => {
    const path = join(folder, name);
    writeFileSync(path, `the ${name}`);
    return path;
  };
  const [ca, cert, key] = [file('ca'), file('cert'), file('key')];
  const unverified = { rejectUnauthorized: false };
  const chain = { ca: 'the ca', checkServerIdentity: expect.any(Function) };

  test.each<[string, unknown[]]>([
    ['', [undefined]],
    ['sslmode=disable', [false]],
    ['sslmode=allow', [false, unverified]],
    ['sslmode=prefer', [unverified, false]],
    ['sslmode=require', [unverified]],
    ['sslmode=no-verify', [unverified]],
    ['sslmode=verify-full', [{}]],
    [`sslmode=prefer sslrootcert=${ca}`, [chain, false]],
    [`sslmode=require sslrootcert=${ca}`, [chain]],
    [`sslmode=verify-ca sslrootcert=${ca}`, [chain]],
    [`sslmode=verify-full sslrootcert=${ca}`, [{ ca: 'the ca' }]],
    [`sslmode=no-verify sslrootcert=${ca}`, [{ ca: 'the ca', ...unverified }]],
    [`sslrootcert=${ca}`, [{ ca: 'the ca' }]],
    ['sslrootcert=system', [{}]],
    [`sslmode=disable sslrootcert=/nowhere`, [false]],
    [
      `sslmode=require sslcert=${cert} sslkey=${key} sslpassword=k ssl_min_protocol_version=TLSv1.3`,
      [{ cert: 'the cert', key: 'the key', passphrase: 'k', minVersion: 'TLSv1.3', ...unverified }],
    ],
  ])('%j is tried as it means', (text, expected) => {
    expect(parseConnectionString(`host=h ${text}`).candidates.map(({ ssl }) => ssl)).toEqual(expected);
  });

  test('checks the certificate for the host, also when connecting to its address', () => {
    const [named, , numeric] = parseConnectionString(
      'host=db.example,/tmp,10.0.0.3 hostaddr=10.0.0.1,,10.0.0.4 sslmode=verify-full',
    ).candidates;
    expect(named).toMatchObject({ host: '10.0.0.1', ssl: { servername: 'db.example' } });
    expect(numeric).not.toHaveProperty('ssl.servername');
  });

  test('is tried host by host, and never on a socket', () => {
    const { candidates } = parseConnectionString('host=a,/tmp,b sslmode=prefer');
    expect(candidates.map(({ host, ssl }) => [host, ssl !== false])).toEqual([
      ['a', true],
      ['a', false],
      ['/tmp', false],
      ['b', true],
      ['b', false],
    ]);
  });

  test('goes with sslnegotiation=direct if it demands TLS', () => {
    expect(candidates('sslmode=require sslnegotiation=direct')).toMatchObject([{ sslnegotiation: 'direct' }]);
    expect(refusal('sslnegotiation=direct')?.message).toContain('sslmode=require or stricter');
    expect(refusal('sslmode=prefer sslnegotiation=direct')?.message).toContain('sslmode=require or stricter');
  });

  test.each([
    ['sslmode=maybe', 'one of these for sslmode: disable, allow'],
    ['sslmode=verify-ca', 'sslrootcert for sslmode=verify-ca'],
    ['sslmode=require sslrootcert=system', 'sslmode=verify-full for sslrootcert=system'],
    [`sslcert=${cert}`, 'both sslcert and sslkey'],
    ['sslmode=require ssl_max_protocol_version=SSLv3', 'one of these for ssl_max_protocol_version: TLSv1,'],
    ['sslrootcert=/no/such/file', "a file in sslrootcert that can't be read: /no/such/file"],
  ])('%j is refused', (text, message) => {
    expect(refusal(text)?.message).toContain(message);
  });

  test('leaves candidates that pg can use repeatedly', () => {
    const [config] = parseConnectionString(`sslmode=require sslcert=${cert} sslkey=${key}`).candidates;
    expect(() => [new pg.Client(config), new pg.Client(config)]).not.toThrow();
  });
});

describe('an error names the mistake', () => {
  test.each([
    ['', 'is empty'],
    [' \n', 'is empty'],
    ['hunter2', 'no keyword=value at character 1'],
    ['=hunter2', 'no keyword=value at character 1'],
    ['host=h hunter2', 'no keyword=value at character 7'],
    ['mysql://u:hunter2@h/d', 'a URL begins with postgres://'],
    ['mysql://u:hunter2@h/d?a=b', 'unknown keyword at character 1:'],
    [`password='hunter2`, 'a single quote at character 10 that is not closed'],
    [`password= 'hunter2\\'`, 'a single quote at character 11 that is not closed'],
    [`password='it''hunter2'`, 'no keyword=value at character 14'],
    ['password=my hunter2 host=h', 'no keyword=value at character 12'],
    ['password=my hunter2=x', 'unknown keyword at character 13: a password with spaces'],
    [`password='o'hunter2=x'`, 'unknown keyword at character 13:'],
    ['passwordhunter2=', 'unknown keyword at character 1:'],
    ['hots=h password=hunter2', 'unknown keyword at character 1:'],
    [`password='hunter2' hots=h`, 'unknown keyword at character 20:'],
    ['postgres://h?hots=hunter2', 'unknown keyword at character 14: remove the parameter'],
    ['postgres://h?&user=u&hots=hunter2', 'unknown keyword at character 22:'],
    ['postgres://u:12?hunter2=x@h/d', 'unknown keyword at character 17:'],
    ['service=hunter2', 'keyword service, which is not supported'],
    ['passfile=hunter2', 'keyword passfile, which is not supported'],
    ['channel_binding=require', 'channel_binding=require'],
    ['port=0', 'port that is not from 1 to 65535'],
    ['port=65536', 'port that is not from 1 to 65535'],
    ['port=hunter2', 'port that is not from 1 to 65535'],
    ['port=1e3', 'port that is not from 1 to 65535'],
    ['postgres://u:hunter2/x@h/d', '"@" after a "/"'],
    ['postgres://u:12/hunter2@h/d', '"@" after a "/"'],
    ['postgres://u:hunter2?x@h/d', 'percent-encode'],
    ['postgres://u:12?hunter2@h/d', 'a parameter without "="'],
    ['postgres://u:hunter2%zz@h/d', '"%" that begins no percent-encoded character'],
    ['postgres://u:hunter2%ff@h/d', '"%" that begins no percent-encoded character'],
    ['postgres://[::1/d', 'a host that is neither'],
    ['postgres://u:hunter2@[::1]x/d', 'a host that is neither'],
    ['postgres://u:hunter2%00@h/d', 'a NUL in password'],
    ['host=a,b port=1,2,3', 'one port, or as many as there are hosts'],
    ['host=a,b hostaddr=10.0.0.1', 'as many entries in hostaddr as in host'],
    ['connect_timeout=hunter2', 'whole number for connect_timeout'],
    ['keepalives_idle=1.5', 'whole number for keepalives_idle'],
    ['target_session_attrs=hunter2', 'one of these for target_session_attrs: any, read-write'],
  ])('%j', (text, message) => {
    const error = refusal(text);
    expect(error).toMatchObject({ code: 'ERR_CONNECTION_STRING', retryable: false });
    expect(error?.message).toContain(message);
    expect(everything(error)).not.toContain('hunter2');
  });
});

describe('a password is not shown', () => {
  test('by the error for any mistyped string', () => {
    const good = [
      'postgres://app:hunter2@db:5432,db2/shop?sslmode=disable&connect_timeout=2',
      "host=db port=5432 user=app password='hunter2' dbname=shop sslmode=disable",
      'host=db password=hunter2 port=5432',
    ];
    const typo = fc.tuple(fc.nat(90), fc.nat(2), fc.constantFrom(...` '"\\=:/?@%&,[]#x1`.split('')));
    fc.assert(
      fc.property(fc.constantFrom(...good), fc.array(typo, { minLength: 1, maxLength: 4 }), (text, typos) => {
        const bad = typos.reduce(
          (so, [at, skip, char]) => so.slice(0, at) + char + so.slice(at + skip),
          text,
        );
        expect(everything(refusal(bad))).not.toContain('hunter2');
      }),
      { numRuns: 3000 },
    );
  });

  test('by printing a candidate or a client that uses it', () => {
    const { candidates } = parseConnectionString('postgres://app:hunter2@h');
    expect(everything(candidates)).not.toContain('hunter2');
    expect(inspect(new pg.Client(candidates[0]), { depth: null })).not.toContain('hunter2');
  });

  test.each([
    ['postgres://u:hun%74er2@h', ['hunter2', 'hun%74er2']],
    ['postgres://h?password=hun%74er2', ['hunter2', 'hun%74er2']],
    [`password='hunter\\2'`, ['hunter2', 'hunter\\2']],
    ['password=a password=b sslpassword=c', ['a', 'b', 'c']],
    ['host=h', []],
  ])('and %j names its secrets for redaction', (text, secrets) => {
    vi.stubEnv('PGPASSWORD', undefined);
    expect(parseConnectionString(text).secrets).toEqual(secrets);
  });

  test('and PGPASSWORD is a secret too', () => {
    vi.stubEnv('PGPASSWORD', 'from the environment');
    expect(parseConnectionString('host=h').secrets).toEqual(['from the environment']);
  });
});

describe('the environment', () => {
  const [unverified, verified] = [{ rejectUnauthorized: false }, {}];

  test.each<[string, string, string]>([
    ['PGHOST', 'h1,h2', 'host'],
    ['PGHOSTADDR', '10.0.0.1', 'hostaddr'],
    ['PGPORT', '5433', 'port'],
    ['PGDATABASE', 'd', 'dbname'],
    ['PGUSER', 'u', 'user'],
    ['PGPASSWORD', 'p', 'password'],
    ['PGOPTIONS', '-cgeqo=off', 'options'],
    ['PGAPPNAME', 'a', 'application_name'],
    ['PGCONNECT_TIMEOUT', '7', 'connect_timeout'],
    ['PGTARGETSESSIONATTRS', 'read-write', 'target_session_attrs'],
    ['PGSSLMODE', 'disable', 'sslmode'],
    ['PGSSLMODE', 'allow', 'sslmode'],
    ['PGSSLMODE', 'prefer', 'sslmode'],
    ['PGSSLMODE', 'require', 'sslmode'],
    ['PGSSLMODE', 'verify-full', 'sslmode'],
    ['PGSSLROOTCERT', 'system', 'sslrootcert'],
    ['PGSSLMINPROTOCOLVERSION', 'TLSv1.3', 'ssl_min_protocol_version'],
    ['PGSSLMAXPROTOCOLVERSION', 'TLSv1.2', 'ssl_max_protocol_version'],
    ['PGCHANNELBINDING', 'prefer', 'channel_binding'],
    ['PGGSSENCMODE', 'disable', 'gssencmode'],
  ])('%s=%s means the same as the keyword %s', (variable, value, keyword) => {
    const written = JSON.stringify([
      parseConnectionString(`${keyword}=${value}`),
      candidates(`${keyword}=${value}`),
    ]);
    const unset = JSON.stringify([parseConnectionString('postgres://'), candidates('postgres://')]);
    vi.stubEnv(variable, value);
    expect(JSON.stringify([parseConnectionString('postgres://'), candidates('postgres://')])).toBe(written);
    const changes = !/^(PGCHANNELBINDING|PGGSSENCMODE|PGSSLM.*VERSION)$/.test(variable);
    expect(written === unset).toBe(!changes);
  });

  test.each([
    ['require', [unverified]],
    ['no-verify', [unverified]],
    ['prefer', [unverified, false]],
    ['verify-full', [verified]],
  ])('has one meaning for PGSSLMODE=%s and for sslmode', (mode, expected) => {
    vi.stubEnv('PGSSLMODE', mode);
    expect(parseConnectionString('host=h').candidates.map(({ ssl }) => ssl)).toEqual(expected);
    expect(parseConnectionString('host=h sslmode=disable').candidates.map(({ ssl }) => ssl)).toEqual([false]);
  });

  test('does not reach sockets with sslnegotiation=direct', () => {
    vi.stubEnv('PGSSLMODE', 'require').stubEnv('PGSSLNEGOTIATION', 'direct');
    const { candidates } = parseConnectionString('host=/tmp,h');
    expect(() => candidates.map((config) => new pg.Client(config))).not.toThrow();
    expect(candidates.map(({ sslnegotiation }) => sslnegotiation)).toEqual(['postgres', 'direct']);
  });

  test('gives way to the string, and counts for nothing where it is empty', () => {
    vi.stubEnv('PGUSER', 'u').stubEnv('PGHOST', '').stubEnv('PGDATABASE', 'd');
    expect(candidates("user=me dbname=''")).toEqual([{ user: 'me', database: 'd' }]);
  });

  test.each([
    'PGREQUIREAUTH',
    'PGREQUIREPEER',
    'PGSSLCRL',
    'PGSSLCRLDIR',
    'PGCHANNELBINDING',
    'PGGSSENCMODE',
  ])('is refused when %s asks for what is not supported', (variable) => {
    vi.stubEnv(variable, 'require');
    expect(refusal('host=h')?.message).toMatch(new RegExp(`environment variables add to it: ${variable}`));
  });

  test('is named when it is wrong, without its values', () => {
    vi.stubEnv('PGSSLMODE', 'hunter2');
    const { message } = refusal('host=h')!;
    expect(message).toMatch(/one of these for sslmode.*add to it: PGSSLMODE/);
    expect(message).not.toContain('hunter2');
  });
});
